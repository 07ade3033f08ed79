"""The background of sets without a frame: borders and margins are cut off, gray paper becomes black."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convscope.data.load import load_data
from convscope.images.framing.background import Background
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage
from helpers.framing_reference import stretched, without_surroundings

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def clothes(data_folder: object) -> Pixels:
    """Fashion-MNIST's test images."""
    assert data_folder
    return load_data("fashion-mnist").test.images


@pytest.fixture(scope="module")
def record(clothes: Pixels) -> Preprocessing:
    return Preprocessing.plain(clothes)


def enlarged(image: Pixels, paper: int = 0, ink: int = 255) -> Pixels:
    """An image of clothes, uint8 (28, 28), as uint8 (80, 80) on paper."""
    levels = np.asarray(Image.fromarray(image).resize((80, 80), Image.Resampling.BICUBIC)) / 255
    pixels: Pixels = (paper + (ink - paper) * levels).astype(np.uint8)
    return pixels


def bordered(image: Pixels, rows: int, columns: int, level: int) -> Pixels:
    return np.pad(image, ((rows, rows), (columns, columns)), constant_values=level)


FOREIGN: dict[str, Callable[[Pixels], Pixels]] = {
    "black border of 2": lambda image: bordered(enlarged(image, 255, 0), 2, 2, 0),
    "black border of 12": lambda image: bordered(enlarged(image, 255, 0), 12, 12, 0),
    "black border of 25": lambda image: bordered(enlarged(image, 255, 0), 25, 25, 0),
    "white border around black": lambda image: bordered(enlarged(image), 10, 10, 255),
    "black bars": lambda image: bordered(enlarged(image, 255, 0), 0, 20, 0),
    "margin of 40": lambda image: bordered(enlarged(image), 40, 40, 0),
    "white margin": lambda image: bordered(enlarged(image, 255, 0), 20, 40, 255),
    "paper of 126": lambda image: enlarged(image, 126, 10),
    "paper of 130": lambda image: enlarged(image, 130, 10),
    "paper of 100": lambda image: enlarged(image, 100, 230),
    "paper of 200": lambda image: enlarged(image, 200, 40),
}


@pytest.mark.parametrize("draw", FOREIGN.values(), ids=FOREIGN)
def test_transform_borders_margins_and_gray_paper_look_like_the_originals(
    draw: Callable[[Pixels], Pixels], clothes: Pixels, record: Preprocessing
) -> None:
    similar, grounds = [], []
    for image in clothes[:100, ..., 0]:
        pixels, _ = record.transform(DecodedImage(draw(image)[..., None]))
        similar.append(np.corrcoef(pixels.ravel(), image.ravel())[0, 1])
        grounds.append(np.median(pixels[[0, -1]]))
    assert np.median(grounds) <= 16  # correlation does not see a gray background
    assert np.median(similar) > 0.9
    assert np.mean(np.array(similar) > 0.7) >= 0.9


@pytest.mark.parametrize("name", ["fashion-mnist", "digits"])
def test_transform_own_images_are_unchanged(name: str, data_folder: object) -> None:
    assert data_folder
    dataset = load_data(name)
    record = Preprocessing.plain(dataset.train.images)
    assert record.background == Background(level=16, fills=True)
    for image in dataset.test.images[:1000]:
        pixels, notes = record.transform(DecodedImage(image))
        assert (pixels == image).all()
        assert notes == ()


def test_transform_notes_name_the_cut_and_the_stretch(clothes: Pixels, record: Preprocessing) -> None:
    image = bordered(enlarged(clothes[0, ..., 0], 130, 10), 30, 50, 130)
    _, (cut, *_, stretch, _) = record.transform(DecodedImage(image[..., None]))
    assert cut.startswith("cut out of its surroundings 180x140 -> ")
    assert stretch == "contrast stretched from the background to white"


def test_measure_gray_backgrounds_and_small_subjects_are_kept() -> None:
    images = np.random.default_rng(0).integers(20, 50, (200, 20, 20), np.uint8)
    images[:, 8:12, 8:12] = 255
    measured = Background.measure(images // 4)
    assert not measured.fills
    assert 23 <= measured.level <= 26
    wide = np.pad(images[0] // 4, 30, constant_values=8)
    assert Background(level=24, fills=False).crop(wide) is None
    subject = Background(level=24, fills=True).crop(wide)
    assert subject is not None
    assert subject.box == (slice(38, 42), slice(38, 42))
    assert subject.around is not None
    assert subject.around.shape == wide.shape


def test_measure_frame_needs_no_background(data_folder: object) -> None:
    assert data_folder
    assert Preprocessing.plain(load_data("mnist").test.images).background is None


@pytest.mark.parametrize("name", FOREIGN)
def test_background_equals_the_documented_steps_to_the_bit(name: str, clothes: Pixels) -> None:
    for image in clothes[:2, ..., 0]:
        drawn = np.ascontiguousarray(FOREIGN[name](image)[::2, ::2])
        for fills in (True, False):
            subject = Background(level=16, fills=fills).crop(drawn)
            cut = drawn if subject is None else drawn[subject.box]
            assert cut.tolist() == without_surroundings(drawn.tolist(), fills)
        after = Background(level=16, fills=True).stretch_contrast(drawn, drawn)
        assert (drawn if after is None else after).tolist() == stretched(drawn.tolist(), 16)


def test_transform_polarity_of_a_subject_cut_from_its_margin_is_that_of_the_margin() -> None:
    """Digits whose strokes reach the border of their box are no light backgrounds."""
    digits = load_data("digits")
    record = Preprocessing.plain(digits.train.images)
    assert record.background is not None
    assert record.background.fills
    for image in digits.test.images[:60, ..., 0]:
        drawn = np.pad(enlarged(image), 24)
        dark, notes = record.transform(DecodedImage(drawn[..., None]))
        light, other_notes = record.transform(DecodedImage(255 - drawn[..., None]))
        assert not any(note.startswith("inverted") for note in notes)
        assert any(note == "inverted because its background is light" for note in other_notes)
        assert abs(dark.astype(int) - light).max() <= 1
