"""Statistics of images that preprocessing needs: border colors, background polarity, histograms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convscope.images.color import over_white, to_gray

Pixels = NDArray[np.uint8]
Polarity = Literal["dark", "light", "mixed"]

CHUNK_VALUES = 2**22  # pixel values per step, which bounds the temporary arrays
POLARITY_FRACTION = 0.9  # of the images must have the same background for it to be the data set's polarity
UNIFORM = 255  # a threshold that separates nothing
DARK_BELOW, LIGHT_ABOVE = 64, 191  # gray levels of a border


def border_colors(images: Pixels) -> Pixels:
    """The lower median color of each image's first and last row and column.

    Args:
        images: uint8 (n, h, w, c).

    Returns:
        uint8 (n, c).
    """
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    return np.concatenate([lower_median(chunk[:, edge], axis=1) for chunk in _chunks(images, CHUNK_VALUES)])


def lower_median(values: Pixels, axis: int = 0) -> Pixels:
    """The lower median: number (k - 1) // 2 of k sorted values.

    Args:
        values: uint8, of any shape.
        axis: along which to sort.

    Returns:
        uint8, without that axis.
    """
    middle = (values.shape[axis] - 1) // 2
    median: Pixels = np.partition(values, middle, axis).take(middle, axis)
    return median


def lower_quantile(values: Pixels, numerator: int, denominator: int) -> int:
    """Number (k - 1) * numerator // denominator of k sorted values, uint8 (k,), k at least 1."""
    index = (len(values) - 1) * numerator // denominator
    return int(np.partition(values, index)[index])


def otsu_threshold(values: Pixels) -> int:
    """The threshold that separates values, uint8, best in two classes: up to it, and above it (Otsu, 1979).

    In integers: of all thresholds for which both classes have members, the lowest with the largest
    share0 * share1 * (mean1 - mean0)^2, with shares in 1/16384, rounded down, and means in 1/16, rounded down.
    UNIFORM if all values are equal.

    >>> otsu_threshold(np.array([10, 12, 14, 200, 210], np.uint8))
    14
    """
    counts = np.bincount(values.ravel(), minlength=256)
    numbers, sums = counts.cumsum(), (counts * np.arange(256)).cumsum()
    below, above = numbers, numbers[-1] - numbers
    separate = np.flatnonzero((below > 0) & (above > 0))
    if not separate.size:
        return UNIFORM
    below, above, sums, total = below[separate], above[separate], sums[separate], sums[-1]
    distance = 16 * (total - sums) // above - 16 * sums // below
    between = (16384 * below // numbers[-1]) * (16384 * above // numbers[-1]) * distance**2
    return int(separate[between.argmax()])


def has_light_background(gray: Pixels) -> bool:
    """Whether the border of an image, uint8 (h, w), is light compared with the rest of it; over 127 if all is equal."""
    border, darkest, lightest = int(border_colors(gray[None, ..., None])[0, 0]), int(gray.min()), int(gray.max())
    if darkest == lightest:
        return border > 127
    if border in (darkest, lightest):  # the threshold lies between; finding it would take most of a small image's time
        return border == lightest
    return border > otsu_threshold(gray)


def polarity_of_colors(colors: Pixels) -> Polarity:
    """The polarity of images with these border colors, uint8 (n, c), c = 1 gray, 3 RGB, 4 RGBA."""
    column = colors[:, None]  # (n, 1, c): an image one pixel wide
    if colors.shape[1] == 4:
        column = over_white(column)
    return polarity_of(to_gray(column) if column.shape[2] == 3 else column)


def polarity_of(levels: Pixels) -> Polarity:
    """The background that 90 % or more of the images have, by the gray levels 0..255 of their borders.

    >>> polarity_of(np.array([250, 255, 240], np.uint8))
    'light'
    """
    if (levels < DARK_BELOW).mean() >= POLARITY_FRACTION:
        return "dark"
    return "light" if (levels > LIGHT_ABOVE).mean() >= POLARITY_FRACTION else "mixed"


def histogram(images: Pixels) -> NDArray[np.int64]:
    """How often each value 0..255 occurs in each channel of uint8 (n, h, w, c): int64 (c, 256)."""
    channels = images.shape[3]
    counts = np.zeros((channels, 256), np.int64)
    for chunk in _chunks(images, CHUNK_VALUES // 16):
        for channel in range(channels):
            values = chunk[..., channel].ravel()
            odd = len(values) % 2
            # Two values at a time, because bincount makes an int64 of each number that it counts.
            pairs = np.bincount(values[odd:].view(np.uint16), minlength=2**16).reshape(256, 256)
            counts[channel] += pairs.sum(axis=0) + pairs.sum(axis=1)
            counts[channel, values[:odd]] += 1
    return counts


def histogram_mean(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean value of each channel, float64 (c,), from its histogram, int64 (c, 256)."""
    mean: NDArray[np.float64] = counts @ np.arange(256) / counts.sum(axis=1)
    return mean


def _chunks(images: Pixels, values: int) -> Iterator[Pixels]:
    """The images, about `values` pixel values at a time."""
    count = max(1, values // images[0].size)
    for start in range(0, len(images), count):
        yield images[start : start + count]
