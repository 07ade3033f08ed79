"""Whether images look like the training images: features against plain loops, and warnings in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from convscope.data.load import load_data
from convscope.images.color import to_gray
from convscope.images.comparison import TypicalImages, image_features

Pixels = NDArray[np.uint8]
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.sampled_from((1, 3, 4)))


def features(image: Pixels) -> list[int]:
    """The five features of an image, uint8 (h, w, c), written out."""
    gray = (to_gray(image[..., :3]) if image.shape[2] > 1 else image)[..., 0].astype(int)
    (height, width), size = gray.shape, gray.size
    brightness = 16 * int(gray.sum()) // size
    contrast = sum(abs(int(v) - brightness // 16) for v in gray.ravel())
    steps = sum(abs(gray[y, x] - gray[y - 1, x]) for y in range(1, height) for x in range(width))
    steps += sum(abs(gray[y, x] - gray[y, x - 1]) for y in range(height) for x in range(1, width))
    places = [(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)]
    border = sorted(int(gray[place]) for place in places)
    middle = border[(len(border) - 1) // 2]
    colors = [int(max(pixel)) - int(min(pixel)) for pixel in image[..., :3].reshape(size, -1)]
    return [
        brightness,
        16 * contrast // size,
        16 * int(steps) // (2 * size),
        16 * sum(abs(v - middle) for v in border) // len(border),
        16 * sum(colors) // size,
    ]


@given(arrays(np.uint8, SHAPES))
def test_image_features_equal_the_loops(images: Pixels) -> None:
    assert image_features(images).tolist() == [features(image) for image in images]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_warn_each_own_images_are_rarely_unlike(name: str, data_folder: object) -> None:
    assert data_folder
    dataset = load_data(name)
    typical = TypicalImages.measure(dataset.train.images)
    warned = sum(bool(warning) for warning in typical.warn_each(dataset.test.images[:2000]))
    assert warned <= 10
    assert typical.describe_set(image_features(dataset.test.images[:500])) == ""


def test_warn_each_foreign_images_are_unlike(data_folder: object) -> None:
    assert data_folder
    typical = TypicalImages.measure(load_data("mnist").train.images)
    clothes = load_data("fashion-mnist").test.images[:500]
    assert np.mean([bool(warning) for warning in typical.warn_each(clothes)]) > 0.6
    assert "brighter" in typical.describe_set(image_features(clothes))
    (warning,) = typical.warn_each(np.full((1, 28, 28, 1), 240, np.uint8))[0]
    assert warning.startswith("unlike the training images: brighter (brightness 240, training images ")


def test_describe_set_few_images_are_not_judged() -> None:
    typical = TypicalImages.measure(np.random.default_rng(0).integers(0, 255, (100, 8, 8, 1), np.uint8))
    assert typical.describe_set(image_features(np.zeros((19, 8, 8, 1), np.uint8))) == ""
    assert "darker (100 % of the images)" in typical.describe_set(image_features(np.zeros((20, 8, 8, 1), np.uint8)))
