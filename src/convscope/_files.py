"""Files that are written whole or not at all, and folders that only one process works in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from io import BufferedReader, FileIO
from pathlib import Path
from typing import IO, Literal

from convscope.errors import ConvscopeError, DataError, UsageError

TEMPORARY_SUFFIX = ".tmp"  # of temporary files; their names start with a dot
LOCK_FILE = ".lock"


def kind_of(path: Path, refusal: type[ConvscopeError]) -> Literal["folder", "file", "other", "missing"]:
    """What is at a path.

    Args:
        path: Where to look; links are followed.
        refusal: Raised if that is impossible: a name is too long, or a folder above may not be entered.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise refusal(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file by way of a temporary one, so that a reader sees the old content or the new, never a part of it.

    Missing folders are created. The content is on the disk (fsync) before the file gets its name.

    Args:
        path: Where to write.
        data: The whole content; text is encoded as UTF-8.

    Raises:
        ConvscopeError: The disk is full, the folder cannot be written, or the path is a folder, a device, a named pipe
            or a socket. Nothing is left behind.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "new", "a.txt"), "pixels")
    ...     Path(folder, "new", "a.txt").read_text()
    'pixels'
    """
    with replace_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file to write, which becomes the file when the block ends without an exception.

    Missing folders are created. The content is on the disk (fsync) before the file gets its name.

    Args:
        path: The file to create or replace.

    Raises:
        ConvscopeError: See `write_atomically`. Nothing is left behind.
    """
    check_replaceable(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(TEMPORARY_SUFFIX, f".{path.name}.", path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise ConvscopeError(
            f"cannot write {path}: {error.strerror}; free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            _unlink_quietly(Path(temporary))


def write_results(contents: Mapping[Path, bytes], force: bool) -> None:
    """Write files where the user may have files of that name: all of them, or none.

    Args:
        contents: What to write to each path.
        force: Overwrite files that have another content.

    Raises:
        UsageError: A file has another content, and `force` is not set.
        ConvscopeError: A file cannot be written; see `write_atomically`.
    """
    for path, content in contents.items():
        check_replaceable(path)
        if not force and os.path.lexists(path) and not _has_content(path, content):
            raise UsageError(f"{path} exists and has another content: choose another place with --out, or add --force")
    for path, content in contents.items():
        write_atomically(path, content)


def check_replaceable(path: Path) -> None:
    """Raise ConvscopeError if a folder, a device, a named pipe or a socket is at the path."""
    with contextlib.suppress(OSError, ValueError):  # that nothing is there, or that it cannot be known: writing tells
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConvscopeError(f"cannot write {path}: it is {_kind_name(mode)}; choose another name")


def _has_content(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError, DataError), open_regular(path) as file:
        return file.read(len(content) + 1) == content
    return False


def remove(path: Path) -> None:
    """Remove a file if it exists. Raises ConvscopeError if that fails."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConvscopeError(f"cannot remove {path}: {error.strerror}; check the permissions of its folder") from error


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder and its subfolders."""
    for path in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
        remove(path)


@contextlib.contextmanager
def lock_folder(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes that lock the same folder out of it; the operating system frees it if this one is killed.

    The lock is the file `.lock` in the folder, which is created if necessary; the file goes when the lock is released.
    Nothing is locked if the folder cannot be written, or if its file system has no locks.

    Args:
        folder: The folder to lock.
        wait: Wait until the folder is free instead of raising.

    Raises:
        UsageError: Another process, or another call in this one, has locked the folder.
    """
    with _locked(folder / LOCK_FILE, folder, wait):
        yield


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Keep other processes that lock the same file out of it, as `lock_folder` does; the lock is a file next to it.

    Raises:
        UsageError: Another process, or another call in this one, has locked the file.
    """
    with _locked(path.with_name(f"{path.name}{LOCK_FILE}"), path, wait=False):
        yield


@contextlib.contextmanager
def _locked(lock_path: Path, name: Path, wait: bool) -> Iterator[None]:
    from filelock import FileLock, Timeout  # here, because it takes a while to import

    lock = FileLock(lock_path, timeout=-1 if wait else 0, fallback_to_soft=False)
    with contextlib.suppress(OSError):  # the first file written to the folder reports the reason
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise UsageError(f"{name} is in use by another process: wait until it ends, or stop it") from error
    try:
        yield
    finally:
        if lock.is_locked:
            _unlink_quietly(lock_path)  # while it is locked: a process that waits notices and tries again
            lock.release()
            if os.name == "nt":  # which keeps open files
                _unlink_quietly(lock_path)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading; nothing that could block or never end.

    A file whose size is 0 is taken to be empty: the size of those in /proc is 0, and reading some of them blocks.

    Raises:
        DataError: it is a folder, a named pipe, a device or a socket; the message does not name it.
        OSError: it does not exist or cannot be opened.
    """
    check_regular(os.stat(path).st_mode)  # noqa: PTH116 faster; before it is opened, which acts on some devices
    # O_NONBLOCK: do not wait for the writer of a pipe that has taken the file's place
    file = FileIO(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)))
    try:
        about = os.fstat(file.fileno())
        check_regular(about.st_mode)
    except BaseException:
        file.close()
        raise
    if about.st_size:
        return BufferedReader(file)
    file.close()
    return Path(os.devnull).open("rb")


def check_regular(mode: int) -> None:
    """Raise DataError unless this `st_mode` is that of a regular file; the message says what it is instead."""
    if not stat.S_ISREG(mode):
        raise DataError(f"{_kind_name(mode)}, expected a regular file: name one, or copy the content into one")


def _kind_name(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def sha256(path: Path) -> str:
    """SHA-256 of a file's content as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unlink_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync_file(path: Path) -> None:
    """Put a file on the disk (fsync)."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable; Windows cannot open a folder for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
