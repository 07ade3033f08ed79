"""One line instead of "Bus error" when a memory-mapped file is truncated, or fails to be read, while it is in use."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from convscope._text import escape_controls
from convscope.errors import DataError

_handlers: dict[int | None, object] = {}  # by address; what the operating system calls must not be freed


def explain_bus_errors(path: Path) -> None:
    """End this process with one line, and the exit code of a DataError, if reading a mapped file fails.

    A handler in Python would not do: the operating system repeats the failing instruction before Python could call it.
    Nothing is done on Windows, which does not let mapped files be truncated, or if there is a handler already, such as
    that of `faulthandler`.

    Args:
        path: the file, for the message.
    """
    number = getattr(signal, "SIGBUS", None)
    if number is None:
        return
    message = f"convscope: {path} was truncated or cannot be read while it is in use: run the command again"
    line = escape_controls(message).encode("utf-8", "replace") + b"\n"

    def end(_: int) -> None:
        os.write(2, line)
        os._exit(DataError.exit_code)

    system = ctypes.CDLL(None).signal
    system.restype, system.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(end)
    address = ctypes.cast(handler, ctypes.c_void_p)
    previous = system(number, address)
    if previous and previous not in _handlers:
        system(number, previous)
    else:
        _handlers[address.value] = handler
