"""How good a classifier is, with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._statistics import wilson
from convscope.errors import DataError


@dataclass(frozen=True)
class ClassScore:
    """One class: shares of 1; `precision` is 0 where the class was never predicted, `recall` where it never occurs."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Share:
    """A share of right answers, 0 to 1, and its 95 % Wilson interval."""

    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Loss and accuracy of one model on `n` images.

    One forward pass per image, but for `augmented`: what test-time augmentation makes of it, where that was measured.
    `loss` is the mean cross-entropy in nats; `accuracy` and `top_k` are shares of 1; `interval` is the 95 % Wilson
    interval of the accuracy; `confusion` is int64 (classes, classes), rows are true classes, columns predicted ones.
    """

    n: int
    loss: float
    accuracy: float
    interval: tuple[float, float]
    top_k: dict[int, float]
    classes: tuple[str, ...]
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    augmented: Share | None = None

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON-able values, as `evaluation.json` holds it."""
        return {
            "n": self.n,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "top_k": {str(k): share for k, share in self.top_k.items()},
            "classes": list(self.classes),
            "per_class": [vars(score) for score in self.per_class],
            "confusion": self.confusion.tolist(),
            "augmented": self.augmented
            and {"accuracy": self.augmented.accuracy, "interval": list(self.augmented.interval)},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """The inverse of `to_dict`."""
        return cls(
            n=values["n"],
            loss=values["loss"],
            accuracy=values["accuracy"],
            interval=(values["interval"][0], values["interval"][1]),
            top_k={int(k): share for k, share in values["top_k"].items()},
            classes=tuple(values["classes"]),
            per_class=tuple(ClassScore(**score) for score in values["per_class"]),
            confusion=np.array(values["confusion"], np.int64),
            augmented=_share(values.get("augmented")),
        )


def evaluate(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    augmented: NDArray[np.float32] | None = None,
) -> Evaluation:
    """Compare scores (n, classes) with true labels (n,); `augmented` are those of test-time augmentation.

    Raises DataError when there is nothing to compare.
    """
    if len(labels) == 0:
        raise DataError("expected at least one image to evaluate on, got none: choose a split that has images")
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, logits.argmax(1)), 1)
    correct = int(confusion.trace())
    return Evaluation(
        n=len(labels),
        loss=float(losses(logits, labels).mean()),
        accuracy=correct / len(labels),
        interval=wilson(correct, len(labels)),
        top_k={k: _top_k(logits, labels, k) for k in (1, 2, 3, 5) if k < len(classes)},
        classes=tuple(classes),
        per_class=tuple(_class_score(confusion, i, name) for i, name in enumerate(classes)),
        confusion=confusion,
        augmented=None if augmented is None else _right_share(augmented, labels),
    )


def tta_logits(
    scores: Callable[[NDArray[np.uint8]], NDArray[np.float32]], images: NDArray[np.uint8], mirror: bool
) -> NDArray[np.float32]:
    """Scores by test-time augmentation (as Jordan, 2024, counts it): a weighted mean over copies of each image.

    Half is the image as it is, a quarter each the image moved by one pixel to the upper left and to the lower right,
    reflected at the edges; where `mirror`, each of the three is the mean of itself and its mirror image. scores: what a
    network makes of uint8 images (n, h, w, c), float32 (n, classes).
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    moved = (padded[:, place : place + height, place : place + width] for place in (1, 0, 2))
    parts = []
    for share, copies in zip((0.5, 0.25, 0.25), moved, strict=True):
        both = [copies, copies[:, :, ::-1]] if mirror else [copies]
        parts += [np.float32(share / len(both)) * scores(np.ascontiguousarray(copy)) for copy in both]
    total: NDArray[np.float32] = np.sum(parts, axis=0)
    return total


def losses(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross-entropy in nats of each image: float64 (n,)."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    result: NDArray[np.float64] = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
    return result


def percent(evaluation: Evaluation) -> str:
    """Accuracy as people read it: `98.64 % (95 % interval 98.39 to 98.85, n = 10,000)`."""
    low, high = evaluation.interval
    return (
        f"{100 * evaluation.accuracy:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f}, n = {evaluation.n:,})"
    )


def share_percent(share: Share) -> str:
    """The same of a share alone: `94.02 % (93.54 to 94.47)`."""
    low, high = share.interval
    return f"{100 * share.accuracy:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def _right_share(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Share:
    correct = int((logits.argmax(1) == labels).sum())
    return Share(correct / len(labels), wilson(correct, len(labels)))


def _share(values: dict[str, Any] | None) -> Share | None:
    return Share(values["accuracy"], (values["interval"][0], values["interval"][1])) if values else None


def _top_k(logits: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> float:
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(1).mean())


def _class_score(confusion: NDArray[np.int64], i: int, name: str) -> ClassScore:
    right, true, predicted = (int(x) for x in (confusion[i, i], confusion[i].sum(), confusion[:, i].sum()))
    precision = right / predicted if predicted else 0.0
    recall = right / true if true else 0.0
    f1 = 2 * right / (true + predicted) if true + predicted else 0.0
    return ClassScore(name, precision, recall, f1, true)
