"""Images in .zip and .tar archives, read one after the other without unpacking."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import IO

from convscope._text import pluralize, reason_of
from convscope.data.folders.archive import DAMAGE
from convscope.data.folders.tree import is_ignored
from convscope.deploy.sources.items import HEAD_BYTES, EncodedImage, PassedOver, is_image
from convscope.errors import ImageError
from convscope.images.files.source import MAX_FILE_BYTES

UNREADABLE = (*DAMAGE, OSError, RuntimeError)  # RuntimeError: encrypted, or a compression without its module


class _Member:
    """A file in an archive, of which the beginning may be read before the rest."""

    def __init__(self, name: str, open_stream: Callable[[], IO[bytes] | None]) -> None:
        self.name = name
        self._open, self._head = open_stream, b""
        self._stream: IO[bytes] | None = None

    def head(self) -> bytes:
        self._head = self._head or self._read(HEAD_BYTES)
        return self._head

    def content(self) -> bytes:
        return self._head + self._read(MAX_FILE_BYTES + 1)

    def _read(self, size: int) -> bytes:
        self._stream = self._stream or self._open()
        return self._stream.read(size) if self._stream else b""


def images_in_archive(
    path: str, passed_over: PassedOver, is_wanted: Callable[[str], bool]
) -> Iterator[EncodedImage | ImageError]:
    """The images in an archive, in its order.

    Args:
        path: A .zip, a .tar or a compressed .tar.
        passed_over: Counts members that are not images.
        is_wanted: Receives the name of each image, ARCHIVE/MEMBER, before it is read.

    Yields:
        Images, and errors of those that cannot be read; if the archive itself is damaged, an error at the end.
    """
    before, count = passed_over.kinds.total(), 0
    try:
        for member in _members(path):
            if any(is_ignored(part) for part in member.name.split("/") if part != ".."):  # nothing is unpacked
                continue
            if not is_image(member.name, member.head):
                passed_over.add(member.name)
                continue
            count += 1
            if is_wanted(f"{path}/{member.name}"):
                yield _read(f"{path}/{member.name}", member)
    except UNREADABLE as error:
        if is_wanted(path):
            reason = f"the archive is damaged or truncated ({reason_of(error)})"
            yield ImageError(path, f"{path}: {reason} after {pluralize(count, 'image')}; download it again")
        return
    if not count and is_wanted(path):
        others = pluralize(passed_over.kinds.total() - before, "other file")
        yield ImageError(path, f"{path}: no images in this archive ({others}); name another one")


def count_members(path: str) -> int | None:
    """About how many images a .zip has, by its directory; None for a .tar, which has none, and for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(is_image(name, bytes) for name in archive.namelist())
    except UNREADABLE:
        return None


def _members(path: str) -> Iterator[_Member]:
    """The regular files in an archive; links are left out."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield _Member(_plain(info.filename), lambda info=info: archive.open(info))  # type: ignore[misc]
        return
    with tarfile.open(path, "r|*") as tar:
        for entry in tar:
            if entry.isreg():
                yield _Member(_plain(entry.name), lambda entry=entry: tar.extractfile(entry))  # type: ignore[misc]


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _read(image: str, member: _Member) -> EncodedImage | ImageError:
    try:
        content = member.content()
    except UNREADABLE as error:
        return ImageError(image, f"{image}: cannot be read ({reason_of(error)}); unpack the archive yourself")
    if len(content) > MAX_FILE_BYTES:
        return ImageError(image, f"{image}: more than {MAX_FILE_BYTES / 1e9:.1f} GB, expected one image")
    return EncodedImage(image, content)
