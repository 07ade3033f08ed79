"""Color conversions in integers."""

from __future__ import annotations

import numpy as np
from PIL import Image

from convscope.images.color import over_white, to_gray


def test_over_white_every_color_and_alpha_is_nearest_integer() -> None:
    color, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.stack([color, color, color, alpha], axis=2).astype(np.uint8)
    exact_times_255 = color * alpha + 255 * (255 - alpha)
    assert (abs(255 * over_white(pixels)[..., 1].astype(int) - exact_times_255) <= 127).all()


def test_to_gray_is_within_1_of_pillow_and_keeps_gray() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    pillow = np.asarray(Image.fromarray(pixels).convert("L"))
    assert abs(to_gray(pixels)[..., 0].astype(int) - pillow).max() <= 1
    red, green, blue = np.moveaxis(pixels.astype(int), 2, 0)
    np.testing.assert_array_equal(to_gray(pixels)[..., 0], (299 * red + 587 * green + 114 * blue + 500) // 1000)
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_gray(levels[None, :, None].repeat(3, axis=2))[0, :, 0], levels)
