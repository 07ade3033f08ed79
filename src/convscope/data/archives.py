"""Reading files that may be compressed, damaged, or not the ones they claim to be."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from convscope._files import open_regular
from convscope._text import reason_of
from convscope.data.validation import error_prefix
from convscope.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
STEP_BYTES = 2**18  # read at a time


@dataclass(frozen=True)
class File:
    """A file of a named data set; size in bytes and SHA-256 are those of the uncompressed content."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """A file on a mirror: the .gz of one file, or a .tar.gz of several."""

    name: str
    files: tuple[File, ...]


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """The content of a file, decompressed if it starts with gzip's two magic bytes, whatever its name.

    Args:
        path: the file.
        limit: the most bytes of content to read; -1 for all.

    Raises:
        DataError: the gzip is truncated or damaged, or the path is not a regular file.
    """
    try:
        with open_regular(path) as raw:
            start = raw.read(len(GZIP_MAGIC))
            raw.seek(0)
            if start == GZIP_MAGIC:
                return _read_at_most(gzip.GzipFile(fileobj=raw), limit)
            return _read_at_most(raw, limit)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the gzip is truncated or damaged ({reason_of(error)}): download the file again") from error


def _read_at_most(file: IO[bytes] | gzip.GzipFile, limit: int) -> bytes:
    """The content, up to `limit` bytes; memory is only taken for what there is, however large the limit."""
    if limit < 0:
        return file.read()
    parts = []
    while limit > 0 and (part := file.read(min(limit, STEP_BYTES))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def find_file(folder: Path, name: str) -> Path | None:
    """Find a file, plain or gzipped, also if it is spelled images.idx3 instead of images-idx3.

    Args:
        folder: where to look.
        name: the name without .gz.

    Returns:
        Its path; None if it does not exist.
    """
    spellings = (spelling + suffix for spelling in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz"))
    return next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)


def read_package(folder: Path, package: Package) -> dict[str, bytes] | None:
    """Read and verify a package, packed or unpacked.

    Args:
        folder: where its files are.
        package: what to read.

    Returns:
        The uncompressed content of each file by name; None if the package is not in the folder.

    Raises:
        DataError: a file is damaged.
    """
    paths = [path for file in package.files if (path := find_file(folder, file.name))]
    if len(paths) == len(package.files):
        return {file.name: read_verified(path, file) for path, file in zip(paths, package.files, strict=True)}
    return unpack(folder / package.name, package) if (folder / package.name).is_file() else None


def unpack(path: Path, package: Package) -> dict[str, bytes]:
    """Read and verify a downloaded package: a tar of several files, or one file.

    Nothing is extracted to disk and only the expected names are read, so that names in a tar cannot do harm.

    Args:
        path: the downloaded file.
        package: what it should contain.

    Returns:
        The uncompressed content of each file by name.

    Raises:
        DataError: a file is missing, damaged or not the expected one.
    """
    if ".tar" not in package.name:
        return {package.files[0].name: read_verified(path, package.files[0])}
    with error_prefix(str(path)):
        try:
            return _unpack_tar(path, {file.name: file for file in package.files})
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"the archive is truncated or damaged ({reason_of(error)}): download it again") from error


def _unpack_tar(path: Path, wanted: dict[str, File]) -> dict[str, bytes]:
    contents = {}
    with tarfile.open(path) as tar:
        for member in tar:  # in one pass: seeking back in a .tar.gz decompresses it from the start
            file = wanted.get(member.name.removeprefix("./"))
            if file and member.isfile() and (stream := tar.extractfile(member)):
                contents[file.name] = _verify(stream.read(file.size + 1), file)
    if missing := sorted(set(wanted) - set(contents)):
        raise DataError(f"the archive lacks {', '.join(missing)}: download it again")
    return contents


def read_verified(path: Path, file: File) -> bytes:
    """The uncompressed content of a file, plain or gzipped. Raises DataError if it is damaged."""
    with error_prefix(str(path)):
        return _verify(read_bytes(path, file.size + 1), file)


def _verify(content: bytes, file: File) -> bytes:
    """The content. Raises DataError unless it has the file's SHA-256."""
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(
            f"the content differs from the official {file.name} (SHA-256 of the uncompressed file): "
            "it is damaged or another file; delete it or download it again"
        )
    return content
