"""The frame of MNIST, and digits that are redrawn at another size, place, paper and lighting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from convscope.data.load import load_data
from convscope.images.framing.frame import Frame
from convscope.images.framing.ink import find_ink, ink_is_dark
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage
from helpers.framing_reference import framed
from redrawn_digits import Drawing, redraw

Pixels = NDArray[np.uint8]

PAPERS = [(60, 0), (126, 0), (130, 20), (250, 30), (0, 255), (40, 120)]
SIZES = [(16, 16), (40, 60), (300, 200)]
DIGITS = 60


@pytest.fixture(scope="module")
def mnist(data_folder: Path) -> Pixels:
    """MNIST's test images."""
    assert data_folder
    return load_data("mnist").test.images


@pytest.fixture(scope="module")
def record(mnist: Pixels) -> Preprocessing:
    return Preprocessing.plain(mnist)


def correlation(first: Pixels, second: Pixels) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_measure_mnist_has_a_frame_of_20_pixels_centered_by_mass(record: Preprocessing) -> None:
    frame = record.frame
    assert frame is not None
    assert (frame.side, frame.threshold, frame.ink, frame.faintest) == (20, 0, 255, 254)
    assert abs(frame.row / 256 - 14) < 0.05
    assert abs(frame.column / 256 - 14) < 0.05
    assert 0.5 < frame.offset / 256 < 0.6


@pytest.mark.parametrize("name", ["fashion-mnist", "digits"])
def test_measure_sets_without_margin_have_no_frame(name: str, data_folder: Path) -> None:
    assert data_folder
    images = load_data(name).test.images
    assert Frame.measure(images[..., 0]) is None
    assert Frame.measure(255 - images[..., 0]) is None


def test_measure_frame_survives_compression_and_light_paper(mnist: Pixels) -> None:
    noise = np.random.default_rng(0).integers(0, 12, mnist[:300].shape, np.uint8)
    paper = 255 - np.maximum(mnist[:300], noise)
    record = Preprocessing.plain(paper)
    assert record.polarity == "light"
    assert record.frame is not None
    assert (record.frame.side, record.frame.threshold) == (20, 16)


def test_transform_original_digits_are_unchanged(mnist: Pixels, record: Preprocessing) -> None:
    for digit in mnist[:1000]:
        pixels, notes = record.transform(DecodedImage(digit))
        assert (pixels == digit).all()
        assert notes == ()
        inverted, notes = record.transform(DecodedImage(255 - digit))
        assert (inverted == digit).all()
        assert notes == ("inverted because its background is light",)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(("paper", "ink"), PAPERS)
def test_transform_redrawn_digits_look_like_the_originals(
    width: int, height: int, paper: int, ink: int, mnist: Pixels, record: Preprocessing
) -> None:
    digits = mnist[:DIGITS]
    similar = []
    for digit, image in zip(digits, redraw(digits[..., 0], Drawing(width, height, paper, ink)), strict=True):
        pixels, notes = record.transform(DecodedImage(image))
        assert any("framed" in note for note in notes)
        assert any("inverted" in note for note in notes) == (ink < paper)
        similar.append(correlation(pixels, digit))
    assert np.median(similar) > (0.8 if width == 16 else 0.9)
    assert min(similar) > 0.4


@pytest.mark.parametrize(
    "drawing",
    [
        Drawing(300, 200, 220, 60, shadow=0.6, noise=6, jpeg=75),
        Drawing(300, 200, 230, 40, frame=0.05),
        Drawing(300, 200, 230, 40, frame=0.15, shadow=0.4),
        Drawing(40, 60, 200, 60, noise=8),
    ],
    ids=str,
)
def test_transform_photographed_digits_look_like_the_originals(
    drawing: Drawing, mnist: Pixels, record: Preprocessing
) -> None:
    digits = mnist[:DIGITS]
    images = redraw(digits[..., 0], drawing)
    similar = [
        correlation(record.transform(DecodedImage(image))[0], digit)
        for digit, image in zip(digits, images, strict=True)
    ]
    assert np.mean(np.array(similar) > 0.6) > 0.95


def test_transform_low_contrast_is_stretched(mnist: Pixels, record: Preprocessing) -> None:
    faint = 100 + mnist[0] // 8
    pixels, _ = record.transform(DecodedImage(faint))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert correlation(pixels, mnist[0]) > 0.95


@pytest.mark.parametrize("image", [np.full((40, 30), 77, np.uint8), np.zeros((1, 1), np.uint8)])
def test_find_ink_uniform_image_has_none(image: Pixels, record: Preprocessing) -> None:
    assert find_ink(image) is None
    assert record.transform(DecodedImage(image[..., None]))[0].shape == (28, 28, 1)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 300), (2000, 3), (8, 8), (161, 160)])
@pytest.mark.parametrize("seed", range(5))
def test_transform_images_of_any_shape_are_framed(shape: tuple[int, int], seed: int, record: Preprocessing) -> None:
    image = np.random.default_rng(seed).choice(np.array([0, 7, 255], np.uint8), (*shape, 1), p=[0.7, 0.1, 0.2])
    assert record.transform(DecodedImage(image))[0].shape == (28, 28, 1)


def test_ink_is_dark_tells_which_side_is_ink(mnist: Pixels) -> None:
    for digit in mnist[:300, ..., 0]:
        assert ink_is_dark(digit) < 0
        assert ink_is_dark(255 - digit) > 0


@pytest.mark.parametrize(
    "drawing",
    [
        Drawing(10, 12, 0, 255, (1, 1)),
        Drawing(16, 16, 60, 0),
        Drawing(28, 28, 130, 40, noise=5),
        Drawing(30, 40, 200, 60, shadow=0.5, noise=8),
        Drawing(40, 40, 230, 40, frame=0.1),
        Drawing(200, 30, 40, 220),
    ],
    ids=str,
)
def test_transform_equals_the_documented_steps_to_the_bit(
    drawing: Drawing, mnist: Pixels, record: Preprocessing
) -> None:
    assert record.frame is not None
    for image in redraw(mnist[:3, ..., 0], drawing):
        pixels, _ = record.transform(DecodedImage(image))
        assert pixels[..., 0].tolist() == framed(image[..., 0].tolist(), record.frame.model_dump(), 28, 28)
