"""Gray images of more than 8 bits: which of their values are in use, and how these become 0..255.

Cameras and scanners write 10 or 12 bits into files of 16. The high byte of such values has only 4 or 16 levels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FULL_RANGE = (0, 65535)
MIN_FRACTION = 1 / 4  # of the levels that have to be in use


def choose_range(lowest: int, highest: int) -> tuple[int, int]:
    """The range to map to 0..255, for images whose values go from `lowest` to `highest`.

    It holds all values of as many bits as there are, at least 8. If less than a quarter of them is in use, it goes from
    the lowest to the highest value.

    >>> choose_range(0, 60_000), choose_range(12, 3_900), choose_range(30_000, 31_000)
    ((0, 65535), (0, 4095), (30000, 31000))
    """
    largest = max(255, 2 ** highest.bit_length() - 1)
    is_used = highest - lowest + 1 >= MIN_FRACTION * (largest + 1)
    return (0, largest) if is_used else (lowest, highest)


def to_eight_bits(values: NDArray[np.uint16], low: int, high: int) -> NDArray[np.uint8]:
    """Map `low` to 0 and `high` to 255 or a little less: (v - low) * 256 // (high - low + 1). Others are clipped.

    Args:
        values: uint16, of any shape.
        low: the lowest value of the range.
        high: its highest value, at least `low`.

    >>> to_eight_bits(np.array([0, 16, 4095, 5000], np.uint16), 0, 4095)
    array([  0,   1, 255, 255], dtype=uint8)
    """
    distances = values.clip(low, high).astype(np.uint32) - np.uint32(low)
    return (distances * 256 // (high - low + 1)).astype(np.uint8)
