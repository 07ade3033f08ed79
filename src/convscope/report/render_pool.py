"""Where pictures are drawn: here, or in helper processes beside the training.

The command line starts the helpers first of all, so that what they import is there when the first picture is wanted.
A drawing is an .npz file of the arrays, by their position among the arguments, and of a JSON text; the answer is the
PNG file.
"""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from convscope._workers import map_in_order, serve, worker_pool
from convscope.report import plots
from convscope.report.layout import Page

Drawing = partial[Page]  # a function of `plots` with its arguments by position: arrays, and what JSON can hold
Draw = Callable[[Iterable[Drawing]], Iterator[bytes]]
MAX_WORKERS = 3


def draw_here(drawings: Iterable[Drawing]) -> Iterator[bytes]:
    """The PNG files of the drawings, drawn one after the other in this process."""
    for drawing in drawings:
        yield drawing().png()


@contextmanager
def helpers(threads: int | None = None) -> Iterator[Draw]:
    """What draws like `draw_here`, in up to three processes, one fewer than `threads`; these end with the block."""
    from convscope._hardware import max_threads  # here, for the helpers do without it

    count = min(MAX_WORKERS, (threads or max_threads()) - 1)
    if count < 1:
        yield draw_here
        return
    with worker_pool("convscope.report.render_pool", count) as started:
        yield lambda drawings: map_in_order(started, map(_packed, drawings), _png)


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


def _png(message: bytes) -> bytes:
    return _unpacked(message)().png()


def main() -> None:
    """Draw what comes on standard input until it ends."""
    plots.feature_maps("", np.eye(3)[..., None]).png()  # loads all that drawing needs
    gc.collect()
    gc.freeze()

    def answer(message: bytes) -> bytes:
        gc.collect()  # pages hold on to themselves; this takes half a millisecond and keeps a helper small
        return _png(message)

    serve(answer)


if __name__ == "__main__":
    main()
