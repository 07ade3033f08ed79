"""Looking: at a data set before training, and at one picture's way through a trained network."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope.data import Progress, Reading, image_as_text, load, summary
from convscope.data.check import findings
from convscope.data.finding import Finding
from convscope.data.folder import dataset_of, survey_of
from convscope.data.loading import cache_folder
from convscope.errors import DataError, UsageError
from convscope.explain import Cell, cell, trace
from convscope.files import write_atomically
from convscope.gallery import data_picture, drawn, inside_pictures
from convscope.layers import shape_text
from convscope.pictures import encode_png, read_picture
from convscope.runs import Run


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
    pixels, notes = run.config.preprocessing.arrange(read_picture(source, max_megapixels=max_megapixels))
    folder = folder or run.path / "explain" / Path(source).stem
    model = run.model()
    steps = trace(model, run.network, run.config.preprocessing.normalise(pixels[None])[0])
    found = tuple(cell(steps, *_cell_place(text)) for text in cells)
    written = []
    sketches = inside_pictures(run.config, model, pixels, Path(source).name, every_layer=True)
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
                "words": step.layer.words,
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


@dataclass(frozen=True)
class Checked:
    """What the check of a set of pictures says.

    counts: files and used pictures of each class. splits: images of each split. seen: what the network would see, in
    words. problem: why the set cannot be trained on, or nothing.
    """

    path: str
    counts: dict[str, tuple[int, int]]
    splits: dict[str, int]
    seen: str
    findings: tuple[Finding, ...]
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with every file of every finding."""
        return {
            "path": self.path,
            "classes": [{"name": name, "files": files, "used": used} for name, (files, used) in self.counts.items()],
            "splits": self.splits,
            "seen": self.seen,
            "findings": [finding.to_dict() for finding in self.findings],
            "problem": self.problem or None,
        }


def check_pictures(path: Path, reading: Reading, progress: Progress, say: Callable[[str], None]) -> Checked:
    """Look through a folder or a table of pictures without changing anything.

    Raises DataError where it is none.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder: expected a folder of class folders, a .csv or a .jsonl")
    survey = survey_of(path, reading, cache_folder(), progress, say)
    classes, labels, frame = survey.listing.classes, survey.listing.labels, survey.store.frame
    files, used = (np.bincount(some, minlength=len(classes)).tolist() for some in (labels, labels[survey.used]))
    splits, problem = {}, ""
    try:
        dataset = dataset_of(path, survey, reading)
        splits = {name: len(split) for name, split in dataset.splits.items()}
    except DataError as error:
        problem = f"{path}: {error}"
    colours = {1: "grey", 3: "colour", 4: "colour with transparency"}[frame.channels]
    return Checked(
        path=str(path),
        counts={name: (files[i], used[i]) for i, name in enumerate(classes)},
        splits=splits,
        seen=f"{frame.width}x{frame.height} {colours}, {frame.fit}, {frame.polarity} background",
        findings=findings(survey),
        problem=problem,
    )


def show_dataset(name: str, index: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """The numbers behind a data set and one of its training images; writes first-nine.png and that image as a picture.

    Raises DataError for the data set, UsageError for an image that it does not have.
    """
    dataset = load(name, progress)
    if index >= len(dataset.train):
        raise UsageError(f"--image {index}: {dataset.name} has {len(dataset.train):,} training images, counted from 0")
    image = dataset.train.image(index)
    nine, one = folder / f"{dataset.name}-first-nine.png", folder / f"{dataset.name}-image-{index}.png"
    write_atomically(nine, data_picture(dataset).drawing().png())
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
