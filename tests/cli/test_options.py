"""Options records: every field becomes an option, and the command receives one checked record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field, field_validator
from typer.testing import CliRunner

from convscope._records import Record, validate_options
from convscope.cli.options import expand_records
from convscope.errors import UsageError


class ExampleOptions(Record):
    """One field of every kind."""

    source: str | None = Field(default=None, description="Where from.", json_schema_extra={"argument": True})
    batch_size: int | None = Field(default=None, ge=1, le=512, description="Images per step.")
    learning_rate: float = Field(default=0.1, gt=0)
    sides: Literal[1, 3] | None = None
    mode: Literal["fast", "best"] = "fast"
    crop: bool = Field(default=False, json_schema_extra={"flag": "--crop"})
    budget: float | str | None = Field(default=None, json_schema_extra={"metavar": "TIME"})
    pool: tuple[str, int] | None = None
    tags: list[str] | None = None
    out: Path = Path()
    callbacks: tuple[Any, ...] = Field(default=(), json_schema_extra={"option": False})

    @field_validator("budget")
    @classmethod
    def _seconds(cls, budget: float | str | None) -> float | None:
        if isinstance(budget, str):
            if not budget.endswith("s"):
                raise ValueError(f"expected seconds such as 60s, got {budget!r}")
            return float(budget[:-1])
        return budget


Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """Run a command with these words; returns its record, or raises what it raises."""
    records: list[ExampleOptions] = []
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @expand_records
    def example(options: ExampleOptions, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """An example."""
        assert as_json is False
        records.append(options)

    def call(*words: str) -> Any:
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        return records.pop() if records else result.output

    return call


def test_expand_records_without_options_gives_defaults_and_nothing_set(run: Run) -> None:
    options = run()
    assert options == ExampleOptions()
    assert options.model_fields_set == set()


def test_expand_records_every_kind_of_field_is_parsed(run: Run) -> None:
    words = (
        "flowers --batch-size 8 --learning-rate 0.5 --sides 3 --mode best --crop --budget 60s --pool max 2 --out a/b"
    )
    options = run(*words.split(), "--tags", "x", "--tags", "y")
    assert options == ExampleOptions(
        source="flowers", batch_size=8, learning_rate=0.5, sides=3, mode="best", crop=True, budget=60, pool=("max", 2),
        tags=["x", "y"], out=Path("a/b"),
    )  # fmt: skip
    assert options.model_fields_set == set(ExampleOptions.model_fields) - {"callbacks"}


def test_expand_records_help_comes_from_the_fields(run: Run) -> None:
    lines = " ".join(run("--help").split())
    assert "--batch-size N Images per step. [1<=x<=512]" in lines
    assert "--budget TIME" in lines
    assert "[source] Where from." in lines.replace("[SOURCE]", "[source]") or "Where from." in lines
    assert "--crop " in lines
    assert "--no-crop" not in lines
    assert "--callbacks" not in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--learning-rate 0", "^--learning-rate 0.0: expected a number greater than 0$"),
        ("--learning-rate nan", "^--learning-rate nan: expected a number greater than 0$|finite number"),
        ("--sides 2", "^--sides 2: expected 1 or 3$"),
        ("--budget soon", "^--budget soon: expected seconds such as 60s, got 'soon'$"),
    ],
)
def test_expand_records_rejected_value_names_the_option(run: Run, words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(*words.split())


@pytest.mark.parametrize("words", ["--batch-size 0", "--batch-size 513", "--batch-size few", "--mode slow"])
def test_expand_records_limits_are_checked_while_parsing(run: Run, words: str) -> None:
    assert f"Invalid value for '{words.split()[0]}'" in run(*words.split())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "^batch_size=0: expected a number of at least 1$"),
        ({"batch_size": 1000}, "^batch_size=1000: expected a number of at most 512$"),
        ({"batch_size": "x"}, "^batch_size='x': input should be a valid integer"),
        ({"sides": 2}, "^sides=2: expected 1 or 3$"),
        ({"batchsize": 2}, "^batchsize=2: there is no option of this name$"),
    ],
)
def test_validate_options_wrong_value_names_field_and_expectation(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validate_options(ExampleOptions, values)
