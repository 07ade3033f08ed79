"""A data set at an address such as s3://bucket/photos/ is downloaded into the cache, and read from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from convscope._files import lock_folder, remove, write_atomically
from convscope._reporting import Reporter
from convscope._storage import Entry, download_file, find_entry, list_folder, read_files
from convscope._text import reason_of
from convscope.data.folders.tree import is_ignored
from convscope.errors import DataError

GROUP_FILES, LARGE_BYTES = 64, 2**22  # that are read at the same time; of larger files each is downloaded alone
INDEX = "index.json"  # the version of each file, as it was downloaded


class _File(NamedTuple):
    """A file at an address, and where it goes."""

    entry: Entry
    name: str  # below the address
    path: Path


def fetch(address: str, cache: Path, reporter: Reporter) -> Path:
    """Download what is at an address, as far as the cache does not have it already; its path in the cache.

    Args:
        address: A file or a folder.
        cache: The user's cache.
        reporter: Receives the progress, in bytes.

    Raises:
        DataError: There is nothing, or it cannot be read.
        ConvscopeError: The storage cannot be reached; what was downloaded is kept.
    """
    address = address.rstrip("/")
    folder = cache / "remote" / hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        top = find_entry(address)
        if top is None:
            raise DataError(f"no such file or folder: {address}; check the spelling and your access")
        path = folder / top.name
        files = [_File(entry, name, path / name if name else path) for entry, name in _walk(top)]
        with lock_folder(folder, wait=True):
            _update(files, folder, address, reporter)
    except OSError as error:
        raise DataError(f"{address} cannot be read ({reason_of(error)}); check your access to it") from error
    return path


def _walk(top: Entry) -> Iterator[tuple[Entry, str]]:
    """All files, and their names below the top."""
    pending = [(top, "")]
    while pending:
        entry, name = pending.pop()
        if not entry.is_folder:
            yield entry, name
            continue
        inside = [one for one in list_folder(entry.address) if not is_ignored(one.name)]
        pending += [(one, f"{name}/{one.name}".lstrip("/")) for one in inside]


def _update(files: Sequence[_File], folder: Path, address: str, reporter: Reporter) -> None:
    """Remove what is no longer there, and download what is new or has changed."""
    index: dict[str, str] = {}
    with suppress(OSError, ValueError):
        index = json.loads((folder / INDEX).read_text("utf-8"))
    wanted = {file.name: file.entry.version for file in files}
    for name in index.keys() - wanted.keys():
        remove(folder / address.rpartition("/")[2] / name)
    index = {name: version for name, version in index.items() if wanted.get(name) == version}
    missing = [file for file in files if file.name not in index or not file.path.is_file()]
    total, done = sum(file.entry.size for file in missing), 0
    try:
        for group in _groups(missing):
            _download(group)
            index |= {file.name: file.entry.version for file in group}
            done += sum(file.entry.size for file in group)
            reporter.progress(address, done, total)
    finally:
        write_atomically(folder / INDEX, json.dumps(index))


def _groups(files: Sequence[_File]) -> Iterator[list[_File]]:
    """Small files some at a time, large ones alone."""
    small = [file for file in files if file.entry.size <= LARGE_BYTES]
    yield from (small[at : at + GROUP_FILES] for at in range(0, len(small), GROUP_FILES))
    yield from ([file] for file in files if file.entry.size > LARGE_BYTES)


def _download(group: Sequence[_File]) -> None:
    if group[0].entry.size > LARGE_BYTES:
        download_file(group[0].entry.address, group[0].path)
        return
    for file, content in zip(group, read_files([file.entry.address for file in group]), strict=True):
        if isinstance(content, OSError):
            raise content
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(content)
