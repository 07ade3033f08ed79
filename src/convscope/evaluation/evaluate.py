"""Evaluation of anything that predicts logits, image by image, with test-time augmentation if it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from convscope.evaluation.metrics import Evaluation, evaluate, tta_logits
from convscope.training.metrics import Metric, compute_metrics

Logits = NDArray[np.float32]
Predict = Callable[[NDArray[np.uint8]], Logits]


def evaluate_images(
    predict: Predict,
    chunks: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    tta_flip: bool | None = None,
    metrics: Mapping[str, Metric] | None = None,
    plain: Predict | None = None,
) -> tuple[Evaluation, Logits]:
    """Evaluate a model; return the evaluation and the logits, float32 (n, classes), of one forward pass per image.

    Args:
        predict: logits, float32 (n, classes), of uint8 images (n, height, width, channels).
        chunks: the images, some at a time.
        labels: int64 (n,), of all images.
        classes: class names.
        tta_flip: whether test-time augmentation flips images; None leaves it out.
        metrics: the user's own, by name, functions of logits (n, classes) and labels (n,).
        plain: predicts instead of `predict` where there is no test-time augmentation.
    """
    found, augmented = [], []
    for images in chunks:
        found.append((plain or predict)(images))
        if tta_flip is not None:
            augmented.append(tta_logits(predict, images, tta_flip))
    logits = np.concatenate(found)
    evaluation = evaluate(logits, labels, classes, np.concatenate(augmented) if augmented else None)
    return evaluation.model_copy(update={"metrics": compute_metrics(metrics or {}, logits, labels)}), logits
