"""Whether an int8 model file may stand for the float32 one: answers, accuracy, size and speed, side by side."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from pydantic import computed_field

from convscope._records import Record
from convscope._statistics import NORMAL_975
from convscope.data.dataset import Split
from convscope.deploy.predictor import Predictor

MAX_CHANGED = 0.005  # of the answers, but one image is always accepted
TIMED_RUNS, TIMED_BATCH = 101, 64


class Side(Record):
    """A model file.

    Attributes:
        bytes: Its size.
        accuracy: On the images of the comparison, 0..1.
        latency_ms: Median time for one decoded image, on this machine.
        images_per_second: Median in batches of 64 decoded images, on this machine.
    """

    bytes: int
    accuracy: float
    latency_ms: float
    images_per_second: float


class Quantization(Record):
    """An int8 model file compared with the float32 one.

    Attributes:
        images: Number of validation images that both answered.
        float32: The original.
        int8: The quantized one.
        changed_answers: Images with another most likely class.
        changed_statuses: Images with the same class that only one of them answers; see `Rejection`.
        accuracy_change: Accuracy of int8 less that of float32, -1..1.
        interval: Its 95 % interval, from the images that only one of them classifies correctly.
    """

    images: int
    float32: Side
    int8: Side
    changed_answers: int
    changed_statuses: int
    accuracy_change: float
    interval: tuple[float, float]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether at most 0.5 % of the answers change, and the accuracy is not lower beyond chance."""
        return self.changed_answers <= max(1, MAX_CHANGED * self.images) and self.interval[1] >= 0

    @property
    def is_faster(self) -> bool:
        """Whether int8 takes less time for one image."""
        return self.int8.latency_ms < self.float32.latency_ms


def compare_quantized(original: Path, quantized: Path, split: Split) -> Quantization:
    """Let both model files classify labeled images, and measure their speed.

    Args:
        original: The float32 file.
        quantized: The int8 file.
        split: Images of the network's input size that it was not trained on.
    """
    predictors = Predictor(original), Predictor(quantized)
    answers = [[_answers(predictor, images) for predictor in predictors] for images in split.chunks()]
    (labels, answered), (labels8, answered8) = (
        tuple(np.concatenate(parts) for parts in zip(*(pair[i] for pair in answers), strict=True)) for i in (0, 1)
    )
    right, right8 = labels == split.labels, labels8 == split.labels
    change, interval = _paired_change(right, right8)
    batch = next(split.chunks(TIMED_BATCH))
    latencies, batch_times = _timed(predictors, batch[:1]), _timed(predictors, batch)
    sides = [
        Side(
            bytes=predictor.path.stat().st_size,
            accuracy=float(correct.mean()),
            latency_ms=1000 * latency,
            images_per_second=len(batch) / seconds,
        )
        for predictor, correct, latency, seconds in zip(
            predictors, (right, right8), latencies, batch_times, strict=True
        )
    ]
    return Quantization(
        images=len(split),
        float32=sides[0],
        int8=sides[1],
        changed_answers=int((labels != labels8).sum()),
        changed_statuses=int(((labels == labels8) & (answered != answered8)).sum()),
        accuracy_change=change,
        interval=interval,
    )


def _answers(predictor: Predictor, images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The most likely class of each image, and whether the model answers."""
    probabilities, limits = predictor.predict_proba(images), predictor.metadata.rejection
    answered = np.ones(len(images), bool)
    if limits.min_probability is not None:
        answered &= probabilities.max(1) >= limits.min_probability
    if limits.max_ood_score is not None:
        answered &= predictor.ood_scores(images) <= limits.max_ood_score
    return probabilities.argmax(1), answered


def _paired_change(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """Difference of two accuracies on the same images, and its 95 % interval (Agresti and Min, 2005).

    >>> change, (low, high) = _paired_change(np.arange(1000) < 900, np.arange(1000) < 890)
    >>> change, round(low, 4), round(high, 4)
    (-0.01, -0.0164, -0.0035)
    """
    n, gains, losses = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    # half an image is added to each of the four cells, which keeps the interval from being a point
    more, n_more = (gains + 0.5, losses + 0.5), n + 2
    center = (more[0] - more[1]) / n_more
    half_width = NORMAL_975 * sqrt(more[0] + more[1] - n_more * center**2) / n_more
    return (gains - losses) / n, (center - half_width, center + half_width)


def _timed(predictors: tuple[Predictor, Predictor], images: NDArray[np.uint8]) -> list[float]:
    """Median seconds of each predictor for the images; they take turns, so that a busy machine slows both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMED_RUNS):
        for predictor, times in zip(predictors, seconds, strict=True):
            times.append(_seconds(predictor.predict_proba, images))
    return [median(times) for times in seconds]


def _seconds(run: Callable[[NDArray[np.uint8]], object], images: NDArray[np.uint8]) -> float:
    start = perf_counter()
    run(images)
    return perf_counter() - start
