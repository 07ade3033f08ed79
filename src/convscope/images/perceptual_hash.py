"""A 64-bit perceptual hash: images that look alike have hashes that differ in few bits.

The hash of Zauner (2010): gray, resized to 32x32, a two-dimensional discrete cosine transform, and for each of the 8x8
lowest frequencies one bit that says whether it exceeds their median. The bits are those of `imagehash.phash`, except
that coefficients which only float64 noise distinguishes count as equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, FREQUENCIES = 32, 8
DECIMALS = 6  # to which coefficients are rounded, so that noise of 1e-12 decides nothing

# Row k is the k-th basis function of the DCT-II at 32 points: 2 cos(pi k (2n + 1) / 64)
_BASIS = 2 * np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE))


def perceptual_hash(pixels: NDArray[np.uint8]) -> np.uint64:
    """The hash of uint8 pixels (h, w, 1, 3 or 4).

    >>> ramp = np.arange(0, 250, 5, dtype=np.uint8).repeat(50).reshape(50, 50, 1)
    >>> int(perceptual_hash(ramp) ^ perceptual_hash(ramp[::2, ::2])).bit_count()
    0
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    gray = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)
    coefficients = np.round(_BASIS @ gray @ _BASIS.T, DECIMALS)
    bits = coefficients > np.median(coefficients)
    return np.uint64(int.from_bytes(np.packbits(bits).tobytes(), "big"))
