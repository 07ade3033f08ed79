"""Splits whose images carry their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convscope.data.dataset import Split


def numbered_images(n: int) -> NDArray[np.uint8]:
    """n images of 1x1 pixel; the four channels hold the number of the image."""
    return np.arange(n, dtype="<u4").view(np.uint8).reshape(n, 1, 1, 4)


def image_numbers(split: Split) -> NDArray[np.uint32]:
    """The numbers of the images of a split of `numbered_images`."""
    return np.ascontiguousarray(split.images).view("<u4").reshape(-1)
