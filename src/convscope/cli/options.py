"""Options records on the command line: one checked pydantic record instead of one parameter per option."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from inspect import Parameter, isclass, signature
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from convscope._records import Record, validate_options
from convscope.errors import UsageError

Command = Callable[..., None]
METAVARS = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}

AnyModel = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="A run folder, a model.onnx, or a JSON file that describes another model."),
]
Log = Annotated[
    str | None,
    typer.Option(metavar="WHERE", help="Log parameters and epochs, too: mlflow:URI or tensorboard:FOLDER."),
]


def expand_records(command: Command) -> Command:
    """Give a command one option per field of each of its record parameters; it is called with the checked records.

    The option of a field `batch_size` is `--batch-size`; its help is the field's `description`, its default the field's
    own. `ge` and `le` are checked while parsing, everything else by the record. `json_schema_extra` may hold
    `metavar`, `flag` (another name for the option), `argument` (true: positional) and `option` (false: the field cannot
    be set on the command line). A union such as `float | str` is read as text, for the record to parse.

    A record's `model_fields_set` names exactly the options that were given.

    Raises:
        UsageError: When the command is called with a value that its record rejects.
    """
    own = signature(command, eval_str=True).parameters
    records = {name: p.annotation for name, p in own.items() if _is_record(p.annotation)}
    has_context = any(p.annotation is typer.Context for p in own.values())

    def run(**values: Any) -> None:
        context = values["context"] if has_context else values.pop("context")
        for name, record in records.items():
            fields = {field: values.pop(field) for field in _option_fields(record)}
            given = {field: value for field, value in fields.items() if _was_given(context, field)}
            values[name] = validate_options(record, given, partial(_spell, record))
        command(**values)

    parameters = [] if has_context else [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, parameter in own.items():
        fields = _option_fields(records[name]) if name in records else {}
        parameters += [_parameter(*item) for item in fields.items()] or [parameter.replace(kind=Parameter.KEYWORD_ONLY)]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def check_stands_alone(context: typer.Context, allowed: Collection[str], source: str) -> None:
    """Raise UsageError if an option was given that a resumed command takes from a file.

    Args:
        context: Of the command.
        allowed: Names of the parameters that may be given with --resume.
        source: The file, for the message.
    """
    given = [
        str(parameter.name).upper() if parameter.param_type_name == "argument" else parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in allowed and _was_given(context, str(parameter.name))
    ]
    if given:
        raise UsageError(f"--resume takes everything from {source}: leave out {', '.join(given)}")


def _is_record(annotation: Any) -> bool:
    return isclass(annotation) and issubclass(annotation, Record)


def _option_fields(record: type[Record]) -> dict[str, FieldInfo]:
    return {name: field for name, field in record.model_fields.items() if _extra(field).get("option", True)}


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _flag(name: str, field: FieldInfo) -> str:
    return str(_extra(field).get("flag", f"--{name.replace('_', '-')}"))


def _spell(record: type[Record], name: str, value: Any) -> str:
    field = record.model_fields[name]
    spelled = str(_extra(field).get("metavar", name.upper())) if _extra(field).get("argument") else _flag(name, field)
    return f"{spelled} {value}"


def _parameter(name: str, field: FieldInfo) -> Parameter:
    """The parameter from which typer makes the option, or the argument, of a field."""
    kind = _plain_type(field.annotation)
    shown: dict[str, Any] = {"help": field.description, "metavar": _extra(field).get("metavar", METAVARS.get(kind))}
    if kind in (int, float):
        shown["min"] = next((limit.ge for limit in field.metadata if isinstance(limit, Ge)), None)
        shown["max"] = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    info = typer.Argument(**shown) if _extra(field).get("argument") else typer.Option(_flag(name, field), **shown)
    required = field.is_required()
    default = Parameter.empty if required else field.get_default(call_default_factory=True)
    annotation = kind if required or default is not None else kind | None
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info])


def _plain_type(annotation: Any) -> Any:
    """The type to parse as: that of `X | None`; text for other unions and for literals that are no text.

    >>> _plain_type(int | None), _plain_type(float | str), _plain_type(Literal[1, 3, 4] | None)
    (<class 'int'>, <class 'str'>, <class 'int'>)
    """
    if get_origin(annotation) is Annotated:  # what its validator reads
        return str
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _plain_type(members[0]) if len(members) == 1 else str
    if get_origin(annotation) is Literal:
        kinds = {type(value) for value in get_args(annotation)}
        return annotation if kinds == {str} else kinds.pop()
    return annotation
