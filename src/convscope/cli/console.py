"""What commands share: results on stdout, messages on stderr, and the run that an argument names."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope._files import kind_of
from convscope._text import escape_controls
from convscope.errors import ModelFileError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.table import Table

    from convscope.runs.folder import Run

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist and have another content.")]


def print_message(text: str) -> None:
    """Write a line for people to stderr; control characters, such as those of a file name, are escaped."""
    sys.stderr.write(f"{escape_controls(text)}\n")


def print_lines(text: str) -> None:
    """Write lines for people to stderr, each as `print_message` does."""
    for line in text.splitlines():
        print_message(line)


def print_result(as_json: bool, result: BaseModel | Mapping[str, Any], lines: Iterable[Any]) -> None:
    """Write the result to stdout: one JSON object, or lines and tables, in which control characters are escaped.

    Args:
        as_json: Write `result`; otherwise `lines`.
        result: A record, or a mapping that `json` can write.
        lines: Strings and rich tables.
    """
    if as_json:
        import json

        values = result if isinstance(result, Mapping) else result.model_dump(mode="json")
        sys.stdout.write(json.dumps(_without_nan(values), indent=2, allow_nan=False) + "\n")
        return
    for line in lines:
        if isinstance(line, str):
            sys.stdout.write(f"{escape_controls(line)}\n")  # a console would take 20 times as long
        else:
            stdout_console().print(line, markup=False)


def _without_nan(value: Any) -> Any:
    """The value with None for NaN and infinity, which JSON does not have.

    >>> _without_nan({"a": [1.5, float("nan")]})
    {'a': [1.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def stdout_console() -> Console:
    """The console on stdout; 200 columns wide if stdout is not a terminal, so that tables are not truncated."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=200)


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> Table:
    """A table without borders.

    Args:
        columns: The headings.
        rows: One text per column.
        numbers_from: The first of the right-aligned columns.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(escape_controls(column), justify="right" if i >= numbers_from else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape_controls, row))
    return table


def aligned(pairs: Mapping[str, str]) -> list[str]:
    """One line per pair, the values aligned in a column.

    >>> aligned({"a": "1", "long": "2"})
    ['a     1', 'long  2']
    """
    width = max(map(len, pairs))
    return [f"{term:<{width}}  {value}" for term, value in pairs.items()]


def short_number(number: float) -> str:
    """A number with three digits and a unit prefix.

    >>> short_number(542230), short_number(999_950), short_number(12), short_number(2.5e9)
    ('542 k', '1 M', '12', '2.5 G')
    """
    for limit, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= 0.9995 * limit:  # a number that rounds to 1000 gets the next prefix
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def opened_run(path: Path) -> Run:
    """The run in a folder; a message says if its training was interrupted."""
    from convscope.runs.folder import open_run

    run = open_run(path)
    if run.warning:
        print_message(run.warning)
    return run


def model_file(path: Path) -> Path:
    """The model file in a run folder, or the path itself if it is not a folder."""
    return opened_run(path).model_file if kind_of(path, ModelFileError) == "folder" else path
