"""The frame of MNIST, and digits that are redrawn at another size, place, paper and lighting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from convscope.data.load import load_data
from convscope.images.framing.frame import Frame
from convscope.images.framing.ink import find_ink, ink_is_dark
from convscope.images.framing.surroundings import find_sheet
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


def on_paper(digit: Pixels, side: int = 100, paper: int = 235, ink: int = 30) -> Pixels:
    """A digit, uint8 (28, 28), of about 50 pixels in the middle of paper, uint8 (side, side)."""
    enlarged = np.asarray(Image.fromarray(digit).resize((70, 70), Image.Resampling.BICUBIC)) / 255
    image = np.full((side, side), float(paper))
    first = (side - 70) // 2
    image[first : first + 70, first : first + 70] += (ink - paper) * enlarged
    return image.astype(np.uint8)


def bordered(digit: Pixels, rows: int, columns: int, level: int = 0, **colors: int) -> Pixels:
    return np.pad(on_paper(digit, **colors), ((rows, rows), (columns, columns)), constant_values=level)


def turned(digit: Pixels, degrees: int, table: int = 40, **colors: int) -> Pixels:
    """A sheet that lies askew on a table."""
    sheet = Image.fromarray(on_paper(digit, 130, **colors)).convert("LA")
    sheet = sheet.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    image = Image.new("L", sheet.size, table)
    image.paste(sheet.convert("L"), (0, 0), sheet.split()[1])
    return np.asarray(image)


def rounded(digit: Pixels, table: int = 0, **colors: int) -> Pixels:
    """A card with round corners."""
    mask = Image.new("L", (140, 140), 0)
    ImageDraw.Draw(mask).rounded_rectangle((8, 8, 131, 131), 20, fill=255)
    image = Image.new("L", mask.size, table)
    image.paste(Image.fromarray(on_paper(digit, 140, **colors)), (0, 0), mask)
    return np.asarray(image)


def lined(digit: Pixels, *lines: tuple[int, int, int, int], level: int = 30, **colors: int) -> Pixels:
    """Lines from (x, y) to (x, y)."""
    image = Image.fromarray(on_paper(digit, **colors))
    for line in lines:
        ImageDraw.Draw(image).line(line, level, 2)
    return np.asarray(image)


def boxed(digit: Pixels, inset: int, radius: int = 0, **colors: int) -> Pixels:
    image = Image.fromarray(on_paper(digit, **colors))
    far = 99 - inset
    ImageDraw.Draw(image).rounded_rectangle((inset, inset, far, far), radius, outline=colors.get("ink", 30), width=2)
    return np.asarray(image)


LIGHT_INK = {"paper": 15, "ink": 235}
SURROUNDED: dict[str, Callable[[Pixels], Pixels]] = {
    "border of 21": lambda digit: bordered(digit, 21, 21),
    "border of 50": lambda digit: bordered(digit, 50, 50),
    "gray bars": lambda digit: bordered(digit, 0, 60, 90),
    "white border around black": lambda digit: bordered(digit, 30, 30, 255, **LIGHT_INK),
    "turned by 3 degrees": lambda digit: turned(digit, 3),
    "turned by 12 degrees": lambda digit: turned(digit, 12),
    "black, turned by -8 degrees": lambda digit: turned(digit, -8, 230, **LIGHT_INK),
    "round corners": rounded,
    "black with round corners": lambda digit: rounded(digit, 255, **LIGHT_INK),
    "margin line": lambda digit: lined(digit, (10, 0, 10, 99), level=120),
    "ruled lines": lambda digit: lined(digit, (0, 8, 99, 8), (0, 92, 99, 92), level=60),
    "slanted line": lambda digit: lined(digit, (0, 88, 99, 95)),
    "three sides": lambda digit: lined(digit, (5, 50, 5, 95), (5, 95, 95, 95), (95, 50, 95, 95)),
    "box": lambda digit: boxed(digit, 4),
    "light box": lambda digit: boxed(digit, 8, **LIGHT_INK),
    "rounded box": lambda digit: boxed(digit, 4, 15),
    "contrast of 13": lambda digit: on_paper(digit, paper=130, ink=117),
}


@pytest.mark.parametrize("draw", SURROUNDED.values(), ids=SURROUNDED)
def test_transform_surroundings_and_lines_are_not_ink(
    draw: Callable[[Pixels], Pixels], mnist: Pixels, record: Preprocessing
) -> None:
    similar = []
    for digit in mnist[:DIGITS]:
        pixels, notes = record.transform(DecodedImage(draw(digit[..., 0])[..., None]))
        assert any("framed" in note for note in notes)
        similar.append(correlation(pixels, digit))
    assert np.median(similar) > 0.7
    assert np.mean(np.array(similar) > 0.45) > 0.93  # turned digits are compared with upright ones


@pytest.mark.parametrize("bold", [1, 3])
def test_find_sheet_light_digits_are_no_sheets(bold: int, mnist: Pixels) -> None:
    found = 0
    for digit in mnist[:200, ..., 0]:
        thick = np.asarray(Image.fromarray(digit).filter(ImageFilter.MaxFilter(bold)))
        image = next(redraw(thick[None], Drawing(120, 100, 0, 255, (0.6, 0.9))))[..., 0]
        found += find_sheet(image) is not None
    assert found <= (0 if bold == 1 else 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["border of 21", "turned by 12 degrees", "ruled lines", "box", "rounded box"])
def test_transform_surroundings_equal_the_documented_steps_to_the_bit(
    name: str, mnist: Pixels, record: Preprocessing
) -> None:
    assert record.frame is not None
    image = SURROUNDED[name](mnist[0, ..., 0])
    small = np.asarray(Image.fromarray(image).resize((70, 70), Image.Resampling.BOX))
    pixels, _ = record.transform(DecodedImage(small[..., None]))
    assert pixels[..., 0].tolist() == framed(small.tolist(), record.frame.model_dump(), 28, 28)
