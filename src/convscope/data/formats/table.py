"""Tables of files and labels: CSV and JSON Lines.

    PATH.csv, PATH.tsv        the first line names the columns: file, label and, optionally, split
    PATH.jsonl                an object {"file": ..., "label": ...} per line, with "split" optionally

Paths are relative to the table's folder.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convscope._files import open_regular
from convscope.data.formats.listing import SPLIT_NAMES, Listing, Row, make_listing
from convscope.errors import DataError

CSV_SUFFIXES, JSON_SUFFIXES = (".csv", ".tsv"), (".jsonl", ".ndjson")
COLUMNS = {  # accepted names, in lower case
    "file": ("file", "filename", "file_name", "filepath", "path", "image", "image_path", "img"),
    "label": ("label", "class", "category", "target", "class_name"),
    "split": ("split", "set", "subset", "part"),
}


def is_table(path: Path) -> bool:
    """Whether a path is a file named .csv, .tsv, .jsonl or .ndjson."""
    return path.is_file() and path.suffix.lower() in CSV_SUFFIXES + JSON_SUFFIXES


def list_table(path: Path) -> Listing:
    """The files that a table names, sorted; a repeated row counts once.

    Raises DataError if the table has no columns file and label, a file does not exist or has two labels.
    """
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as decoded:
            text = decoded.read()
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text: save the table as UTF-8") from error
    records = _json_records(text) if path.suffix.lower() in JSON_SUFFIXES else _csv_records(text)
    rows = _unique_rows(records)
    missing = [file for file in rows if not (path.parent / file).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} files do not exist, the first is {path.parent / missing[0]}: paths are "
            "relative to the table's folder; correct them or remove their rows"
        )
    return make_listing(path.parent, [rows[file] for file in sorted(rows)])


def _unique_rows(records: Iterator[tuple[int, dict[str, Any]]]) -> dict[str, Row]:
    """The row of each file."""
    rows: dict[str, Row] = {}
    for line, record in records:
        row = _parse_row(line, record)
        before = rows.setdefault(row.file, row)
        if before != row:
            now, then = (f"{some.label} {some.split}".rstrip() for some in (row, before))
            raise DataError(f"line {line}: {row.file} is {now}, but was {then} before: expected one label per file")
    if not rows:
        raise DataError("no rows: expected a file and a label on every line")
    return rows


def _csv_records(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and the values of each line."""
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = names
        if not _has_columns(names):
            raise DataError(f"no column names: the first line is {first.strip()[:80]!r}, expected file{delimiter}label")
        yield from ((reader.line_num, record) for record in reader)
    except csv.Error as error:
        raise DataError(f"line {reader.line_num}: {error}; save the table as CSV again") from error


def _json_records(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and the values of each line."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number}: not JSON ({error.msg}); expected an object on every line") from error
        if not isinstance(record, dict) or not _has_columns(list(record)):
            raise DataError(f'line {number}: expected {{"file": ..., "label": ...}}, got {line[:80]}')
        yield number, record


def _has_columns(names: list[str]) -> bool:
    return all(set(COLUMNS[wanted]) & set(names) for wanted in ("file", "label"))


def _parse_row(line: int, record: dict[str, Any]) -> Row:
    file, label, split = (
        next((str(record[name]).strip() for name in COLUMNS[wanted] if record.get(name) is not None), "")
        for wanted in ("file", "label", "split")
    )
    if not file or not label:
        raise DataError(f"line {line}: no {'label' if file else 'file'}: expected both on every line")
    if split and split.lower() not in SPLIT_NAMES:
        raise DataError(f"line {line}: unknown split {split!r}: expected train, val or test")
    return Row(file.replace("\\", "/"), label, SPLIT_NAMES.get(split.lower(), ""))
