"""Images before they are read, and what is passed over on the way to them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias

from convscope._files import open_regular
from convscope._text import escape_bytes, list_some, pluralize
from convscope.data.folders.tree import is_image_name, may_be_image
from convscope.errors import DataError, ImageError
from convscope.images.files.signatures import find_reader
from convscope.images.files.source import source_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

HEAD_BYTES = 16  # that identify a format
PARQUET_SUFFIX = ".parquet"
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


class EncodedImage(NamedTuple):
    """An image file in memory, such as a member of an archive; its name is that of the archive and its own."""

    name: str
    content: bytes


class Archive(NamedTuple):
    """A .zip or .tar file whose members are images."""

    path: str


class RemoteImage(NamedTuple):
    """An image file at an address such as s3://bucket/1.png, and its size in bytes."""

    address: str
    size: int


class ParquetFile(NamedTuple):
    """A Parquet file with a column of images.

    Attributes:
        path: its path or address.
        first_group: of its row groups, the first that is read.
        last_group: the first one after it that is not read; None to read all.
    """

    path: str
    first_group: int = 0
    last_group: int | None = None


ImageSource: TypeAlias = "str | Path | bytes | IO[bytes] | Image | NDArray[np.uint8] | EncodedImage"
Found: TypeAlias = "ImageSource | Archive | RemoteImage | ParquetFile | ImageError"


@dataclass
class PassedOver:
    """What was found but is not classified.

    Attributes:
        kinds: number of files by suffix, such as ".txt".
        runs: folders with results of a training.
        repeated: number of images that were named more than once.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    repeated: int = 0

    def add(self, name: str) -> None:
        """Count a file that is not an image."""
        self.kinds[os.path.splitext(name)[1].lower() or "without a suffix"] += 1  # noqa: PTH122  many names

    @property
    def messages(self) -> list[str]:
        """One line each for people; empty if nothing was passed over."""
        found = []
        if self.kinds:
            kinds = list_some(f"{count:,} {kind}" for kind, count in self.kinds.most_common())
            found.append(f"passed over {pluralize(self.kinds.total(), 'file')} other than images: {kinds}")
        if self.runs:
            count = pluralize(len(self.runs), "folder")
            found.append(f"passed over {count} with results of a training: {list_some(self.runs)}")
        if self.repeated:
            found.append(f"{pluralize(self.repeated, 'image')} named more than once: classified once")
        return found


def plain_name(name: str) -> str:
    """A path as it is compared: without ./ and doubled slashes.

    >>> plain_name("./a//b.png"), plain_name("a/../b.png")
    ('a/b.png', 'a/../b.png')
    """
    name = escape_bytes(name)
    return str(PurePath(name)) if name.startswith("./") or "//" in name or "/./" in name else name


def name_of(source: ImageSource | RemoteImage | ImageError) -> str:
    """How messages and answers name an image."""
    if isinstance(source, RemoteImage):
        return source.address
    if isinstance(source, EncodedImage):
        return source.name
    if isinstance(source, ImageError):
        return source.image
    return source_name(source) if isinstance(source, str | Path) else "image"


def is_image(name: str, head: Callable[[], bytes]) -> bool:
    """Whether a file is an image: by its name, or by its first 16 bytes if the name does not tell."""
    return is_image_name(name) or (may_be_image(os.path.basename(name)) and find_reader(head()) is not None)  # noqa: PTH119


def is_archive(path: str) -> bool:
    """Whether a path is named like an archive, and is a file."""
    return path.lower().endswith(ARCHIVE_SUFFIXES) and os.path.isfile(path)  # noqa: PTH113


def is_parquet_name(path: str) -> bool:
    """Whether a path is named like a Parquet file."""
    return path.lower().endswith(PARQUET_SUFFIX)


def read_head(path: str) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(HEAD_BYTES)
    except (OSError, DataError):
        return b""
