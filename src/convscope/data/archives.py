"""LoadOptions files that may be compressed, damaged or not what they claim to be."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convscope.errors import DataError


@dataclass(frozen=True)
class File:
    """A file of a named data set; size in bytes and SHA-256 are those of its uncompressed content."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """What a mirror holds under one name: a .gz of one file, or a .tar.gz of several."""

    name: str
    files: tuple[File, ...]


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put `what` (a file, an array) before the message of a DataError raised inside; an OSError becomes one."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
    except OSError as error:
        raise DataError(f"{what}: cannot be read ({error.strerror or error})") from error


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """The content of a file, uncompressed where it starts with gzip's two bytes, whatever its name says.

    limit: read at most so many bytes of content. Raises DataError for a truncated or damaged gzip.
    """
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] == b"\x1f\x8b":
                return gzip.GzipFile(fileobj=raw).read(limit)
            return raw.read(limit)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the gzip is truncated or damaged ({error}): expected a whole file, get it again") from error


def find(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, plain or with .gz, also where it is spelled images.idx3 and not images-idx3."""
    spellings = (spelling + end for spelling in (name, name.replace("-idx", ".idx")) for end in ("", ".gz"))
    return next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)


def read_package(folder: Path, package: Package) -> dict[str, bytes] | None:
    """The checked contents of a package that lies in `folder`, unpacked or not; None where it is not there.

    Raises DataError for a file that is there but damaged.
    """
    paths = [path for file in package.files if (path := find(folder, file.name))]
    if len(paths) == len(package.files):
        return {file.name: _checked_file(path, file) for path, file in zip(paths, package.files, strict=True)}
    return unpack(folder / package.name, package) if (folder / package.name).is_file() else None


def unpack(path: Path, package: Package) -> dict[str, bytes]:
    """The contents of a package as it came from a mirror, checked: a tar of several files, or one file.

    Nothing is extracted to disk and only the expected names are read, so no name in a tar can do harm.
    Raises DataError where a file is missing, damaged or not the one expected.
    """
    if ".tar" not in package.name:
        return {package.files[0].name: _checked_file(path, package.files[0])}
    with naming(str(path)):
        try:
            return _unpack_tar(path, {file.name: file for file in package.files})
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"the archive is truncated or damaged ({error}): get it again") from error


def _unpack_tar(path: Path, wanted: dict[str, File]) -> dict[str, bytes]:
    contents = {}
    with tarfile.open(path) as tar:
        for member in tar:  # one pass: going back in a .tar.gz starts it again
            file = wanted.get(member.name.removeprefix("./"))
            if file and member.isfile() and (opened := tar.extractfile(member)):
                contents[file.name] = _check(opened.read(file.size + 1), file)
    if lacking := sorted(set(wanted) - set(contents)):
        raise DataError(f"the archive lacks {', '.join(lacking)}: get it again")
    return contents


def _checked_file(path: Path, file: File) -> bytes:
    with naming(str(path)):
        return _check(read_bytes(path, file.size + 1), file)


def _check(content: bytes, file: File) -> bytes:
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(
            f"the content differs from the official {file.name} (SHA-256 of the uncompressed file): "
            "it is damaged or another file, delete it or get it again"
        )
    return content
