"""Follow one image through a trained network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convscope._files import write_results
from convscope._records import Record
from convscope.errors import UsageError
from convscope.evaluation.explain import CellExplanation, explain_cell
from convscope.evaluation.trace import LayerTrace, trace
from convscope.images.files.source import source_name, source_stem
from convscope.images.read import read_image
from convscope.report.figures import render_figures
from convscope.report.layer_figures import layer_figures
from convscope.runs.folder import Run


class LayerSummary(Record):
    """The output of one layer: its shape and its smallest, mean and largest value."""

    name: str
    source: str
    output: tuple[int, ...]
    min: float
    mean: float
    max: float


class Explanation(Record):
    """What a network computes for one image.

    `probabilities` has the most probable class first. `cells` holds the arithmetic of the requested cells. `written`
    are the names of the figures in `folder`.
    """

    image: str
    notes: tuple[str, ...]
    probabilities: dict[str, float]
    layers: tuple[LayerSummary, ...]
    cells: tuple[CellExplanation, ...]
    folder: Path
    written: tuple[str, ...]


def explain_image(
    run: Run,
    image: Path | str,
    cells: Sequence[str] = (),
    folder: Path | None = None,
    *,
    max_megapixels: float = 25.0,
    force: bool = False,
) -> Explanation:
    """Follow an image through the network of a run, and draw a figure of every layer's output.

    Args:
        run: The run whose weights are used.
        image: An image file, or "-" for standard input.
        cells: Cells whose arithmetic is worked out, each "LAYER,ROW,COLUMN,CHANNEL", or "LAYER,INDEX" in a vector.
        folder: Where the figures go; by default RUN/explain/NAME, after the name of the image.
        max_megapixels: Refuse larger images, in millions of pixels.
        force: Overwrite other files in `folder` that have the names of the figures; in RUN/explain that is always done.

    Raises:
        DataError: The image cannot be read.
        UsageError: The network has no such cell, or a figure would overwrite another file.
    """
    pixels, notes = run.config.preprocessing.transform(read_image(image, max_megapixels=max_megapixels))
    model = run.model()
    calibration = run.metadata.calibration
    traces = trace(model, run.network, run.config.preprocessing.normalize(pixels[None])[0], calibration)
    found = tuple(explain_cell(traces, *_parse_cell(text)) for text in cells)
    specs = layer_figures(run.config, model, pixels, Path(source_name(image)).name, calibration, every_layer=True)
    place = folder or run.path / "explain" / source_stem(image)
    figures = {place / f"{name}.png": figure.png for name, figure in render_figures(specs)}
    write_results(figures, force=force or folder is None)
    probabilities = traces["softmax"].output
    return Explanation(
        image=source_name(image),
        notes=notes,
        probabilities={run.classes[i]: float(probabilities[i]) for i in np.argsort(-probabilities, kind="stable")},
        layers=tuple(_summary(traced) for traced in traces.values()),
        cells=found,
        folder=place,
        written=tuple(path.name for path in figures),
    )


def _summary(traced: LayerTrace) -> LayerSummary:
    output = traced.output
    return LayerSummary(
        name=traced.layer.name,
        source=traced.layer.source,
        output=output.shape,
        min=float(output.min()),
        mean=float(output.mean()),
        max=float(output.max()),
    )


def _parse_cell(text: str) -> tuple[str, tuple[int, ...]]:
    layer, *numbers = (part.strip() for part in text.split(","))
    if not layer or not numbers or not all(re.fullmatch(r"\d+", number) for number in numbers):
        raise UsageError(f"--cell {text!r}: expected LAYER,ROW,COLUMN,CHANNEL such as conv1,3,4,0, or LAYER,INDEX")
    return layer, tuple(map(int, numbers))
