"""The base class of records: values that are validated once, at the border, and never change afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from convscope.errors import UsageError

MAX_WHERE = 100  # characters of a place in a file, which may be a name of any length


class Record(BaseModel):
    """A frozen pydantic model that rejects unknown fields, NaN and infinity. `model_dump_json` serializes it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


AnyRecord = TypeVar("AnyRecord", bound=Record)


def validate_options(
    record: type[AnyRecord],
    values: Mapping[str, Any],
    spell: Callable[[str, Any], str] = "{}={!r}".format,
) -> AnyRecord:
    """Build a record from values that a user typed.

    Args:
        record: The class to build.
        values: Field names and values; fields left out keep their defaults.
        spell: How the user wrote a field and its value, for the message: `epochs=0` in Python, `--epochs 0` in a shell.

    Raises:
        UsageError: The first value that the record rejects, with what was expected.

    >>> from pydantic import Field
    >>> class Example(Record):
    ...     epochs: int = Field(1, ge=1)
    >>> validate_options(Example, {"epochs": 3})
    Example(epochs=3)
    >>> validate_options(Example, {"epochs": 0})
    Traceback (most recent call last):
    convscope.errors.UsageError: epochs=0: expected a number of at least 1
    """
    try:
        return record.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:  # a validator of the whole record, whose message names the fields
            raise UsageError(_own_message(first)) from error
        name = str(first["loc"][0])
        raise UsageError(f"{spell(name, values.get(name))}: {_expectation(first)}") from error


_EXPECTATIONS = {  # pydantic's error types -> what was expected, filled in with the error's context
    "float_parsing": "expected a number",
    "greater_than": "expected a number greater than {gt:g}",
    "greater_than_equal": "expected a number of at least {ge:g}",
    "less_than": "expected a number less than {lt:g}",
    "less_than_equal": "expected a number of at most {le:g}",
    "finite_number": "expected a finite number",
    "literal_error": "expected {expected}",
    "extra_forbidden": "there is no option of this name",
}


def validation_reason(error: ValidationError, most: int = 1) -> str:
    """Where a record that was read from a file is wrong, and why: `format: input should be 1`; `most` such reasons."""
    reasons = []
    for one in error.errors(include_url=False, include_input=False)[:most]:
        where = ".".join(map(str, one["loc"]))[:MAX_WHERE]
        reasons.append(f"{where}: {_own_message(one)}" if where else _own_message(one))
    return "; ".join(reasons)


def parse_percent(value: object) -> object:
    """The fraction that a text such as "1%" or "97.5 %" stands for; anything else as it is.

    >>> parse_percent("97.5 %"), parse_percent("0.01"), parse_percent(0.01)
    (0.975, '0.01', 0.01)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    return float(found[1]) / 100 if found else value


PERCENT = BeforeValidator(parse_percent)


def _expectation(error: Mapping[str, Any]) -> str:
    template = _EXPECTATIONS.get(error["type"])
    return template.format(**error.get("ctx", {})) if template else _own_message(error)


def _own_message(error: Mapping[str, Any]) -> str:
    """The message without pydantic's prefix; a validator's own words stay as they are."""
    message = str(error["msg"])
    own = message.removeprefix("Value error, ")
    return own if own != message else message[:1].lower() + message[1:]
