"""Files are written whole or not at all: temporary file, fsync, rename."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from convscope.errors import ConvscopeError, UsageError

TEMPORARY = ".tmp"  # how the names of temporary files end, behind a point at their beginning


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path` so that a reader sees the old file or the new one, never a part.

    The folder is made when it is missing. Raises ConvscopeError, with nothing left behind, when the
    disk is full or the folder cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "new", "a.txt"), "pixels")
    ...     Path(folder, "new", "a.txt").read_text()
    'pixels'
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise ConvscopeError(
            f"cannot write {path}: {error.strerror}; free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def remove(path: Path) -> None:
    """Remove a file, where it is there. Raises ConvscopeError where that fails."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConvscopeError(f"cannot remove {path}: {error.strerror}; see who may write there") from error


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files that processes which were killed have left in `folder` and below it."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        remove(path)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder, which is made when it is missing.

    One that is killed lets go of it. Where it cannot be made or held, as on Windows, nothing is kept out. Raises
    UsageError where another process, or another call of this one, has it.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, ImportError):  # what cannot be made, the first file in it will say
            import fcntl

            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"{folder} is being trained by another process: wait for its end, or stop it"
                ) from error
        yield


def sha256(path: Path) -> str:
    """SHA-256 of a file's content as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; a folder cannot be opened for that on Windows."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
