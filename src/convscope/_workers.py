"""Worker processes: a module of ours, run as a program, that answers messages until its input ends.

They need no guard in the user's script, as multiprocessing would, and load only what they work with. A helper ends with
its input, and so with the process that started it, however that one ends. A message is its length, uint64, and as many
bytes, in both directions.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import IO

LENGTH = struct.Struct("<Q")

Answer = Callable[[bytes], bytes]


class Worker:
    """A process that runs a module which calls `serve`."""

    def __init__(self, module: str) -> None:
        # -P: a file numpy.py in the current folder is none of our business. The own process group keeps Ctrl-C, after
        # which training ends in order, away.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def ask(self, message: bytes) -> bytes:
        """The answer. Raises OSError when the process has ended."""
        assert self.process.stdin and self.process.stdout
        _send(self.process.stdin, message)
        answer = _receive(self.process.stdout)
        if not answer:
            raise ConnectionResetError("the helper has ended")
        return answer

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def worker_pool(module: str, count: int) -> Iterator[list[Worker]]:
    """So many helpers, which end with the block."""
    helpers = [Worker(module) for _ in range(count)]
    try:
        yield helpers
    finally:
        for helper in helpers:
            helper.end()


def map_in_order(helpers: list[Worker], messages: Iterable[bytes], here: Answer) -> Iterator[bytes]:
    """The answers in order, as many at a time as there are helpers; what fails there is answered by `here`."""
    free: SimpleQueue[Worker | None] = SimpleQueue()
    for helper in helpers:
        free.put(helper)

    def answer(message: bytes) -> bytes:
        helper = free.get()
        try:
            if helper:
                return helper.ask(message)
        except OSError:
            helper = None
        finally:
            free.put(helper)
        return here(message)

    pool = ThreadPoolExecutor(len(helpers))
    try:
        answers = [pool.submit(answer, message) for message in messages]
        for made in answers:
            yield made.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def serve(answer: Answer) -> None:
    """Answer what comes on standard input until it ends."""
    while message := _receive(sys.stdin.buffer):
        _send(sys.stdout.buffer, answer(message))


def _send(stream: IO[bytes], message: bytes) -> None:
    stream.write(LENGTH.pack(len(message)) + message)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """The next message; nothing where there is none, or not the whole of it."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return b""
    (length,) = LENGTH.unpack(head)
    message = stream.read(length)
    return message if len(message) == length else b""
