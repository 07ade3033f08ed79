"""Where pictures are drawn: here, or in helper processes beside the training.

The command line starts the helpers first of all, so that what they import is there when the first picture is wanted.
Each reads drawings from its standard input and answers with PNG files. It ends with its input, and so with the process
that started it, however that one ends. A message is its length, uint64, and as many bytes: a drawing is an .npz file
of the arrays, by their position among the arguments, and of a JSON text; an answer is the PNG file.
"""

from __future__ import annotations

import gc
import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import IO, Any

import numpy as np

from convscope import plots
from convscope.canvas import Page

Drawing = partial[Page]  # a function of `plots` with its arguments by position: arrays, and what JSON can hold
Draw = Callable[[Iterable[Drawing]], Iterator[bytes]]
MOST_HELPERS = 3
LENGTH = struct.Struct("<Q")


def draw_here(drawings: Iterable[Drawing]) -> Iterator[bytes]:
    """The PNG files of the drawings, drawn one after the other in this process."""
    for drawing in drawings:
        yield drawing().png()


@contextmanager
def helpers(threads: int | None = None) -> Iterator[Draw]:
    """What draws like `draw_here`, in up to three processes, one fewer than `threads`; these end with the block."""
    from convscope.machine import most_threads  # here, for the helpers do without it

    count = min(MOST_HELPERS, (threads or most_threads()) - 1)
    if count < 1:
        yield draw_here
        return
    started = [Helper() for _ in range(count)]
    try:
        yield partial(_draw_there, started)
    finally:
        for helper in started:
            helper.end()


class Helper:
    """A process that draws."""

    def __init__(self) -> None:
        # -P: a file numpy.py in the current folder is none of our business. The own process group keeps Ctrl-C, after
        # which training ends in order, away.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "convscope.drawing"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def draw(self, drawing: Drawing) -> bytes:
        """The PNG file. Raises OSError when the process has ended."""
        assert self.process.stdin and self.process.stdout
        _send(self.process.stdin, _packed(drawing))
        answer = _receive(self.process.stdout)
        if not answer:
            raise ConnectionResetError("the helper has ended")
        return answer

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.communicate()


def _draw_there(started: list[Helper], drawings: Iterable[Drawing]) -> Iterator[bytes]:
    """As many drawings at a time as there are helpers; what fails there is drawn, or raises its error, here."""
    free: SimpleQueue[Helper | None] = SimpleQueue()
    for helper in started:
        free.put(helper)

    def draw(drawing: Drawing) -> bytes:
        helper = free.get()
        try:
            if helper:
                return helper.draw(drawing)
        except OSError:
            helper = None
        finally:
            free.put(helper)
        return drawing().png()

    pool = ThreadPoolExecutor(len(started))
    try:
        answers = [pool.submit(draw, drawing) for drawing in drawings]
        for answer in answers:
            yield answer.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _packed(drawing: Drawing) -> bytes:
    arrays: dict[str, Any] = {str(i): value for i, value in enumerate(drawing.args) if isinstance(value, np.ndarray)}
    values = [None if isinstance(value, np.ndarray) else value for value in drawing.args]
    buffer = io.BytesIO()
    arrays["call"] = np.array(json.dumps([drawing.func.__name__, values]))
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpacked(message: bytes) -> Drawing:
    with np.load(io.BytesIO(message), allow_pickle=False) as stored:
        name, values = json.loads(str(stored["call"]))
        for place in set(stored.files) - {"call"}:
            values[int(place)] = stored[place]
    return partial(getattr(plots, name), *values)


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


def serve() -> None:
    """Draw what comes on standard input until it ends."""
    plots.feature_maps("", np.eye(3)[..., None]).png()  # loads all that drawing needs
    gc.collect()
    gc.freeze()
    while message := _receive(sys.stdin.buffer):
        _send(sys.stdout.buffer, _unpacked(message)().png())
        gc.collect()  # pages hold on to themselves; this takes half a millisecond and keeps a helper small


if __name__ == "__main__":
    serve()
