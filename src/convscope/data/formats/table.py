"""Tables of files and labels: CSV and JSON Lines.

    PATH.csv, PATH.tsv        the first line names the columns: file, label and, optionally, split
    PATH.jsonl                an object {"file": ..., "label": ...} per line, with "split" optionally

Paths are relative to the table's folder.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convscope._files import open_regular
from convscope._text import reason_of
from convscope.data.folders.finder import FileFinder
from convscope.data.folders.names import split_of
from convscope.data.formats.listing import Listing, Row, make_listing
from convscope.errors import DataError

CSV_SUFFIXES, JSON_SUFFIXES = (".csv", ".tsv"), (".jsonl", ".ndjson")
TABLE_SUFFIXES = CSV_SUFFIXES + JSON_SUFFIXES
COLUMNS = {  # accepted names, in lower case, with "_" for other separators
    "file": (
        "file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path", "imagepath",
        "image_name", "image_file", "img", "img_path", "image_id", "imageid", "img_id", "id",
    ),
    "label": ("label", "labels", "class", "category", "target", "class_name", "label_name", "diagnosis"),
    "split": ("split", "set", "subset", "part"),
}  # fmt: skip
MAX_TEXT = 1000  # characters of a label or a file name
MAX_SHOWN = 80  # characters of a line in a message


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
    records = _json_records(text) if path.suffix.lower() in JSON_SUFFIXES else _csv_records(text)
    rows = _unique_rows(records)
    found = FileFinder(path.parent).find_all(rows)
    if len(set(found.values())) < len(found):
        twice = next(path for path, count in Counter(found.values()).items() if count > 1)
        same = " and ".join(sorted(name for name in found if found[name] == twice))
        raise DataError(f"{same} are the same file: expected one row per file")
    named = {found[name]: row._replace(file=found[name]) for name, row in rows.items()}
    return make_listing(path.parent, [named[file] for file in sorted(named)])


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
    first, _, rest = text.partition("\n")
    skipped = 0
    if declared := re.fullmatch(r"sep=(.)\s*", first.strip("\ufeff\r"), re.IGNORECASE):  # as Excel writes it
        text, skipped = rest, 1
        first = text.partition("\n")[0]
    delimiter = declared[1] if declared else max(",;\t|", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        names = [_column_name(name) for name in reader.fieldnames or []]
        reader.fieldnames = names
        if not _has_columns(names):
            shown = first.strip()[:MAX_SHOWN]
            raise DataError(f"no column names: the first line is {shown!r}, expected file{delimiter}label")
        for record in reader:
            if any(value for key, value in record.items() if key is not None and (value or "").strip()):
                yield reader.line_num + skipped, record
    except csv.Error as error:
        raise DataError(f"line {reader.line_num + skipped}: {reason_of(error)}; save the table as CSV again") from error


def _column_name(name: str) -> str:
    """A column's name as in COLUMNS."""
    return re.sub(r"[\s.-]+", "_", name.strip().lower())


def _json_records(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and the values of each line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_int=str, parse_float=str)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number}: not JSON ({error.msg}); expected an object on every line") from error
        except RecursionError as error:
            raise DataError(f"line {number}: nested too deeply; expected a file and a label on every line") from error
        if not isinstance(record, dict) or not _has_columns([_column_name(name) for name in record]):
            raise DataError(f'line {number}: expected {{"file": ..., "label": ...}}, got {line[:MAX_SHOWN]}')
        yield number, {_column_name(name): value for name, value in record.items()}


def _has_columns(names: list[str]) -> bool:
    return all(set(COLUMNS[wanted]) & set(names) for wanted in ("file", "label"))


def _parse_row(line: int, record: dict[str, Any]) -> Row:
    file, label, split = (
        next((str(record[name]).strip() for name in COLUMNS[wanted] if record.get(name) is not None), "")
        for wanted in ("file", "label", "split")
    )
    if not file or not label:
        raise DataError(f"line {line}: no {'label' if file else 'file'}: expected both on every line")
    for what, text in (("file name", file), ("label", label)):
        if len(text) > MAX_TEXT:
            raise DataError(f"line {line}: a {what} of {len(text):,} characters, expected at most {MAX_TEXT}")
    if split and not split_of(split):
        raise DataError(f"line {line}: unknown split {split[:MAX_SHOWN]!r}: expected train, val or test")
    return Row(file.replace("\\", "/"), label, split_of(split))
