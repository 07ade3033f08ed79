"""Files at addresses such as s3://bucket/folder/1.png, through fsspec; transfers that fail are tried again.

Credentials come from the environment, as each storage's package finds them; none is accepted in an address, because
addresses are written into answers and messages.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from convscope._extras import needs_extra
from convscope._text import reason_of
from convscope.errors import ConvscopeError, UsageError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters or more: not a drive of Windows
SECRETS = re.compile(r"[^/]*@|.*[?&][^/]*(sig|signature|token|credential|key)=", re.IGNORECASE)  # after the scheme
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before a transfer is tried again; storages have retried it themselves before
VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "created")
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

T = TypeVar("T")


class Entry(NamedTuple):
    """What is at an address.

    Attributes:
        address: where it is.
        name: the last part of it.
        size: in bytes.
        is_folder: whether it stands for a folder.
        version: changes with its content; "" if the storage does not tell.
    """

    address: str
    name: str
    size: int
    is_folder: bool
    version: str = ""


def is_address(path: object) -> bool:
    """Whether a text is an address with a scheme.

    >>> is_address("s3://bucket/a.png"), is_address("photos/a.png"), is_address("C:/a.png")
    (True, False, False)
    """
    return isinstance(path, str) and SCHEME.match(path) is not None


def find_entry(address: str) -> Entry | None:
    """What is at an address; None if there is nothing."""
    system, path = _open(address)
    try:
        return _entry(system, _retried(address, lambda: system.info(path)))
    except FileNotFoundError:
        return None


def list_folder(address: str) -> list[Entry]:
    """What a folder contains, in no order.

    Raises:
        FileNotFoundError: there is none.
        ConvscopeError: it cannot be listed.
    """
    system, path = _open(address)
    found = _retried(address, lambda: system.ls(path, detail=True, refresh=True))
    entries = [_entry(system, about) for about in found]
    return [entry for entry in entries if entry.name and _plain(entry.address) != _plain(address)]  # itself: a marker


def find_matches(pattern: str) -> list[Entry]:
    """What a pattern such as s3://bucket/*/*.png matches."""
    system, path = _open(pattern)
    return [_entry(system, about) for about in _retried(pattern, lambda: system.glob(path, detail=True)).values()]


def read_files(addresses: Sequence[str]) -> list[bytes | OSError]:
    """The contents of files of one storage, which are read at the same time; for one that is not there, its error."""
    system, _ = _open(addresses[0])
    paths = [system._strip_protocol(address) for address in addresses]
    nothing = [None] * len(paths)

    def read() -> list[Any]:
        found: list[Any] = system.cat_ranges(paths, nothing, nothing, on_error="return")  # `cat` expands patterns
        for content in found:
            if isinstance(content, Exception) and not isinstance(content, FINAL):
                raise content
        return found

    return _retried(addresses[0], read)


def read_start(address: str, size: int) -> bytes:
    """The first bytes of a file."""
    system, path = _open(address)
    return bytes(_retried(address, lambda: system.cat_file(path, start=0, end=size)))


def open_file(address: str) -> Any:
    """A file to read from anywhere."""
    system, path = _open(address)
    return _retried(address, lambda: system.open(path, "rb"))


def download_file(address: str, target: Path) -> None:
    """Download a file of any size; it appears when it is complete."""
    system, path = _open(address)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    _retried(address, lambda: system.get_file(path, str(part)))
    part.replace(target)


def write_file(address: str, content: bytes) -> None:
    """Write a whole file. Storages of objects show it whole or not at all."""
    system, path = _open(address)

    def write() -> None:
        system.makedirs(system._parent(path), exist_ok=True)
        system.pipe_file(path, content)

    try:
        _retried(address, write)
    except FINAL as error:
        raise ConvscopeError(f"cannot write {address}: {reason_of(error)}; check your access to it") from error


def remove_file(address: str) -> None:
    """Remove a file if it exists."""
    system, path = _open(address)
    with suppress(FileNotFoundError):
        _retried(address, lambda: system.rm_file(path))


def check_address(address: str) -> None:
    """Raise UsageError if an address contains credentials; the message does not repeat them."""
    scheme, _, rest = address.partition("://")
    if SECRETS.match(rest):
        raise UsageError(
            f"an address {scheme}://... with credentials in it: leave them out, and set them as the storage's package "
            "reads them, such as AWS_ACCESS_KEY_ID"
        )


def _open(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    check_address(address)
    with needs_extra(f"reading {address.partition('://')[0]}:// addresses"):
        import fsspec
    try:
        system, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:  # fsspec names the package
        raise UsageError(f"{address}: {reason_of(error)}") from error
    except ValueError as error:
        raise UsageError(
            f"{address}: {reason_of(error)}; expected s3://..., gs://... or another of fsspec's"
        ) from error
    return system, path


def _entry(system: Any, about: dict[str, Any]) -> Entry:
    path = about["name"].rstrip("/")
    version = next((str(about[key]) for key in VERSIONS if about.get(key)), "")
    name, is_folder = path.rpartition("/")[2], about["type"] == "directory"
    return Entry(system.unstrip_protocol(path), name, about["size"] or 0, is_folder, version)


def _plain(address: str) -> str:
    return address.rstrip("/")


def _retried(address: str, transfer: Callable[[], T]) -> T:
    """The result of a transfer, tried again after errors that may pass: throttling, broken connections, ..."""
    for wait in (*WAITS_S, None):
        try:
            return transfer()
        except FINAL:
            raise
        except Exception as error:  # the packages of storages share no base class
            if wait is None or "credentials" in str(error).lower():
                raise ConvscopeError(
                    f"{address} cannot be reached ({reason_of(error)}); check your connection and access, and run the "
                    "same command again"
                ) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")
