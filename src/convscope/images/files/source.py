"""Opening what a user names as an image: a file, standard input ("-"), or a pipe from the shell.

Only regular files are opened by their path. Other paths are read if they stand for what the process was started with:
/dev/stdin, and /dev/fd/N, which `<(command)` becomes in a shell. Their content goes into memory.
"""

from __future__ import annotations

import os
import re
import sys
from io import BytesIO
from pathlib import Path
from typing import IO

from convscope._files import open_regular
from convscope.errors import DataError

STANDARD_INPUT = "-"
IMAGE_FORMATS = "PNG, JPEG, BMP, GIF, TIFF, WebP, PGM or PPM"
MAX_FILE_BYTES = 2**28
SMALL_FILE_BYTES = 2**20  # read at once
STEP_BYTES = 2**18  # read at a time


def open_source(source: str | Path) -> IO[bytes]:
    """Open an image file, or standard input for the text "-", as a stream that can be read from anywhere.

    Raises:
        DataError: there is no such file, or it cannot be opened; the message names it.
    """
    name = source_name(source)
    try:
        if source == STANDARD_INPUT:
            return _standard_input()
        if name.startswith(("/dev/", "/proc/")) and re.fullmatch(r"/dev/stdin|(/dev|/proc/self)/fd/\d+", name):
            with Path(source).open("rb") as file:
                return _in_memory(file)
        file = open_regular(source)
        if os.fstat(file.fileno()).st_size > SMALL_FILE_BYTES:
            return file
        with file:
            return BytesIO(file.read())  # which decoders read faster
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; check the spelling and the folder") from None
    except ValueError:
        raise DataError(f"{name}: no file has a null character in its name; check where the name comes from") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be opened ({error.strerror}); check its permissions") from error
    except DataError as error:
        if Path(source).is_dir():
            raise DataError(f"{name}: a folder, expected one image file ({IMAGE_FORMATS}); name a file in it") from None
        raise DataError(f"{name}: {error}") from None


def source_name(source: str | Path) -> str:
    """How messages name the image."""
    return "standard input" if source == STANDARD_INPUT else str(source)


def source_stem(source: str | Path) -> str:
    """What the names of files that are made from the image start with.

    >>> source_stem("pets/cat.jpg"), source_stem("-")
    ('cat', 'stdin')
    """
    return "stdin" if source == STANDARD_INPUT else Path(source).stem


def _standard_input() -> IO[bytes]:
    if sys.stdin is None or sys.stdin.closed:
        raise DataError("closed; name an image file, or pipe an image into the command")
    if sys.stdin.isatty():
        raise DataError("a terminal, expected an image; name an image file, or pipe an image into the command")
    return _in_memory(sys.stdin.buffer)


def _in_memory(file: IO[bytes]) -> IO[bytes]:
    content = bytearray()
    while part := file.read(STEP_BYTES):
        content += part
        if len(content) > MAX_FILE_BYTES:
            raise DataError(f"more than {MAX_FILE_BYTES / 1e9:.1f} GB, expected one image")
    return BytesIO(content)
