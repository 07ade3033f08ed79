"""Answers as CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Protocol

from convscope._extras import require_package
from convscope.deploy.prediction import Answer, column_names, to_row
from convscope.errors import UsageError

ROW_GROUP = 10_000  # rows that are in memory at once


class TableWriter(Protocol):
    """Writes answers to a file."""

    def __init__(self, file: IO[bytes], top_k: int) -> None: ...

    def write(self, answer: Answer) -> None:
        """Write one row."""

    def close(self) -> None:
        """Write the rest; the file stays open."""


class CsvWriter:
    """A row of column names, then one row per image; UTF-8, values that are missing are empty."""

    def __init__(self, file: IO[bytes], top_k: int) -> None:
        self._text = TextIOWrapper(file, "utf-8", newline="")
        self._top_k = top_k
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._quoting = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._writer.writerow(column_names(top_k))

    def write(self, answer: Answer) -> None:
        """Write one row."""
        writer = self._quoting if "\r" in answer.image else self._writer  # which does not quote that
        writer.writerow(to_row(answer, self._top_k))

    def close(self) -> None:
        """Write the rest; the file stays open."""
        self._text.detach()


class JsonLinesWriter:
    """One `Answer` per line."""

    def __init__(self, file: IO[bytes], _: int) -> None:
        self._file = file

    def write(self, answer: Answer) -> None:
        """Write one line."""
        self._file.write(answer.model_dump_json().encode() + b"\n")

    def close(self) -> None:
        """Nothing is left to write."""


class ParquetWriter:
    """The columns of the CSV file, with types."""

    def __init__(self, file: IO[bytes], top_k: int) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter as Writer

        kinds = {"probability": pa.float64()}
        fields = [(name, kinds.get(name.partition("_")[0], pa.string())) for name in column_names(top_k)]
        self._pa, self._top_k, self._schema = pa, top_k, pa.schema(fields)
        self._writer, self._rows = Writer(file, self._schema), list[list[Any]]()

    def write(self, answer: Answer) -> None:
        """Write one row."""
        self._rows.append(to_row(answer, self._top_k))
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the rest; the file stays open."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [self._pa.array(list(column), kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()


WRITERS: dict[str, type[TableWriter]] = {".csv": CsvWriter, ".jsonl": JsonLinesWriter, ".parquet": ParquetWriter}


def writer_for(path: Path) -> type[TableWriter]:
    """The writer of a file, by its suffix.

    Raises:
        UsageError: There is none for this suffix.
        MissingExtraError: pyarrow is needed and not installed.
    """
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"--out {path}: expected a name that ends in {', '.join(WRITERS)}")
    if path.suffix.lower() == ".parquet":
        require_package("pyarrow", "writing Parquet")
    return WRITERS[path.suffix.lower()]
