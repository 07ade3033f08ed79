"""The width of strokes, and scaling them so that it stays what a network knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convscope.images.framing.morphology import dilation
from convscope.images.resize import fit_inside, resize
from convscope.images.statistics import lower_quantile, otsu_threshold

Gray = NDArray[np.uint8]

SUBPIXELS = 256  # parts of a pixel in which widths are measured
MIDDLES = range(128, 209, 16)  # levels at which the blurred edge of an enlarged stroke may be cut
THIN_PARTS = 4  # strokes are widened if more than this part of their width is missing


def stroke_width(levels: Gray) -> int:
    """The width of strokes, uint8 (h, w), in 1/256 pixel: twice their area divided by the length of their edges.

    The steps between neighbors, in rows and in columns, stand for the edges, so that slanted strokes count as narrower.

    >>> stroke_width(np.array([[0, 255, 255, 0]], np.uint8)), stroke_width(np.full((100, 3), 255, np.uint8))
    (170, 745)
    """
    values = levels.astype(np.int64)
    outside = (values[0], values[-1], values[:, 0], values[:, -1])  # steps from and to the paper around the strokes
    steps = (abs(np.diff(values, axis=0)), abs(np.diff(values, axis=1)), *outside)
    edges = sum(int(part.sum()) for part in steps)
    return 2 * SUBPIXELS * int(levels.sum(dtype=np.int64)) // max(1, edges)


def scale_strokes(levels: Gray, height: int, width: int, stroke: int) -> Gray:
    """Scale strokes to fit inside a size, with edges as sharp and strokes about as wide as they should be.

    Args:
        levels: uint8 (h, w), cut to the bounding box: 0 paper, 255 full ink.
        height: of the result at most, in pixels.
        width: of the result at most, in pixels.
        stroke: width that the strokes should have, see `stroke_width`.
    """
    scaled = _scale(levels, height, width)
    before, after = max(levels.shape), max(scaled.shape)
    if before < after:
        sharp = [_sharpen(scaled, middle, before) for middle in MIDDLES]
        return min(sharp, key=lambda one: abs(stroke_width(one) - stroke))
    missing = stroke - stroke_width(scaled)
    radius = missing * before // (2 * SUBPIXELS * after)
    if radius < 1 or THIN_PARTS * missing <= stroke:
        return scaled
    return _scale(dilation(np.pad(levels, radius), radius), height, width)


def _scale(levels: Gray, height: int, width: int) -> Gray:
    """Fit levels inside a size, and bring strokes back to full ink."""
    rows, columns = fit_inside(levels.shape[0], levels.shape[1], height, width)
    scaled = resize(np.ascontiguousarray(levels)[..., None], rows, columns)[..., 0]
    strokes = scaled[scaled > otsu_threshold(scaled)] if scaled.min() < scaled.max() else scaled.ravel()
    full = max(1, lower_quantile(strokes, 1, 2))
    result: Gray = np.minimum(255, scaled.astype(np.int64) * 255 // full).astype(np.uint8)
    return result


def _sharpen(levels: Gray, middle: int, side_before: int) -> Gray:
    """Make the blurred edges of enlarged strokes as narrow as before, around a level in their middle."""
    values = (levels.astype(np.int64) - middle) * max(levels.shape) // side_before + middle
    sharp: Gray = np.clip(values, 0, 255).astype(np.uint8)
    return sharp
