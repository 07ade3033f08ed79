"""Tables of files and labels: CSV and JSON Lines.

    PATH.csv, PATH.tsv        the first line names the columns: file, label and, optionally, split
    PATH.jsonl                an object {"file": ..., "label": ...} per line, with "split" optionally

Paths are relative to the table's folder.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from convscope._files import open_regular
from convscope._text import list_some
from convscope.data.audit.issue import Issue, Level
from convscope.data.folders.finder import FileFinder
from convscope.data.folders.names import split_of
from convscope.data.formats.listing import Listing, Row, make_listing
from convscope.data.formats.records import MAX_SHOWN, Record, Table, broken_lines, read_csv, read_json_lines
from convscope.errors import DataError

CSV_SUFFIXES, JSON_SUFFIXES = (".csv", ".tsv"), (".jsonl", ".ndjson")
TABLE_SUFFIXES = CSV_SUFFIXES + JSON_SUFFIXES
COLUMNS = {  # accepted names, in lower case, with "_" for other separators
    "file": (
        "file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path", "imagepath",
        "image_name", "image_file", "img", "img_path", "image_id", "imageid", "img_id", "id",
    ),
    "label": (
        "label", "labels", "class", "category", "target", "class_name", "label_name", "diagnosis", "class_id",
        "classid",
    ),
    "split": (
        "split", "set", "subset", "part", "partition", "data_split", "dataset_split", "split_name", "image_set",
        "train_test", "phase", "usage",
    ),
}  # fmt: skip
MAX_TEXT = 1000  # characters of a label or a file name
MAX_SPLIT_NAMES = 20  # different values of a column of splits
FLAGS = {"0", "1", "true", "false", "yes", "no"}
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class _SplitColumn(NamedTuple):
    """The name of the column of splits, "" without one, and whether its cells hold nothing but split names."""

    name: str = ""
    strict: bool = True


def is_table(path: Path) -> bool:
    """Whether a path is a file named .csv, .tsv, .jsonl or .ndjson."""
    return path.is_file() and path.suffix.lower() in TABLE_SUFFIXES


def list_table(path: Path) -> Listing:
    """The files that a table names, sorted; a repeated row counts once.

    A file may be named without its suffix, and may lie in a folder next to the table.

    Raises:
        DataError: the table has no columns file and label, a file does not exist or has two labels.
    """
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as decoded:
            text = decoded.read()
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text: save the table as UTF-8") from error
    is_json = path.suffix.lower() in JSON_SUFFIXES
    table = read_json_lines(text) if is_json else read_csv(text)
    if not is_json:
        _check_header(table)
    splits, issues = _split_column(table)
    _check_repeated(table, splits.name)
    rows = _unique_rows(table, splits)
    found = FileFinder(path.parent).find_all(rows)
    if len(set(found.values())) < len(found):
        twice = next(path for path, count in Counter(found.values()).items() if count > 1)
        same = " and ".join(sorted(name for name in found if found[name] == twice))
        raise DataError(f"{same} are the same file: expected one row per file")
    named = {found[name]: row._replace(file=found[name]) for name, row in rows.items()}
    return make_listing(
        path.parent, [named[file] for file in sorted(named)], issues=[*issues, *broken_lines(table.records)]
    )


def _check_header(table: Table) -> None:
    """Raise DataError unless there are columns of files and of labels."""
    lacking = [wanted for wanted in ("file", "label") if not _known(table, wanted)]
    if len(lacking) == 2:
        shown = table.header[:MAX_SHOWN]
        raise DataError(f"no column names: the first line is {shown!r}, expected file{table.delimiter}label")
    if lacking:
        shown = list_some((name.strip() for name in table.header.split(table.delimiter)), 10)
        raise DataError(f"no column of {lacking[0]}s: found {shown}; expected one called {lacking[0]}")


def _check_repeated(table: Table, split: str) -> None:
    """Raise DataError if a column that is used is there twice."""
    for name in [*_known(table, "file")[:1], *_known(table, "label")[:1], split]:
        if name and table.columns.count(name) > 1:
            raise DataError(f"two columns are called {name}: rename the one that is not meant")


def _known(table: Table, wanted: str) -> list[str]:
    """The columns whose names stand for the file, the label or the split, the best first."""
    return [name for name in COLUMNS[wanted] if name in table.columns]


def _split_column(table: Table) -> tuple[_SplitColumn, list[Issue]]:
    """The column of the splits, and issues about columns that are, or may be, meant so."""
    others = set(table.columns) - {"", *_known(table, "file")[:1], *_known(table, "label")[:1]}
    values = {name: {record.cells.get(name, "") for record in table.records} - {""} for name in others}
    issues = []
    for name in _known(table, "split"):
        if values[name] and (name == "split" or any(map(split_of, values[name]))):
            return _SplitColumn(name, strict=not _are_splits(values[name])), []
        if values[name]:
            issues.append(_column_issue("note", f"column {name} holds {list_some(sorted(values[name]), 3)}, no splits"))
    found = [name for name in table.columns if name in others and _are_splits(values[name])]
    if (
        len({tuple(split_of(record.cells.get(name, ""), strict=False) for record in table.records) for name in found})
        > 1
    ):
        raise DataError(f"columns {list_some(found)} hold different splits: call the right one split")
    if found:
        splits = list_some(sorted({split_of(value, strict=False) for value in values[found[0]]}))
        return _SplitColumn(found[0], strict=False), [
            *issues,
            _column_issue("note", f"column {found[0]} holds {splits}", "used as the split"),
        ]
    for name in sorted(others):
        if split_of(name, strict=False) and len(values[name]) > 1 and {text.lower() for text in values[name]} <= FLAGS:
            issues.append(_column_issue("warning", f"column {name} may tell the split"))
    return _SplitColumn(), issues


def _column_issue(level: Level, text: str, action: str = "not used") -> Issue:
    advice = "write train, val or test into a column called split" if level == "warning" else ""
    return Issue(kind="split-column", level=level, text=text, action=action, advice=advice)


def _are_splits(values: set[str]) -> bool:
    """Whether all values name a split, and there are train and another one."""
    splits = {split_of(value, strict=False) for value in values} if len(values) <= MAX_SPLIT_NAMES else set()
    return "train" in splits and len(splits) > 1 and "" not in splits


def _unique_rows(table: Table, splits: _SplitColumn) -> dict[str, Row]:
    """The row of each file."""
    rows: dict[str, Row] = {}
    for record in table.records:
        line, row = record.line, _parse_row(record, splits)
        before = rows.setdefault(row.file, row)
        if before != row:
            now, then = (f"{some.label} {some.split}".rstrip() for some in (row, before))
            raise DataError(f"line {line}: {row.file} is {now}, but was {then} before: expected one label per file")
    if not rows:
        raise DataError("no rows: expected a file and a label on every line")
    return rows


def _parse_row(record: Record, splits: _SplitColumn) -> Row:
    line, cells = record.line, record.cells
    names = [next((name for name in COLUMNS[wanted] if name in cells), "") for wanted in ("file", "label")]
    file, label, split = (cells.get(name, "") for name in (*names, splits.name))
    if not file or not label:
        raise DataError(f"line {line}: no {'label' if file else 'file'}: expected both on every line")
    if {*names, splits.name} & set(record.suspect):
        raise DataError(f"line {line}: an open quote or a line break in the file, label or split: is a quote missing?")
    for what, text in (("file name", file), ("label", label)):
        if len(text) > MAX_TEXT:
            raise DataError(f"line {line}: a {what} of {len(text):,} characters, expected at most {MAX_TEXT}")
    if ADDRESS.match(file):
        raise DataError(f"line {line}: {file[:MAX_SHOWN]} is an address: download the files, and write their paths")
    meant = split_of(split, strict=splits.strict) if split else ""
    if split and not meant:
        raise DataError(
            f"line {line}: unknown split {split[:MAX_SHOWN]!r}: expected train, val or test in column {splits.name}"
        )
    return Row(file.replace("\\", "/"), label, meant)
