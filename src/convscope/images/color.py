"""Color conversions in integers: transparency over white, color to gray."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

BT601_WEIGHTS = np.array([299, 587, 114], np.uint32)  # of red, green and blue, in thousandths (ITU-R BT.601)
CHUNK_VALUES = 2**18  # pixels per step, which bounds the temporary arrays


def over_white(pixels: Pixels) -> Pixels:
    """Composite RGBA uint8 (h, w, 4) over white: RGB uint8 (h, w, 3).

    >>> over_white(np.array([[[0, 100, 200, 128]]], np.uint8)).tolist()
    [[[127, 177, 227]]]
    """

    def composite(rows: Pixels) -> Pixels:
        color, alpha = rows[..., :3].astype(np.uint16), rows[..., 3:].astype(np.uint16)
        return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)  # at most 65,152

    return _by_rows(composite, pixels, 3)


def to_gray(pixels: Pixels) -> Pixels:
    """The luma (ITU-R BT.601) of RGB uint8 (h, w, 3): uint8 (h, w, 1).

    >>> to_gray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))[0, :, 0]
    array([ 76, 150,  29], dtype=uint8)
    """

    def luma(rows: Pixels) -> Pixels:
        return ((rows.astype(np.uint32) @ BT601_WEIGHTS + 500) // 1000).astype(np.uint8)[..., None]

    return _by_rows(luma, pixels, 1)


def convert_channels(pixels: Pixels, channels: int, notes: list[str]) -> Pixels:
    """Steps 1 and 2 of the preprocessing.

    Args:
        pixels: uint8 (h, w, 1, 3 or 4).
        channels: of the result: 1, 3 or 4.
        notes: what was done is added to these.

    Returns:
        uint8 (h, w, channels).
    """
    if channels < 4 and pixels.shape[2] == 4:
        if pixels[..., 3].min() < 255:
            notes.append("transparency composited over white")
        pixels = over_white(pixels)
    if channels == 1 and pixels.shape[2] == 3:
        colored, pixels = pixels, to_gray(pixels)
        if (colored != pixels).any():
            notes.append("converted to gray")
    if channels > 1 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if channels == 4 and pixels.shape[2] == 3:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)
    return pixels


def _by_rows(convert: Callable[[Pixels], Pixels], pixels: Pixels, channels: int) -> Pixels:
    """The converted pixels, a few rows at a time."""
    height, width = pixels.shape[:2]
    converted = np.empty((height, width, channels), np.uint8)
    count = max(1, CHUNK_VALUES // width)
    for start in range(0, height, count):
        converted[start : start + count] = convert(pixels[start : start + count])
    return converted
