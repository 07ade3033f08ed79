"""Unpacking .zip and .tar archives that may be damaged or hostile."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from convscope._reporting import Reporter
from convscope._text import list_some, pluralize, reason_of
from convscope.data.folders.links import Link, copy_file, hard_link, is_drive, resolve_links, symbolic_link
from convscope.data.folders.tree import is_ignored
from convscope.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_RATIO, FREE_BYTES = 100, 2**30  # more than 1 GiB must not be more than 100 times the archive
LINK_BYTES = 512  # that a link counts as, besides the size of its file
MAX_TARGET = 4096  # bytes of the path that a link stands for
MAX_DEPTH = 2  # of archives in archives
UNPACKING, PROGRESS_FILES = "unpacking", 500  # the task of a reporter's progress, and how often it is told
DAMAGE = (  # all that zipfile and tarfile raise; ValueError and TypeError come from headers that break off
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError,
    TypeError, OverflowError,
)  # fmt: skip


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int
    content: IO[bytes]


def is_archive(path: Path) -> bool:
    """Whether a path is named like a .zip, a .tar or a compressed .tar."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The name of a path without the suffix of an archive or of another file.

    >>> stem(Path("photos.tar.gz")), stem(Path("train.parquet"))
    ('photos', 'train')
    """
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(suffix)] or "unnamed"


def extract(path: Path, target: Path, reporter: Reporter, depth: int = 1) -> list[str]:
    """Unpack the files of an archive into a new folder, and archives among them into folders of their own.

    Links become copies of what they stand for.

    Args:
        path: the archive.
        target: the folder.
        reporter: receives the progress, in files.
        depth: 1 for an archive, 2 for one inside another.

    Returns:
        Messages about what was left out.

    Raises:
        DataError: the archive is damaged, encrypted, contains names that lead out of the folder, or would become more
            than 100 times as large.
        OSError: the folder cannot be written.
    """
    limit = min(max(FREE_BYTES, MAX_RATIO * path.stat().st_size), shutil.disk_usage(target.parent).free)
    target.mkdir()
    links: list[Link] = []
    try:
        for done, member in enumerate(_members(path), 1):
            if isinstance(member, Link):
                links.append(member)
                continue
            _check_room(path, member.size, limit)
            limit -= _write(member, _safe_path(path, target, member.name), limit)
            if done % PROGRESS_FILES == 0:
                reporter.progress(UNPACKING, done, None)
    except DAMAGE as error:
        raise DataError(
            f"{path}: the archive is damaged or truncated ({reason_of(error)}): download it again"
        ) from error
    messages = _create_links(path, target, links, limit)
    for inner in sorted(file for file in target.rglob("*") if file.is_file() and is_archive(file)):
        if depth < MAX_DEPTH and not (inner.parent / stem(inner)).exists():
            messages += extract(inner, inner.parent / stem(inner), reporter, depth + 1)
            inner.unlink()
    return messages


def _create_links(path: Path, target: Path, links: list[Link], limit: int) -> list[str]:
    """Create the files that links stand for, and return a message if some stand for nothing in the archive."""

    def create(name: str, source: Path) -> None:
        nonlocal limit
        size = source.stat().st_size + LINK_BYTES
        _check_room(path, size, limit)
        limit -= size
        copy_file(source, _safe_path(path, target, name))

    broken = [link.name for link in resolve_links(links, target, create)]
    return (
        [f"{pluralize(len(broken), 'link')} to nothing in the archive: {list_some(broken)}; not used"] if broken else []
    )


def _check_room(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise DataError(f"{path}: more than {MAX_RATIO} times its size or the free space when it is unpacked")


def _members(path: Path) -> Iterator[Member | Link]:
    """The regular files and the links of an archive, without those that are never part of a data set."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.is_dir() or _is_ignored(info.filename):
                    continue
                if info.flag_bits & 1:
                    raise DataError(f"{path}: {info.filename} is encrypted: unpack the archive yourself")
                with archive.open(info) as content:
                    if stat.S_ISLNK(info.external_attr >> 16):
                        yield symbolic_link(info.filename, os.fsdecode(content.read(MAX_TARGET)))
                    else:
                        yield Member(info.filename, info.file_size, content)
        return
    with tarfile.open(path, "r|*") as tar:
        for entry in tar:
            if _is_ignored(entry.name):
                continue
            if entry.issym():
                yield symbolic_link(entry.name, entry.linkname)
            elif entry.islnk():
                yield hard_link(entry.name, entry.linkname)
            elif entry.isreg() and (stream := tar.extractfile(entry)):
                yield Member(entry.name, entry.size, stream)


def _is_ignored(name: str) -> bool:
    return any(is_ignored(part) for part in name.split("/") if part not in (".", ".."))


def _safe_path(path: Path, target: Path, name: str) -> Path:
    """Where a member is written. Raises DataError if that is not inside the target, or was written before."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/") or is_drive(parts[0]) or "\0" in name:
        raise DataError(f"{path}: it contains {name!r}, which leads out of the archive's folder: not unpacked")
    inside = target.joinpath(*parts)
    if inside.exists():
        raise DataError(f"{path}: it contains {name!r} twice: unpack it yourself")
    try:
        inside.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(
            f"{path}: it contains {name!r}, and a file in place of its folder: unpack it yourself"
        ) from error
    return inside


def _write(member: Member, file: Path, limit: int) -> int:
    """Write a member, but no more than `limit` bytes; return their number."""
    with file.open("xb") as written:
        total = 0
        while block := member.content.read(min(2**20, limit - total + 1)):
            total += len(block)
            if total > limit:
                raise DataError(f"{member.name} is larger than the archive says: not unpacked")
            written.write(block)
    return total
