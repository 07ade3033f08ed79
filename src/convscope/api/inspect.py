"""Looking: at a data set before training, and at one picture's way through a trained network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope._files import write_atomically
from convscope._reporting import Reporter
from convscope.data.load import load_data
from convscope.data.statistics import image_as_text, summary
from convscope.errors import UsageError
from convscope.evaluation.explain import Cell, cell, trace
from convscope.images.read import encode_png, read_image
from convscope.network.layers import shape_text
from convscope.report.figures import dataset_figure, drawn, layer_figures
from convscope.runs.folder import Run


@dataclass(frozen=True)
class Explanation:
    """What a network made of one picture: its answer, every layer's output in short, and the cells asked for."""

    picture: str
    notes: tuple[str, ...]
    probabilities: dict[str, float]
    layers: tuple[dict[str, Any], ...]
    cells: tuple[Cell, ...]
    folder: Path
    written: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with every term of every cell."""
        return {
            "image": self.picture,
            "notes": list(self.notes),
            "probabilities": self.probabilities,
            "layers": list(self.layers),
            "cells": [_cell_values(cell) for cell in self.cells],
            "folder": str(self.folder),
            "written": list(self.written),
        }


def explain_picture(
    run: Run,
    source: Path | str,
    cells: Sequence[str] = (),
    folder: Path | None = None,
    *,
    max_megapixels: float = 25.0,
) -> Explanation:
    """Follow a picture through a run's network, write a picture per layer, and work out `cells`.

    The pictures go to `folder`, by default RUN/explain/NAME OF THE PICTURE; a cell is "LAYER,ROW,COLUMN,CHANNEL" or
    "LAYER,INDEX". Raises DataError for a picture that cannot be read and UsageError for a cell that is not there.
    """
    pixels, notes = run.config.preprocessing.transform(read_image(source, max_megapixels=max_megapixels))
    folder = folder or run.path / "explain" / Path(source).stem
    model = run.model()
    steps = trace(model, run.network, run.config.preprocessing.normalize(pixels[None])[0])
    found = tuple(cell(steps, *_cell_place(text)) for text in cells)
    written = []
    sketches = layer_figures(run.config, model, pixels, Path(source).name, every_layer=True)
    for name, picture in drawn(sketches):
        write_atomically(folder / f"{name}.png", picture.png)
        written.append(f"{name}.png")
    probabilities = steps["softmax"].output
    order = np.argsort(-probabilities, kind="stable")
    return Explanation(
        picture=str(source),
        notes=notes,
        probabilities={run.classes[i]: float(probabilities[i]) for i in order},
        layers=tuple(
            {
                "name": name,
                "source": step.layer.source,
                "output": list(step.output.shape),
                "least": float(step.output.min()),
                "mean": float(step.output.mean()),
                "most": float(step.output.max()),
            }
            for name, step in steps.items()
        ),
        cells=found,
        folder=folder,
        written=tuple(written),
    )


def show_dataset(name: str, index: int, folder: Path, reporter: Reporter | None = None) -> dict[str, Any]:
    """The numbers behind a data set and one of its training images; writes first-nine.png and that image as a picture.

    Raises DataError for the data set, UsageError for an image that it does not have.
    """
    dataset = load_data(name, reporter=reporter)
    if index >= len(dataset.train):
        raise UsageError(f"--image {index}: {dataset.name} has {len(dataset.train):,} training images, counted from 0")
    image = dataset.train.image(index)
    nine, one = folder / f"{dataset.name}-first-nine.png", folder / f"{dataset.name}-image-{index}.png"
    write_atomically(nine, dataset_figure(dataset).drawing().png())
    write_atomically(one, encode_png(image))
    return {
        **summary(dataset),
        "image": {
            "index": index,
            "class": dataset.classes[dataset.train.labels[index]],
            "shape": shape_text(image.shape),
            "pixels": image.tolist(),
            "text": image_as_text(image),
        },
        "written": [str(nine), str(one)],
    }


def _cell_place(text: str) -> tuple[str, tuple[int, ...]]:
    layer, *numbers = (part.strip() for part in text.split(","))
    if not layer or not numbers or not all(re.fullmatch(r"\d+", number) for number in numbers):
        raise UsageError(f"--cell {text!r}: expected LAYER,ROW,COLUMN,CHANNEL such as conv1,3,4,0, or LAYER,INDEX")
    return layer, tuple(map(int, numbers))


def _cell_values(cell: Cell) -> dict[str, Any]:
    terms = [{"source": t.source, "value": t.value, "weight": t.weight, "product": t.product} for t in cell.terms]
    return {**vars(cell), "place": list(cell.place), "terms": terms, "agrees": cell.agrees}
