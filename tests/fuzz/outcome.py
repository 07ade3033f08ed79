"""What may come of a hostile input: a result, or one clear line."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from convscope.errors import ConvscopeError

MAX_SECONDS = 20
MAX_EXTRA_BYTES = 2 * 1024**3


@contextmanager
def limits() -> Iterator[None]:
    """Raise TimeoutError after 20 seconds, and MemoryError at 2 GiB more than now."""

    def too_slow(*_: object) -> None:
        raise TimeoutError(f"took over {MAX_SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + MAX_EXTRA_BYTES, hard))
    signal.alarm(MAX_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        signal.signal(signal.SIGALRM, before)


@contextmanager
def captured() -> Iterator[IO[bytes]]:
    """A file that receives what is written to the file descriptors 1 and 2, by whatever library."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


@contextmanager
def refused_or_accepted(*allowed: type[Exception]) -> Iterator[None]:
    """Fail if the block raises anything but a ConvscopeError with a message, or prints anything.

    Args:
        allowed: further exceptions that are part of an interface.
    """
    with captured() as printed:
        try:
            with limits():
                yield
        except ConvscopeError as error:
            check_message(str(error))
        except allowed:
            pass
        printed.seek(0)
        noise = printed.read()
    assert noise == b""


def check_message(message: str) -> None:
    """Fail unless a message says something, and is not a dump of the input."""
    assert 10 < len(message) < 2000


def strict_json(text: str) -> Any:
    """Parse JSON without NaN and Infinity, which are no JSON."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)
