"""Tables of files and labels: CSV and JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from convscope.data.archives import naming
from convscope.errors import DataError

COLUMNS = {
    "file": ("file", "filename", "file_name", "filepath", "path", "image", "image_path", "img"),
    "label": ("label", "class", "category", "target", "class_name"),
    "split": ("split", "set", "subset", "part"),
}
SPLITS = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Row(NamedTuple):
    """A file, the name of its class, and its split: "train", "validation", "test" or nothing."""

    file: str
    label: str
    part: str = ""


def read_table(path: Path) -> list[Row]:
    """The rows of a .csv, .tsv or .jsonl, sorted by file; a row that stands there twice counts once.

    Raises DataError for a table without the columns file and label, for files that are not there, and for a file with
    two labels.
    """
    with naming(str(path)):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError("not UTF-8 text: save the table as UTF-8") from error
        records = _json_lines(text) if path.suffix.lower() in (".jsonl", ".ndjson") else _csv_lines(text)
        rows: dict[str, Row] = {}
        for line, record in records:
            row = _row(line, record)
            before = rows.setdefault(row.file, row)
            if before != row:
                raise DataError(
                    f"line {line}: {row.file} is {row.label} {row.part}".rstrip()
                    + f", but was {before.label} {before.part}".rstrip()
                    + " before: expected one label per file"
                )
        if not rows:
            raise DataError("no rows: expected a file and a label on every line")
        missing = [file for file in rows if not (path.parent / file).is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(rows)} files are not there, the first is {path.parent / missing[0]}: paths "
                "start from the table's own folder; correct them or take their rows out"
            )
        return [rows[file] for file in sorted(rows)]


def _csv_lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
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


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number}: no JSON ({error.msg}); expected an object on every line") from error
        if not isinstance(record, dict) or not _has_columns(list(record)):
            raise DataError(f'line {number}: expected {{"file": ..., "label": ...}}, got {line[:80]}')
        yield number, record


def _has_columns(names: list[str]) -> bool:
    return all(set(COLUMNS[wanted]) & set(names) for wanted in ("file", "label"))


def _row(line: int, record: dict[str, Any]) -> Row:
    file, label, split = (
        next((str(record[name]).strip() for name in COLUMNS[wanted] if record.get(name) is not None), "")
        for wanted in ("file", "label", "split")
    )
    if not file or not label:
        raise DataError(f"line {line}: no {'label' if file else 'file'}: expected both on every line")
    if split.lower() not in SPLITS:
        raise DataError(f"line {line}: the split is {split!r}, expected train, val or test")
    return Row(file.replace("\\", "/"), label, SPLITS[split.lower()])
