"""Images in a column of a Parquet file, as Hugging Face's `datasets` writes them; each is named FILE/ROW, from 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from convscope._extras import needs_extra
from convscope._storage import is_address, open_file
from convscope._text import reason_of
from convscope.data.formats.parquet import image_column
from convscope.deploy.sources.items import EncodedImage, ParquetFile
from convscope.errors import DataError, ImageError

BATCH_ROWS = 64


def images_in_parquet(file: ParquetFile, is_wanted: Callable[[str], bool]) -> Iterator[EncodedImage | ImageError]:
    """The images in a Parquet file, or in some of its row groups.

    Args:
        file: Its path or address.
        is_wanted: Receives the name of each image, FILE/ROW.

    Yields:
        Images, and errors of rows without one; if the file is damaged, an error at the end.
    """
    with needs_extra("reading Parquet files"):
        import pyarrow
    try:
        with _opened(file.path) as opened:
            column = image_column(opened.schema_arrow)
            groups = _groups(opened, file)
            row = _rows(opened, range(groups.start))
            for batch in opened.iter_batches(BATCH_ROWS, row_groups=list(groups), columns=[column]):
                for value in batch.column(0):
                    name = f"{file.path}/{row}"
                    row += 1
                    if is_wanted(name):
                        yield _image(name, value.as_py())
    except (pyarrow.ArrowException, OSError) as error:  # OSError is also what damaged pages raise
        if is_wanted(file.path):
            yield ImageError(file.path, f"{file.path}: damaged ({reason_of(error)}): download it again")
    except DataError as error:
        if is_wanted(file.path):
            yield ImageError(file.path, f"{file.path}: {error}")


def split_groups(file: ParquetFile, min_rows: int) -> list[ParquetFile]:
    """A Parquet file in pieces: row groups, of which small ones stay together; the file itself if it cannot be read.

    Args:
        file: Its path or address.
        min_rows: In a piece, but for the last one.
    """
    with needs_extra("reading Parquet files"):
        import pyarrow
    try:
        with _opened(file.path) as opened:
            groups = _groups(opened, file)
            found, start = [], groups.start
            for i in groups:
                if i + 1 == groups.stop or _rows(opened, range(start, i + 1)) >= min_rows:
                    found.append(ParquetFile(file.path, start, i + 1))
                    start = i + 1
            return found or [file]
    except (pyarrow.ArrowException, OSError):
        return [file]


def count_rows(file: ParquetFile) -> int | None:
    """How many rows a Parquet file has; None if it cannot be read."""
    with needs_extra("reading Parquet files"):
        import pyarrow
    try:
        with _opened(file.path) as opened:
            return _rows(opened, _groups(opened, file))
    except (pyarrow.ArrowException, OSError):
        return None


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    from pyarrow import parquet

    if is_address(path):
        with open_file(path) as source, parquet.ParquetFile(source) as opened:
            yield opened
    else:
        with parquet.ParquetFile(path) as opened:
            yield opened


def _groups(opened: Any, file: ParquetFile) -> range:
    return range(opened.num_row_groups)[file.first_group : file.last_group]


def _rows(opened: Any, groups: range) -> int:
    return sum(int(opened.metadata.row_group(i).num_rows) for i in groups)


def _image(name: str, value: Any) -> EncodedImage | ImageError:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        return ImageError(name, f"{name}: a row without the bytes of an image; remove it, or add them")
    return EncodedImage(name, content)
