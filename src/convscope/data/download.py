"""Downloading data sets into the cache, and single files: from mirrors, resumed after a cut, verified, whole."""

from __future__ import annotations

import hashlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from convscope._files import lock_folder, write_atomically
from convscope._reporting import Reporter
from convscope.data.archives import Package, read_package, unpack
from convscope.data.registry import NamedSet
from convscope.errors import ConvscopeError, DataError

TIMEOUT_S = 10.0  # for a connection, and for the next bytes
MAX_ATTEMPTS = 5  # per file and mirror, as long as each attempt brings some bytes
CHUNK_BYTES = 1 << 18


class MirrorError(Exception):
    """One mirror did not deliver one file; the next may."""


def fetch(wanted: NamedSet, folder: Path, reporter: Reporter | None = None) -> dict[str, bytes]:
    """The contents of all files of a named data set; those that `folder` lacks are downloaded into it.

    A download grows in `NAME.part`, which is kept after an interruption and resumed next time. Files get their names
    only when their SHA-256 is right. A second process waits for the first and then finds its files.

    Args:
        wanted: the data set.
        folder: its folder in the cache, created if necessary.
        reporter: receives the progress in bytes per package.

    Raises:
        DataError: no mirror delivers a file (the message names each), or `folder` cannot be written.
    """
    contents, missing = _read_cache(wanted, folder)
    if not missing:
        return contents
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(folder, wait=True):
            contents, missing = _read_cache(wanted, folder)
            return contents | _download(wanted.mirrors, missing, folder, reporter or Reporter())
    except OSError as error:
        raise _not_writable(folder, error) from error


def fetch_file(url: str, sha256: str, folder: Path, reporter: Reporter) -> bytes:
    """Download one file, and check its content. An interrupted download is resumed next time.

    Args:
        url: its address, which ends in its name.
        sha256: of the content; the first digits are enough.
        folder: where the file grows as `NAME.part`, which does not stay; created if necessary.
        reporter: receives the progress in bytes.

    Raises:
        DataError: it cannot be downloaded, has another content, or `folder` cannot be written.
    """
    part = folder / f"{url.rpartition('/')[2]}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(folder, wait=True):
            _transfer(url, part, reporter)
            content = part.read_bytes()
            part.unlink()
    except MirrorError as error:
        raise DataError(f"{url} cannot be downloaded ({error}): try again, or get it with another program") from error
    except OSError as error:
        raise _not_writable(folder, error) from error
    if not (digest := hashlib.sha256(content).hexdigest()).startswith(sha256):
        raise DataError(f"{url} is not the published file, its SHA-256 is {digest}: try again")
    return content


def _not_writable(folder: Path, error: OSError) -> DataError:
    why = error.strerror or error
    return DataError(f"cannot write to the cache {folder} ({why}): free some space or change its permissions")


def _read_cache(wanted: NamedSet, folder: Path) -> tuple[dict[str, bytes], list[Package]]:
    """The contents in the cache, and the packages that are missing or damaged."""
    contents: dict[str, bytes] = {}
    missing = []
    for package in wanted.packages:
        try:
            found = read_package(folder, package)
        except DataError:
            found = None
        contents |= found or {}
        missing += [] if found else [package]
    return contents, missing


def _download(mirrors: tuple[str, ...], missing: list[Package], folder: Path, reporter: Reporter) -> dict[str, bytes]:
    """The contents of the missing packages; a mirror that fails is not asked again."""
    contents: dict[str, bytes] = {}
    failures = []
    for mirror in mirrors:
        try:
            while missing:
                contents |= _get_package(mirror, missing[0], folder, reporter)
                missing.pop(0)
            return contents
        except MirrorError as error:
            failures.append(f"{mirror}{missing[0].name} ({error})")
    raise DataError(f"no mirror delivered it: {', '.join(failures)}")


def _get_package(mirror: str, package: Package, folder: Path, reporter: Reporter) -> dict[str, bytes]:
    """Download, verify and store one package."""
    part = folder / f"{package.name}.part"
    resumed = part.exists()
    _transfer(mirror + package.name, part, reporter)
    try:
        contents = unpack(part, package)
    except DataError as error:
        part.unlink()
        if resumed:  # the first part may be from a mirror that compresses differently
            return _get_package(mirror, package, folder, reporter)
        raise MirrorError("not the official content, by its SHA-256") from error
    for name, content in contents.items():
        _store(folder / name, content)
    part.unlink()
    return contents


def _transfer(url: str, part: Path, reporter: Reporter, attempts: int = MAX_ATTEMPTS) -> None:
    """Download the rest of `part`; a cut connection is resumed as long as bytes keep coming."""
    before = _size(part)
    try:
        _stream(url, part, reporter)
    except MirrorError:
        if attempts == 1 or _size(part) <= before:
            raise
        _transfer(url, part, reporter, attempts - 1)


def _stream(url: str, part: Path, reporter: Reporter) -> None:
    """Append the bytes that `part` lacks, over one connection."""
    done = _size(part)
    response = _open(url, done)
    if response is None:
        return
    with response:
        if response.status != 206:  # the server cannot resume: start again
            done = 0
        total = None if response.length is None else done + response.length
        with part.open("ab" if done else "wb") as file:
            while done != total and (chunk := _read(response)):  # at the total, some Pythons wait for a hang-up
                file.write(chunk)
                done += len(chunk)
                reporter.progress(part.stem, done, total)
    if total is not None and done < total:
        raise MirrorError(f"cut off after {done} of {total} bytes")


def _open(url: str, start: int) -> HTTPResponse | None:
    """The response from byte `start` on; None if there is nothing after it."""
    headers = {"User-Agent": "convscope"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
        return response
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return None
        raise MirrorError(f"HTTP {error.code}") from error
    except (OSError, HTTPException) as error:
        raise MirrorError(_reason(error)) from error


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)  # whatever has arrived, so that a stall loses nothing
    except (OSError, HTTPException) as error:
        raise MirrorError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """The reason in a few words: no answer, unknown host, connection refused."""
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _store(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except ConvscopeError as error:
        raise DataError(str(error)) from error
