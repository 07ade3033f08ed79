"""Parquet files with a column of encoded images and one of labels, as Hugging Face's `datasets` writes them.

A folder may hold several files, whose names or folders tell their splits: data/train-00000-of-00002.parquet. Images
are bytes, or structs with a field `bytes`; labels are text or numbers, whose names may be in the files' metadata.
Otherwise a column tells the splits, as in a table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from convscope._extras import needs_extra
from convscope._reporting import Reporter
from convscope._text import list_some, pluralize, reason_of
from convscope.data.folders.archive import PROGRESS_FILES, UNPACKING
from convscope.data.folders.names import split_of
from convscope.data.folders.tree import is_ignored, is_image_name
from convscope.data.formats.records import column_name
from convscope.data.formats.table import COLUMNS
from convscope.errors import DataError

SUFFIX = ".parquet"
IMAGE_COLUMNS = ("image", "img", "images", "pixel_values", "jpg", "png", "photo", "bytes")
LABEL_COLUMNS = (*COLUMNS["label"], "fine_label", "coarse_label", "cls", "y")
BATCH_ROWS = 256
MAX_DEPTH = 3  # of folders in which Parquet files are looked for


class _Row(NamedTuple):
    """An image's bytes, its label, None if it has none, and the texts of other columns."""

    image: bytes
    label: str | None
    others: dict[str, str]


def find_parquet(path: Path) -> list[Path]:
    """The Parquet files that a path is, or that it holds if it is a folder without images."""
    if not path.is_dir():
        return [path] if path.suffix.lower() == SUFFIX and path.is_file() else []
    return sorted(_scan(path, MAX_DEPTH) or [])


def _scan(folder: Path, depth: int) -> list[Path] | None:
    """The Parquet files in a folder; None if it holds images."""
    with os.scandir(folder) as entries:
        found, folders = [], []
        for entry in entries:
            if is_image_name(entry.name):
                return None
            if entry.is_dir() and not is_ignored(entry.name):
                folders.append(folder / entry.name)
            elif entry.name.lower().endswith(SUFFIX) and entry.is_file():
                found.append(folder / entry.name)
    for inside in folders if depth else ():
        files = _scan(inside, depth - 1)
        if files is None:
            return None
        found += files
    return found


def export_parquet(path: Path, files: Sequence[Path], target: Path, reporter: Reporter) -> list[str]:
    """Write the images of Parquet files into a new folder, with a table of their labels and splits: table.jsonl.

    Args:
        path: what the user named: a file or a folder.
        files: the Parquet files.
        target: the folder.
        reporter: receives the progress.

    Returns:
        Messages about rows that were left out.

    Raises:
        DataError: a file is damaged, or has no column of images or of labels.
        MissingExtraError: pyarrow is not installed.
    """
    target.mkdir()
    rows: list[tuple[Path, dict[str, str]]] = []
    unlabeled = 0
    for number, file in enumerate(files):
        for index, row in enumerate(_rows(file)):
            if row.label is None:
                unlabeled += 1
                continue
            name = f"{number}/{index:07d}"
            (target / str(number)).mkdir(exist_ok=True)
            (target / name).write_bytes(row.image)
            rows.append((file, row.others | {"file": name, "label": row.label}))
            if len(rows) % PROGRESS_FILES == 0:
                reporter.progress(UNPACKING, len(rows), None)
    splits = _splits(path, [file for file, _ in rows])
    table = (json.dumps(cells | ({"split": splits[file]} if splits else {})) for file, cells in rows)
    (target / "table.jsonl").write_text("\n".join(table), encoding="utf-8")
    return [f"{pluralize(unlabeled, 'row')} without a label; not used"] if unlabeled else []


def _splits(path: Path, files: Iterable[Path]) -> dict[Path, str]:
    """The splits of files that hold labeled rows; empty if they have none, or nothing but train."""
    splits = {file: _split_of(path, file) for file in dict.fromkeys(files)}
    return splits if len(set(splits.values())) > 1 or set(splits.values()) == {"test"} else {}


def _split_of(path: Path, file: Path) -> str:
    """The split that the name of a file, or of a folder between `path` and it, stands for."""
    inside = file.relative_to(path).with_suffix("").parts if path.is_dir() else (file.stem,)
    return next((split for part in reversed(inside) if (split := split_of(part, strict=False))), "")


def _rows(file: Path) -> Iterator[_Row]:
    """The rows of a file."""
    with needs_extra("reading Parquet files"):
        import pyarrow
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            image, label = _columns(schema)
            others = [name for name in _text_columns(schema) if name not in (image, label)]
            names = _label_names(schema, label)
            for batch in opened.iter_batches(BATCH_ROWS, columns=[image, label, *others]):
                for cells in batch.to_pylist():
                    texts = {name: str(cells[name]) for name in others if cells[name] is not None}
                    yield _Row(_image_bytes(cells[image]), _label(cells[label], names), texts)
    except (pyarrow.ArrowException, OSError) as error:  # OSError is also what damaged pages raise
        raise DataError(f"{file}: damaged ({reason_of(error)}): download it again") from error
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _columns(schema: Any) -> tuple[str, str]:
    """The names of the columns of images and of labels."""
    image = image_column(schema)
    lower = {name.lower(): name for name in schema.names if not _holds_bytes(schema.field(name).type)}
    label = next((lower[name] for name in LABEL_COLUMNS if name in lower), "")
    if not label:
        raise DataError(f"no column of labels: found {list_some(schema.names, 10)}; expected image and label")
    return image, label


def image_column(schema: Any) -> str:
    """The name of the column of images. Raises DataError if there is none."""
    images: list[str] = [name for name in schema.names if _holds_bytes(schema.field(name).type)]
    if not images:
        raise DataError(f"no column of images: found {list_some(schema.names, 10)}; expected image and label")
    lower = {name.lower(): name for name in images}
    return next((lower[name] for name in IMAGE_COLUMNS if name in lower), images[0])


def _text_columns(schema: Any) -> list[str]:
    """The names of columns that may tell the split: of text, and flags such as is_train."""
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))

    return [
        name
        for name in schema.names
        if column_name(name) not in ("file", "label")
        and (is_text(schema.field(name).type) or split_of(name, strict=False))
        and not types.is_nested(schema.field(name).type)
    ]


def _holds_bytes(kind: Any) -> bool:
    """Whether a column's type is binary, or a struct with binary `bytes`."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _label_names(schema: Any, label: str) -> list[str] | None:
    """The names of numbered labels in Hugging Face's metadata; None without."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _image_bytes(value: Any) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise DataError("a row without the bytes of an image: expected the encoded image itself, not only its path")
    return content


def _label(value: Any, names: list[str] | None) -> str | None:
    """The class name of a label; None for null, and for -1 and the like, which stand for unknown."""
    if value is None or (isinstance(value, int) and value < 0):
        return None
    if names is None or not isinstance(value, int):
        return str(value)
    if value >= len(names):
        raise DataError(f"a label {value}, but names of {len(names)} classes: expected 0..{len(names) - 1}")
    return names[value]
