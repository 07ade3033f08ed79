"""The exact integer resize of step 4 in `preprocessing`: a triangle filter, widened when shrinking."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

MAX_VALUES = 2**20  # float64 values per step, which bounds the temporary arrays
MAX_ROWS = 32  # per step: nearly all weights of more rows are 0


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize an image: first the rows, then the columns.

    Args:
        pixels: uint8 (h, w, c), sides up to 2^20.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        uint8 (height, width, c).

    >>> resize(np.array([[[0], [100], [200], [40]]], np.uint8), 1, 2)[..., 0]
    array([[ 71, 117]], dtype=uint8)
    """
    return _resize_rows(_resize_rows(pixels, height).swapaxes(0, 1), width).swapaxes(0, 1)


def fit_inside(height: int, width: int, max_height: int, max_width: int) -> tuple[int, int]:
    """The largest size of the same aspect ratio inside a limit, each side rounded half up and at least 1.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        max_height: the limit.
        max_width: the limit.

    Returns:
        Height and width; one of them equals its limit.

    >>> fit_inside(480, 640, 28, 28)
    (21, 28)
    """
    if height * max_width <= max_height * width:
        return max(1, (2 * height * max_width + width) // (2 * width)), max_width
    return max_height, max(1, (2 * width * max_height + height) // (2 * height))


def _resize_rows(pixels: Pixels, m: int) -> Pixels:
    """uint8 (n, ...) -> uint8 (m, ...)."""
    n, *rest = pixels.shape
    if m == n:
        return pixels
    k = int(np.prod(rest))
    sums, totals = np.zeros((m, k)), np.zeros((m, 1))
    count = max(1, min(MAX_ROWS, MAX_VALUES // max(k, m)))
    for start in range(0, n, count):
        rows = pixels[start : start + count].reshape(-1, k).astype(np.float64)
        outputs, weights, weight_sums = _weights(n, m, start, len(rows))
        sums[outputs] += weights @ rows
        totals[outputs] += weight_sums
    sums += totals / 2
    sums /= totals  # as exact as integers: 2 * totals, up to 2^42, is far from the 2^45 where a quotient could round up
    return sums.astype(np.uint8).reshape(m, *rest)


@lru_cache(64)  # images of the same size often follow each other
def _weights(n: int, m: int, start: int, count: int) -> tuple[slice, NDArray[np.float64], NDArray[np.float64]]:
    """The weights of the inputs start .. start + count - 1.

    Returns:
        The outputs, of m, that have a weight which is not 0; their weights, (outputs, count); and the sums of these
        over the inputs, (outputs, 1).
    """
    positions = (2 * np.arange(start, start + count) + 1) * m
    centers = (2 * np.arange(m) + 1) * n
    weights = np.maximum(0, 2 * max(n, m) - abs(centers[:, None] - positions))
    reached = np.flatnonzero(weights.any(axis=1))
    outputs = slice(reached[0], reached[-1] + 1)
    reaching = weights[outputs].astype(np.float64)
    return outputs, reaching, reaching.sum(axis=1, keepdims=True)
