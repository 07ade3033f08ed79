"""Metrics of the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from convscope.errors import ConvscopeError

Metric = Callable[[NDArray[np.float32], NDArray[np.int64]], float]  # of logits (n, classes) and labels (n,)


def compute_metrics(
    metrics: Mapping[str, Metric], logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, float]:
    """Compute all metrics.

    Args:
        metrics: functions by name.
        logits: float32 (n, classes).
        labels: int64 (n,), class indices.

    Raises:
        ConvscopeError: a metric is NaN or infinite.

    >>> logits, labels = np.array([[2.0, 1.0], [0.0, 3.0]], np.float32), np.array([0, 0])
    >>> compute_metrics({"errors": lambda logits, labels: (logits.argmax(1) != labels).sum()}, logits, labels)
    {'errors': 1.0}
    """
    values = {name: float(metric(logits, labels)) for name, metric in metrics.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ConvscopeError(f"metric {name!r} returned {value}: expected a finite number")
    return values
