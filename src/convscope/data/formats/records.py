"""The records of a CSV file or of JSON Lines: cells by column name, with line numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from convscope._text import list_some, pluralize, reason_of
from convscope.data.audit.issue import Issue
from convscope.data.folders.tree import is_image_name
from convscope.errors import DataError

MAX_SHOWN = 80  # characters of a line in a message


class Record(NamedTuple):
    """A row of a table.

    Attributes:
        line: the number of its first line, from 1.
        cells: texts by column name; missing cells are left out.
        suspect: columns whose cells contain a line break, or a quote that is not closed.
    """

    line: int
    cells: dict[str, str]
    suspect: tuple[str, ...] = ()


class Table(NamedTuple):
    """The rows of a table.

    Attributes:
        columns: their names, in lower case, with "_" for other separators; a name that occurs twice is there twice.
        records: the rows that are not blank.
        header: the first line, as it is; empty if the file has none with names.
        delimiter: between cells.
    """

    columns: list[str]
    records: list[Record]
    header: str = ""
    delimiter: str = ","


class _Row(NamedTuple):
    line: int
    last_line: int
    cells: list[str]
    is_plain: bool = False  # read without regard to quotes


def read_csv(text: str) -> Table:
    """The records of CSV, with any usual delimiter.

    Quotes are read as RFC 4180 says. A quote that would swallow the lines below is an ordinary character if every line
    has the right number of cells without it.

    Raises:
        DataError: a quote is not closed, or a row has more cells than there are columns.
    """
    first, _, rest = text.partition("\n")
    skipped = 0
    if declared := re.fullmatch(r"sep=(.)\s*", first.strip("\ufeff\r"), re.IGNORECASE):  # as Excel writes it
        text, skipped = rest, 1
        first = text.partition("\n")[0]
    delimiter = declared[1] if declared else max(",;\t|", key=first.count)
    header, *rows = _rows(text, delimiter) or [_Row(1, 1, [])]
    columns = [column_name(name) for name in header.cells]
    records = []
    for row in rows:
        if any(cell.strip() for cell in row.cells[len(columns) :]):
            raise DataError(
                f"line {row.line + skipped}: {len(row.cells)} cells, but {pluralize(len(columns), 'column')}: "
                f"put quotes around values that contain {delimiter!r}"
            )
        if any(map(str.strip, row.cells)):
            cells = {name: cell.strip() for name, cell in zip(columns, row.cells, strict=False) if name}
            suspect = tuple(
                name for name, cell in cells.items() if "\n" in cell or (row.is_plain and cell.startswith('"'))
            )
            records.append(Record(row.line + skipped, cells, suspect))
    return Table(columns, records, first.strip(), delimiter)


def read_json_lines(text: str) -> Table:
    """The records of JSON Lines. Raises DataError if a line is not an object."""
    columns: dict[str, None] = {}
    repeated, records = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = _json_object(number, line)
        names = [column_name(name) for name in record]
        columns |= dict.fromkeys(names)
        repeated += [name for name in set(names) if names.count(name) > 1]
        values = zip(names, record.values(), strict=True)
        records.append(Record(number, {name: str(value).strip() for name, value in values if value is not None}))
    return Table([*columns, *repeated], records)


def broken_lines(records: list[Record]) -> Iterator[Issue]:
    """An issue about cells that contain line breaks, perhaps because a quote is missing."""
    if broken := [record for record in records if any("\n" in record.cells[name] for name in record.suspect)]:
        lines = list_some(record.line for record in broken)
        yield Issue(
            kind="line-break",
            level="warning",
            text=f"{pluralize(len(broken), 'row')} with line breaks inside quotes, from line {lines}",
            action="read as one row each",
            advice="check that each quote is closed: a missing one hides the rows up to the next quote",
        )


def column_name(name: str) -> str:
    """A column's name in lower case, with "_" for other separators."""
    return re.sub(r"[\s.-]+", "_", name.strip().lower())


def _json_object(number: int, line: str) -> dict[str, object]:
    try:
        record = json.loads(line, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        raise DataError(f"line {number}: not JSON ({error.msg}); expected an object on every line") from error
    except RecursionError as error:
        raise DataError(f"line {number}: nested too deeply; expected a file and a label on every line") from error
    if not isinstance(record, dict):
        raise DataError(f'line {number}: expected {{"file": ..., "label": ...}}, got {line[:MAX_SHOWN]}')
    return record


def _rows(text: str, delimiter: str) -> list[_Row]:
    """The cells of every row, with quotes read as in the whole text they must be meant."""
    try:
        rows = _parse(text, delimiter)
    except DataError:
        rows = []
    if rows and all(row.line == row.last_line for row in rows):
        return rows
    plain = [row for row in _parse(text, delimiter, quoting=csv.QUOTE_NONE) if any(map(str.strip, row.cells))]
    fits = bool(plain) and all(len(row.cells) == len(plain[0].cells) for row in plain)
    try:
        rows = _parse(text, delimiter, strict=True)
    except DataError:
        if not fits:
            raise
    else:
        if not (fits and _all_name_images(plain[1:])):
            return rows
    return [row._replace(cells=list(map(_unquote, row.cells)), is_plain=True) for row in plain]


def _all_name_images(rows: list[_Row]) -> bool:
    """Whether all rows have the name of an image in the same column."""
    columns = zip(*(row.cells for row in rows), strict=True)
    return any(all(is_image_name(_unquote(cell)) for cell in column) for column in columns)


def _parse(text: str, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL, strict: bool = False) -> list[_Row]:
    """The rows as Python's csv reads them. Raises DataError with the line on which the bad row begins."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, quoting=quoting, strict=strict)
    rows, line = [], 1
    try:
        for cells in reader:
            rows.append(_Row(line, reader.line_num, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"line {line}: {reason_of(error)}; is a quote missing? Write quotes inside a quoted cell twice"
        ) from error
    return rows


def _unquote(cell: str) -> str:
    """A cell without the quotes around it."""
    inner = cell.strip()
    return inner[1:-1].replace('""', '"') if len(inner) > 1 and inner[0] == inner[-1] == '"' else cell
