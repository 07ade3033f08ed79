"""Paths that are no regular files."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def make_special(kind: str, path: Path) -> Path:
    """A path that is no regular file."""
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(path))  # a socket's path has at most 107 bytes
    else:
        path.mkdir()
    return path
