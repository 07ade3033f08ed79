"""Accuracy, loss and per-class scores of a classifier, with confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator

from convscope._records import Record
from convscope._statistics import wilson
from convscope._text import percent
from convscope.errors import ConvscopeError, DataError
from convscope.evaluation.answers import Answers
from convscope.evaluation.calibration import Calibration
from convscope.evaluation.proportion import Proportion, interval_text, proportion

TOP_K = (1, 2, 3, 5)


def _to_count_matrix(rows: object) -> NDArray[np.int64]:
    matrix = np.asarray(rows)  # raises ValueError if the rows are of different lengths
    if matrix.ndim != 2 or matrix.dtype != np.int64 or (matrix < 0).any():
        raise ValueError("expected rows of counts")
    return matrix


_COUNT_MATRIX_SCHEMA = {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}}}
CountMatrix = Annotated[
    NDArray[np.int64],
    BeforeValidator(_to_count_matrix),
    PlainSerializer(lambda matrix: matrix.tolist(), return_type=list[list[int]]),
    WithJsonSchema(_COUNT_MATRIX_SCHEMA),
]


class ClassScore(Record):
    """Precision, recall and F1 of one class, 0..1, and its number of images (`support`).

    None where nothing was measured: all three if the class has no images, `precision` if it was never predicted.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Evaluation(Record):
    """Loss and accuracy of a model on `n` images, from one forward pass per image.

    `loss` is the mean cross-entropy in nats. `accuracy` and `top_k` are fractions, 0..1; `interval` is the 95 % Wilson
    interval of the accuracy. `confusion` is int64 (classes, classes): rows are true classes, columns predicted ones.
    `tta` is the accuracy with test-time augmentation, None if it was not measured; `metrics` are the user's own.
    `measured` says which images these are. `calibration` compares the probabilities that the model file gives with the
    accuracy; `answers` counts the images that it answers, of these and of others that it should not answer.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    n: int
    loss: float
    accuracy: float
    interval: tuple[float, float]
    top_k: dict[int, float]
    classes: tuple[str, ...]
    per_class: tuple[ClassScore, ...]
    confusion: CountMatrix
    tta: Proportion | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    measured: str = ""
    calibration: Calibration | None = None
    answers: tuple[Answers, ...] = ()

    @model_validator(mode="after")
    def _check_one_row_per_class(self) -> Self:
        count = len(self.classes)
        if self.confusion.shape != (count, count) or len(self.per_class) != count:
            raise ValueError("expected a row and a column of confusion, and one entry of per_class, for every class")
        return self

    @property
    def unmeasured_classes(self) -> tuple[str, ...]:
        """The classes without images."""
        return tuple(score.name for score in self.per_class if not score.support)

    @property
    def accuracy_text(self) -> str:
        """For example `98.64 % (95 % interval 98.39 to 98.85, n = 10,000)`."""
        return f"{percent(self.accuracy)} (95 % interval {interval_text(self.interval)}, n = {self.n:,})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluation) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]  # it holds an array


def evaluate(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    tta: NDArray[np.float32] | None = None,
) -> Evaluation:
    """Compare a network's outputs with the true labels.

    Args:
        logits: float32 (n, classes), one forward pass per image.
        labels: (n,), indices of `classes`.
        classes: Class names in output order.
        tta: float32 (n, classes), as `tta_logits` returns them.

    Raises:
        DataError: There are no images.
        ConvscopeError: An output is NaN or infinite.
    """
    if len(labels) == 0:
        raise DataError("expected at least one image to evaluate on, got none: choose a split that has images")
    if not np.isfinite(logits).all():
        raise ConvscopeError("the network's outputs are not all finite: train again with a lower --learning-rate")
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, logits.argmax(1)), 1)
    correct = int(confusion.trace())
    return Evaluation(
        n=len(labels),
        loss=float(losses(logits, labels).mean()),
        accuracy=correct / len(labels),
        interval=wilson(correct, len(labels)),
        top_k={k: _top_k(logits, labels, k) for k in TOP_K if k < len(classes)},
        classes=tuple(classes),
        per_class=tuple(_class_score(confusion, i, name) for i, name in enumerate(classes)),
        confusion=confusion,
        tta=None if tta is None else proportion(tta.argmax(1) == labels),
    )


def tta_logits(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]], images: NDArray[np.uint8], flip: bool
) -> NDArray[np.float32]:
    """Logits with test-time augmentation (Jordan, 2024): a weighted mean over copies of each image.

    The image itself has the weight 1/2. Two copies, shifted by one pixel to the upper left and to the lower right and
    reflected at the edges, have the weight 1/4 each.

    Args:
        predict: The network: uint8 (n, h, w, c) to float32 (n, classes).
        images: uint8 (n, h, w, c).
        flip: Average each of the three with its mirror image.

    Returns:
        float32 (n, classes).
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shifted = (padded[:, offset : offset + height, offset : offset + width] for offset in (1, 0, 2))
    parts = []
    for weight, copies in zip((0.5, 0.25, 0.25), shifted, strict=True):
        both = [copies, copies[:, :, ::-1]] if flip else [copies]
        parts += [np.float32(weight / len(both)) * predict(np.ascontiguousarray(copy)) for copy in both]
    total: NDArray[np.float32] = np.sum(parts, axis=0)
    return total


def losses(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross-entropy of each image in nats, float64 (n,); logits: (n, classes), labels: (n,)."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    result: NDArray[np.float64] = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
    return result


def _top_k(logits: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> float:
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(1).mean())


def _class_score(confusion: NDArray[np.int64], i: int, name: str) -> ClassScore:
    correct, true, predicted = (int(x) for x in (confusion[i, i], confusion[i].sum(), confusion[:, i].sum()))
    return ClassScore(
        name=name,
        precision=correct / predicted if predicted and true else None,
        recall=correct / true if true else None,
        f1=2 * correct / (true + predicted) if true else None,
        support=true,
    )
