"""Standard streams that cannot end a command: closed or full ones, and encodings that lack a character."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

STANDARD_DESCRIPTORS = 3  # stdin, stdout, stderr
CLOSED_OUTPUT = "standard output is closed: the result was not printed"


class ReliableStream:
    """A stream that never fails: the first failure is kept, and what is written later is discarded.

    A closed one stands for a stream that does not exist, as in a service or with pythonw.
    """

    def __init__(self, stream: TextIO | None) -> None:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        self._stream: TextIO = io.StringIO() if stream is None else stream
        self._exists = stream is not None
        self.failure: OSError | ValueError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text. Characters that the encoding lacks become `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`."""
        if self.failure is None and self._exists:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self._discard(error)
        elif text and not self._exists:
            self.failure = ValueError(CLOSED_OUTPUT)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        if self.failure is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._discard(error)

    def _discard(self, failure: OSError | ValueError) -> None:
        """Redirect the stream to nowhere, also for Python, which flushes it at its end."""
        self.failure = failure
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def reliable_streams() -> Iterator[ReliableStream]:
    """Replace stdout and stderr by streams that never fail until the end of the block; yield stdout's."""
    _reserve_descriptors()
    before = sys.stdout, sys.stderr
    output = ReliableStream(sys.stdout)
    sys.stdout, sys.stderr = cast("TextIO", output), cast("TextIO", ReliableStream(sys.stderr))
    try:
        yield output
    finally:
        sys.stdout, sys.stderr = before


def _reserve_descriptors() -> None:
    """Open the descriptors 0, 1 and 2 if they are closed, so that no file gets them and output with it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < STANDARD_DESCRIPTORS:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
