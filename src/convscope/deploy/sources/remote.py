"""Images at addresses such as s3://bucket/photos/: listed one folder after the other, and read some at a time."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from convscope._storage import Entry, check_address, find_entry, find_matches, list_folder, read_files, read_start
from convscope._text import natural_order, pluralize, reason_of
from convscope.data.folders.tree import is_ignored, is_run
from convscope.deploy.sources.items import (
    ARCHIVE_SUFFIXES,
    HEAD_BYTES,
    EncodedImage,
    ParquetFile,
    PassedOver,
    RemoteImage,
    is_image,
    is_parquet_name,
)
from convscope.errors import ImageError
from convscope.images.files.source import MAX_FILE_BYTES

GROUP_IMAGES, GROUP_BYTES = 64, 2**26  # that are read at the same time; the group ends with the one that exceeds it

RemoteFound = RemoteImage | ParquetFile | ImageError
T = TypeVar("T")


def find_remote(address: str, passed_over: PassedOver) -> Iterator[RemoteFound]:
    """The images at an address: a file, a folder with all folders in it, or what a pattern matches.

    The order is that of a folder on a disk: natural, 2 before 10.

    Args:
        address: Of anything that fsspec reads.
        passed_over: Counts what is not an image.

    Raises:
        UsageError: The address contains credentials, or has a scheme that fsspec does not know.
        ConvscopeError: The storage cannot be reached.
    """
    check_address(address)
    try:
        entry = find_entry(address)
        if entry:
            yield from _expand(entry._replace(address=address.rstrip("/")), passed_over)
        elif glob.has_magic(address):
            found = find_matches(address)
            for match in sorted(found, key=lambda match: natural_order(match.address)):
                yield from _expand(match, passed_over, is_named=False)
            if not found:
                yield ImageError(address, f"{address}: no file matches; check the spelling and the folder")
        else:
            yield ImageError(address, f"{address}: no such file; check the spelling and the folder")
    except OSError as error:
        yield ImageError(address, f"{address}: cannot be read ({reason_of(error)}); check its permissions")


def _expand(entry: Entry, passed_over: PassedOver, is_named: bool = True) -> Iterator[RemoteFound]:
    """The images that an entry is or contains; a file that was named is one, whatever its name."""
    if entry.is_folder:
        yield from _images_in(entry.address, passed_over)
    elif found := _as_source(entry):
        yield found
    elif is_named:
        yield RemoteImage(entry.address, entry.size)
    else:
        passed_over.add(entry.name)


def _images_in(top: str, passed_over: PassedOver) -> Iterator[RemoteFound]:
    pending = [Entry(top, "", 0, True)]  # the next one last
    before, empty = passed_over.kinds.total(), True
    tables: list[ParquetFile] = []
    while pending:
        entry = pending.pop()
        if entry.is_folder:
            inside = [one for one in list_folder(entry.address) if not is_ignored(one.name)]
            if is_run({one.name for one in inside}):
                passed_over.runs.append(entry.address)
                continue
            pending += sorted(inside, key=lambda one: natural_order(one.name), reverse=True)
            continue
        found = _as_source(entry)
        if isinstance(found, ParquetFile):
            tables.append(found)
        elif found:
            empty = False
            yield found
        else:
            passed_over.add(entry.name)
    if empty and not tables:
        others = pluralize(passed_over.kinds.total() - before, "other file")
        yield ImageError(top, f"{top}: no images in this folder ({others}); name another one, or single files")
    for table in tables:
        if empty:
            yield table
        else:
            passed_over.add(table.path)


def _as_source(entry: Entry) -> RemoteFound | None:
    """What a file is, by its name or its first bytes; None if neither is that of an image."""
    if is_parquet_name(entry.name):
        return ParquetFile(entry.address)
    if entry.name.lower().endswith(ARCHIVE_SUFFIXES):
        message = f"{entry.address}: an archive at an address; download it, or upload the images in it"
        return ImageError(entry.address, message)
    if not is_image(entry.name, lambda: read_start(entry.address, HEAD_BYTES)):
        return None
    return RemoteImage(entry.address, entry.size)


def read_remote(found: Iterable[T | RemoteImage]) -> Iterator[T | EncodedImage | ImageError]:
    """Replace images at addresses by their contents. While the caller works on some, the next are read.

    Raises:
        ConvscopeError: The storage cannot be reached anymore.
    """
    with ThreadPoolExecutor(1, "convscope-storage") as thread:
        before: Future[list[EncodedImage | ImageError]] | None = None
        for group in _groups(found):
            reading = thread.submit(_read, group) if isinstance(group, _Group) else None
            if before:
                yield from before.result()
            before = reading
            if not isinstance(group, _Group):
                yield group
        if before:
            yield from before.result()


class _Group(list[RemoteImage]):
    """Images at addresses that are read together."""


def _groups(found: Iterable[T | RemoteImage]) -> Iterator[T | _Group]:
    """The images at addresses in groups, of those that follow one another; the others as they are."""
    group = _Group()
    for one in found:
        if isinstance(one, RemoteImage):
            group.append(one)
            if len(group) < GROUP_IMAGES and sum(image.size for image in group) <= GROUP_BYTES:
                continue
        if group:
            yield group
            group = _Group()
        if not isinstance(one, RemoteImage):
            yield one
    if group:
        yield group


def _read(group: Sequence[RemoteImage]) -> list[EncodedImage | ImageError]:
    small = [image for image in group if image.size <= MAX_FILE_BYTES]
    contents = dict(zip(small, read_files([image.address for image in small]) if small else [], strict=True))
    return [_loaded(image, contents.get(image)) for image in group]


def _loaded(image: RemoteImage, content: bytes | OSError | None) -> EncodedImage | ImageError:
    name = image.address
    if content is None:
        return ImageError(name, f"{name}: more than {MAX_FILE_BYTES / 1e9:.1f} GB, expected one image")
    if isinstance(content, OSError):
        return ImageError(name, f"{name}: cannot be read ({reason_of(content)}); check that it is still there")
    return EncodedImage(name, content)
