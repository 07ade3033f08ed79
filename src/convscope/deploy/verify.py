"""Compares the answers of several runtimes to the same image files, pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import computed_field

from convscope._records import Record
from convscope._statistics import binomial_tail
from convscope.backends.onnx.metadata import GoldenInput
from convscope.deploy.predictor import Predictor
from convscope.deploy.quantization import MAX_CHANGED
from convscope.errors import DataError
from convscope.images.read import read_image

Probabilities = NDArray[np.float64]
MAX_DIFFERENCE = 1e-4  # of probabilities, between runtimes that compute in float32
MAX_INT8_DIFFERENCE = 0.05  # between runtimes that run the same int8 file: their kernels round differently
MIN_CHANCE = 0.001  # that an int8 file which flips `MAX_CHANGED` of all labels flips as many of some images
FILES_AT_ONCE = 64
STORED = "stored answers"


def reads_all(_: bytes) -> bool:
    """What a runtime says that decodes every file which Python decodes."""
    return True


class Runtime(NamedTuple):
    """Something that classifies image files.

    Attributes:
        name: For the table.
        classify: The contents of files to probabilities, (n, classes).
        precision: Of its arithmetic.
        reads: Whether it decodes a file.
    """

    name: str
    classify: Callable[[Sequence[bytes]], Probabilities]
    precision: Literal["float32", "int8"] = "float32"
    reads: Callable[[bytes], bool] = reads_all


class Comparison(Record):
    """How far the answers of two runtimes are apart.

    Attributes:
        first: The reference.
        second: The other one.
        inputs: What was classified: the golden inputs of the model file, or images of the user.
        images: How many.
        max_difference: The largest difference of a probability, 0..1.
        label_flips: Images with another most likely class; not those whose two classes are as likely within the bound.
        bound: The largest difference that is accepted; None between int8 and float32.
        max_flips: The largest number of label flips that is accepted: 0 for runtimes of the same precision.
    """

    first: str
    second: str
    inputs: Literal["golden", "images"]
    images: int
    max_difference: float
    label_flips: int
    bound: float | None
    max_flips: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether both bounds hold."""
        return self.label_flips <= self.max_flips and (self.bound is None or self.max_difference <= self.bound)


class Verification(Record):
    """What `convscope verify --json` prints.

    Attributes:
        model: The model file.
        comparisons: One per pair of runtimes and kind of inputs.
        skipped: Runtimes that did not take part, each with the reason.
        unreadable: Images that no runtime could read, each with the reason.
    """

    model: Path
    comparisons: tuple[Comparison, ...]
    skipped: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return all(comparison.passed for comparison in self.comparisons)


def predictor_runtime(predictor: Predictor, name: str) -> Runtime:
    """A model file in ONNX Runtime."""

    def classify(files: Sequence[bytes]) -> Probabilities:
        found = predictor.predict(list(files))
        return np.array([[one.probabilities[name] for name in predictor.classes] for one in found])

    return Runtime(name, classify, predictor.metadata.precision)


def compare_golden(golden: Sequence[GoldenInput], own: str, runtimes: Sequence[Runtime]) -> list[Comparison]:
    """Compare the stored answers of golden inputs with those of every runtime.

    Args:
        golden: Of a model file.
        own: The precision of that model file.
        runtimes: What is compared.
    """
    if not golden:
        return []
    stored = np.array([one.probabilities for one in golden])
    files = [one.file for one in golden]
    bound = MAX_DIFFERENCE if own == "float32" else MAX_INT8_DIFFERENCE
    return [
        _Tally(STORED, runtime.name, "golden", bound if runtime.precision == own else None)
        .add(files, stored, runtime)
        .comparison()
        for runtime in runtimes
    ]


def compare_images(paths: Sequence[Path], runtimes: Sequence[Runtime]) -> tuple[list[Comparison], list[str]]:
    """Compare the first of several runtimes with every other one on image files.

    Args:
        paths: The files.
        runtimes: At least one.

    Returns:
        A comparison for each of the other runtimes, and for each file that cannot be read the reason.
    """
    first, *others = runtimes
    tallies = [_Tally(first.name, other.name, "images", _bound(first, other)) for other in others]
    unreadable: list[str] = []
    for start in range(0, len(paths), FILES_AT_ONCE):
        files = list(_readable(paths[start : start + FILES_AT_ONCE], unreadable))
        if not files:
            continue
        expected = first.classify(files)
        for tally, other in zip(tallies, others, strict=True):
            tally.add(files, expected, other)
    return [tally.comparison() for tally in tallies if tally.images], unreadable


def _bound(first: Runtime, other: Runtime) -> float | None:
    if first.precision != other.precision:
        return None
    return MAX_DIFFERENCE if first.precision == "float32" else MAX_INT8_DIFFERENCE


def _readable(paths: Sequence[Path], unreadable: list[str]) -> list[bytes]:
    """The contents of the files that can be decoded; the reasons of the others are appended to `unreadable`."""
    files = []
    for path in paths:
        try:
            read_image(path)
        except DataError as error:
            unreadable.append(str(error))
        else:
            files.append(path.read_bytes())
    return files


def _max_int8_flips(images: int) -> int:
    """The most label flips that chance explains if int8 flips `MAX_CHANGED` of all labels, as `export` accepts."""
    flips = 0
    while flips < images and binomial_tail(flips + 1, images, MAX_CHANGED) >= MIN_CHANCE:
        flips += 1
    return flips


class _Tally:
    """Counts differences over batches."""

    def __init__(self, first: str, second: str, inputs: Literal["golden", "images"], bound: float | None) -> None:
        self.first, self.second, self.inputs, self.bound = first, second, inputs, bound
        self.images, self.flips, self.largest = 0, 0, 0.0

    def add(self, files: Sequence[bytes], expected: Probabilities, runtime: Runtime) -> _Tally:
        """Compare probabilities, (n, classes), with those of a runtime for the files that it decodes."""
        chosen = [i for i, file in enumerate(files) if runtime.reads(file)]
        if not chosen:
            return self
        expected, found = expected[chosen], runtime.classify([files[i] for i in chosen])
        rows, labels = np.arange(len(expected)), expected.argmax(1)
        margin = expected.max(1) - expected[rows, found.argmax(1)]
        is_tie = margin <= (self.bound or 0)
        self.images += len(expected)
        self.flips += int(((labels != found.argmax(1)) & ~is_tie).sum())
        self.largest = max(self.largest, float(np.abs(expected - found).max()))
        return self

    def comparison(self) -> Comparison:
        """The result."""
        return Comparison(
            first=self.first, second=self.second, inputs=self.inputs, images=self.images,
            max_difference=self.largest, label_flips=self.flips, bound=self.bound,
            max_flips=_max_int8_flips(self.images) if self.bound is None else 0,
        )  # fmt: skip
