"""Downloading a named data set into the cache: several mirrors, resumed where it was cut, checked, written whole."""

from __future__ import annotations

from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from convscope._files import lock_folder, write_atomically
from convscope._reporting import Reporter
from convscope.data.archives import Package, read_package, unpack
from convscope.data.registry import NamedSet
from convscope.errors import ConvscopeError, DataError

TIMEOUT = 10.0  # seconds to wait for a connection, and for the next bytes
TRIES = 5  # times a mirror may cut the connection of one file, if each time some bytes came
CHUNK = 1 << 18


class MirrorError(Exception):
    """One mirror did not give one file; the next may."""


def fetch(wanted: NamedSet, folder: Path, reporter: Reporter | None = None) -> dict[str, bytes]:
    """The contents of all files of a set by name, from `folder`, or downloaded into it as far as they are not there.

    A download grows in `NAME.part`, which stays where it was interrupted and is resumed next time. Files get their
    names only when their SHA-256 is right. A second process waits for the first and then finds its files.

    Raises DataError where no mirror has it, naming each, or where `folder` cannot be written.
    """
    contents, missing = _cached(wanted, folder)
    if not missing:
        return contents
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(folder, wait=True):
            contents, missing = _cached(wanted, folder)
            return contents | _from_mirrors(wanted.mirrors, missing, folder, reporter or Reporter())
    except OSError as error:
        raise DataError(
            f"cannot write to the cache {folder} ({error.strerror or error}): make room or allow it"
        ) from error


def _cached(wanted: NamedSet, folder: Path) -> tuple[dict[str, bytes], list[Package]]:
    """What the cache has, and what it lacks; a damaged file is lacking."""
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


def _from_mirrors(
    mirrors: tuple[str, ...], missing: list[Package], folder: Path, reporter: Reporter
) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    failures = []
    for mirror in mirrors:
        try:
            while missing:
                contents |= _get(mirror, missing[0], folder, reporter)
                missing.pop(0)
            return contents
        except MirrorError as error:
            failures.append(f"{mirror}{missing[0].name} ({error})")
    raise DataError(f"no mirror gave it: {', '.join(failures)}")


def _get(mirror: str, package: Package, folder: Path, reporter: Reporter) -> dict[str, bytes]:
    """Download, check and store one package."""
    part = folder / f"{package.name}.part"
    resumed = part.exists()
    _transfer(mirror + package.name, part, reporter)
    try:
        contents = unpack(part, package)
    except DataError as error:
        part.unlink()
        if resumed:  # the first half may have come from a mirror that packs differently
            return _get(mirror, package, folder, reporter)
        raise MirrorError("not the official content, by its SHA-256") from error
    for name, content in contents.items():
        _store(folder / name, content)
    part.unlink()
    return contents


def _transfer(url: str, part: Path, reporter: Reporter, tries: int = TRIES) -> None:
    """Bring `part` to its full length; a cut connection is taken up again as long as bytes keep coming."""
    before = _size(part)
    try:
        _stream(url, part, reporter)
    except MirrorError:
        if tries == 1 or _size(part) <= before:
            raise
        _transfer(url, part, reporter, tries - 1)


def _stream(url: str, part: Path, reporter: Reporter) -> None:
    done = _size(part)
    response = _open(url, done)
    if response is None:
        return
    with response:
        if response.status != 206:  # the server does not resume: from the start
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
    """The answer from byte `start` on; None where there is nothing after it."""
    headers = {"User-Agent": "convscope"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
        return response
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return None
        raise MirrorError(f"HTTP {error.code}") from error
    except (OSError, HTTPException) as error:
        raise MirrorError(_why(error)) from error


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)  # what is there, so that a stall loses nothing
    except (OSError, HTTPException) as error:
        raise MirrorError(_why(error)) from error


def _why(error: BaseException) -> str:
    """The reason in a few words: no answer, name not known, connection refused."""
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _store(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except ConvscopeError as error:
        raise DataError(str(error)) from error
