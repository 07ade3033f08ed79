"""The perceptual hash equals that of the ImageHash package, and is close for images that look alike."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from convscope.images.perceptual_hash import perceptual_hash
from helpers.images import Pixels, noise


def expected_hash(pixels: Pixels) -> int:
    """The bits of imagehash.phash, row by row."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return int.from_bytes(np.packbits(imagehash.phash(image).hash).tobytes(), "big")


@given(st.integers(0, 10**6), st.integers(8, 80), st.integers(8, 80), st.sampled_from([1, 3, 4]))
def test_perceptual_hash_of_random_pixels_equals_imagehash(seed: int, height: int, width: int, channels: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    assert perceptual_hash(pixels) == expected_hash(pixels)


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("side", [28, 64, 224])
def test_perceptual_hash_of_photographs_equals_imagehash(name: str, side: int) -> None:
    photograph = load_sample_image(name)
    for top, left in ((0, 0), (100, 200), (200, 400)):
        pixels = np.ascontiguousarray(photograph[top : top + side, left : left + side])
        assert perceptual_hash(pixels) == expected_hash(pixels)


def test_perceptual_hash_of_digits_equals_imagehash() -> None:
    for image in load_digits().images:
        pixels = np.rint(image * 255 / 16).astype(np.uint8)[..., None]
        assert perceptual_hash(pixels) == expected_hash(pixels)


def test_perceptual_hash_of_coarse_squares_equals_imagehash() -> None:
    for seed in range(200):
        assert perceptual_hash(noise(seed, 40, 30)) == expected_hash(noise(seed, 40, 30))


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_perceptual_hash_of_a_constant_image_has_no_random_bits(level: int) -> None:
    assert perceptual_hash(np.full((12, 12, 3), level, np.uint8)) == (1 << 63 if level else 0)


def test_perceptual_hash_of_a_resized_image_is_close() -> None:
    pixels = load_sample_image("china.jpg")[100:356, 200:456]
    small = np.asarray(Image.fromarray(pixels).resize((100, 100)))
    other = load_sample_image("flower.jpg")[100:356, 200:456]
    assert int(perceptual_hash(pixels) ^ perceptual_hash(small)).bit_count() <= 2
    assert int(perceptual_hash(pixels) ^ perceptual_hash(other)).bit_count() > 16
