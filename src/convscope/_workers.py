"""Worker processes: modules of this package, run as programs that answer messages until their input ends.

Unlike multiprocessing, they need no `if __name__ == "__main__"` in the user's script, use no pickle, and import only
what they work with. A worker ends with its input, and thus with the process that started it, however that one ends.
In both directions a message is its length as uint64, followed by its bytes.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from queue import SimpleQueue
from threading import Timer
from typing import IO

LENGTH = struct.Struct("<Q")
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets for its processes

Handler = Callable[[bytes], bytes]


class Worker:
    """A process that runs a module which calls `serve`."""

    def __init__(self, module: str) -> None:
        """Start the process.

        -P keeps a file such as numpy.py in the current folder from being imported. In a process group of its own, the
        worker does not receive the Ctrl-C after which a training ends in order.
        """
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def request(self, message: bytes) -> bytes:
        """Send a message and wait for its answer. Raises OSError if the process has ended."""
        assert self.process.stdin and self.process.stdout
        _send(self.process.stdin, message)
        answer = _receive(self.process.stdout)
        if not answer:
            raise ConnectionResetError("the worker has ended")
        return answer

    def request_within(self, message: bytes, seconds: float) -> bytes:
        """`request`, but a worker that has not answered within `seconds` is killed.

        Raises:
            OSError: There is no answer; the message says what the process did instead.
        """
        timer = Timer(seconds, self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            return self.request(message)
        except OSError as error:
            late = not timer.is_alive()
            why = f"took longer than {seconds:g} s" if late else "ended, for lack of memory or by a fault of its own"
            raise OSError(why) from error
        finally:
            timer.cancel()

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def worker_pool(module: str, count: int) -> Iterator[list[Worker]]:
    """Start `count` workers that run `module`; they are killed at the end of the block."""
    workers = [Worker(module) for _ in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def map_in_order(workers: list[Worker], messages: Iterable[bytes], fallback: Handler) -> Iterator[bytes]:
    """Let the workers answer messages, one message per worker at a time.

    Args:
        workers: From `worker_pool`.
        messages: Consumed at once.
        fallback: Answers a message in this process if its worker has ended.

    Yields:
        The answers in the order of the messages.
    """
    free: SimpleQueue[Worker | None] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def answer(message: bytes) -> bytes:
        worker = free.get()
        try:
            if worker:
                return worker.request(message)
        except OSError:
            worker = None
        finally:
            free.put(worker)
        return fallback(message)

    pool = ThreadPoolExecutor(len(workers))
    try:
        answers = [pool.submit(answer, message) for message in messages]
        for future in answers:
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def limit_resources(max_memory_gb: float) -> None:
    """Limit this process, where the system can: address space, no files to write, no core dumps.

    A lower limit that the system has set already stays.
    """
    if sys.platform == "win32":
        return
    import resource

    for kind, limit in (
        (resource.RLIMIT_AS, int(max_memory_gb * 1e9)),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(ValueError) if sys.platform == "darwin" else nullcontext():  # macOS has no limit of address space
            resource.setrlimit(kind, (lowest, lowest))


def serve(handler: Handler) -> None:
    """In a worker: answer the messages on standard input until it ends."""
    while message := _receive(sys.stdin.buffer):
        _send(sys.stdout.buffer, handler(message))


def _send(stream: IO[bytes], message: bytes) -> None:
    stream.write(LENGTH.pack(len(message)) + message)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """The next message; empty if there is none or if it is incomplete."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return b""
    (length,) = LENGTH.unpack(head)
    message = stream.read(length)
    return message if len(message) == length else b""


def under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return all(name in os.environ for name in TORCHRUN_VARIABLES)
