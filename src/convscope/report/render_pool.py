"""Rendering plots to PNG files, in this process or in worker processes while training continues.

The command line starts the workers before anything else, so that their imports are done when the first plot is needed.
A message to a worker is an .npz file: the arrays by their position among the arguments, and a JSON text with the name
of the plot and its other arguments. The answer is a PNG file.
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
from convscope.report import heat_plots, layer_plots, plots
from convscope.report.canvas import Canvas

PlotCall = partial[Canvas]  # a function of PLOTS with positional arguments: arrays, and values that JSON can hold
Renderer = Callable[[Iterable[PlotCall]], Iterator[bytes]]

MAX_WORKERS = 3
PLOTS: dict[str, Callable[..., Canvas]] = {
    function.__name__: function
    for function in (
        plots.first_nine, plots.issue_images, plots.learning_curves, plots.confusion_matrix, plots.worst_mistakes,
        plots.reliability_diagram,
        layer_plots.filters, layer_plots.feature_maps, layer_plots.flatten_view, layer_plots.class_scores,
        layer_plots.class_probabilities,
        layer_plots.before_after, heat_plots.attribution, heat_plots.region_maps,
    )
}  # fmt: skip


def render_serially(calls: Iterable[PlotCall]) -> Iterator[bytes]:
    """Render the plots one after the other in this process."""
    for call in calls:
        yield call().png()


@contextmanager
def rendering_workers(threads: int | None = None) -> Iterator[Renderer]:
    """Start up to three workers, one fewer than `threads`, and yield a renderer that uses them.

    They end with the block. With a single thread, the renderer is `render_serially`.
    """
    from convscope._hardware import max_threads  # here, because workers do not need it

    count = min(MAX_WORKERS, (threads or max_threads()) - 1)
    if count < 1:
        yield render_serially
        return
    with worker_pool("convscope.report.render_pool", count) as workers:
        yield lambda calls: map_in_order(workers, map(_pack, calls), _render)


def _pack(call: PlotCall) -> bytes:
    arrays: dict[str, Any] = {str(i): value for i, value in enumerate(call.args) if isinstance(value, np.ndarray)}
    values = [None if isinstance(value, np.ndarray) else value for value in call.args]
    buffer = io.BytesIO()
    arrays["call"] = np.array(json.dumps([call.func.__name__, values]))
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpack(message: bytes) -> PlotCall:
    with np.load(io.BytesIO(message), allow_pickle=False) as stored:
        name, values = json.loads(str(stored["call"]))
        for position in set(stored.files) - {"call"}:
            values[int(position)] = stored[position]
    return partial(PLOTS[name], *values)


def _render(message: bytes) -> bytes:
    return _unpack(message)().png()


def main() -> None:
    """In a worker: render the plots that come on standard input until it ends."""
    layer_plots.feature_maps("", np.eye(3)[..., None]).png()  # imports everything that rendering needs
    gc.collect()
    gc.freeze()

    def handle(message: bytes) -> bytes:
        gc.collect()  # canvases contain reference cycles; this takes half a millisecond and keeps the worker small
        return _render(message)

    serve(handle)


if __name__ == "__main__":
    main()
