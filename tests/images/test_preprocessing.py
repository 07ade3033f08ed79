"""The preprocessing record: every step of the algorithm, and what is measured on training images."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from convscope.images import statistics
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage
from convscope.images.resize import resize

Pixels = NDArray[np.uint8]
SIDES = st.integers(1, 40)


def record(height: int = 28, width: int = 28, channels: int = 1, **changes: Any) -> Preprocessing:
    """A record of plain values."""
    each = {"fill": (0,) * channels, "scale": (1 / 255,) * channels, "mean": (0.0,) * channels, "polarity": "mixed"}
    return Preprocessing.model_validate({"height": height, "width": width, "channels": channels, **each, **changes})


def noise(*shape: int, seed: int = 0) -> Pixels:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.slow
def test_transform_25_megapixels_needs_little_memory() -> None:
    image = DecodedImage(np.full((4000, 6250, 4), [200, 200, 200, 255], np.uint8))
    tracemalloc.start()
    pixels, notes = record(224, 224).transform(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6  # 75 MB in RGB, and as much again to compare it with 25 MB in gray
    assert pixels[:40].max() == 0
    assert (pixels[40:183] == 200).all()
    assert notes == ("resized 6250x4000 -> 224x143", "letterboxed to 224x224")


@pytest.mark.parametrize(
    ("shape", "target", "kept", "note"),
    [
        ((40, 20), (8, 8), (slice(10, 30), slice(0, 20)), "cropped 20x40 -> 20x20"),
        ((20, 41), (8, 8), (slice(0, 20), slice(10, 30)), "cropped 41x20 -> 20x20"),
        ((30, 30), (8, 16), (slice(7, 22), slice(0, 30)), "cropped 30x30 -> 30x15"),
        ((16, 16), (8, 8), (slice(0, 16), slice(0, 16)), None),
    ],
)
def test_transform_crop_keeps_the_center(
    shape: tuple[int, int], target: tuple[int, int], kept: tuple[slice, slice], note: str | None
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    record = Preprocessing.plain(np.zeros((1, *target, 3), np.uint8)).model_copy(update={"fit": "crop"})
    transformed, notes = record.transform(DecodedImage(pixels))
    assert np.array_equal(transformed, resize(np.ascontiguousarray(pixels[kept]), *target))
    assert (note in notes) == (note is not None)
    assert not any("letterboxed" in some for some in notes)


@given(st.integers(1, 300), st.integers(1, 300), SIDES, SIDES)
def test_transform_letterbox_keeps_aspect_ratio_and_fills_one_side(h: int, w: int, height: int, width: int) -> None:
    pixels, _ = record(height, width, fill=(7,)).transform(DecodedImage(np.full((h, w, 1), 255, np.uint8)))
    assert pixels.shape == (height, width, 1)
    inside = pixels[..., 0] == 255
    assert (pixels[..., 0][~inside] == 7).all()
    top, left = np.argwhere(inside)[0]
    bottom, right = np.argwhere(inside)[-1] + 1
    rows, columns = bottom - top, right - left
    assert inside.sum() == rows * columns
    assert (top, left) == ((height - rows) // 2, (width - columns) // 2)
    factor = min(Fraction(height, h), Fraction(width, w))
    for side, given_side in ((rows, h), (columns, w)):
        assert side == 1 or abs(int(side) - given_side * factor) <= Fraction(1, 2)
    assert rows == height or columns == width


@pytest.mark.parametrize(
    ("pixels", "channels", "expected", "notes"),
    [
        ([[[9]]], 1, [[[9]]], ()),
        ([[[9]]], 3, [[[9, 9, 9]]], ()),
        ([[[9]]], 4, [[[9, 9, 9, 255]]], ()),
        ([[[9, 9, 9]]], 1, [[[9]]], ()),
        ([[[255, 0, 0]]], 1, [[[76]]], ("converted to gray",)),
        ([[[1, 2, 3]]], 3, [[[1, 2, 3]]], ()),
        ([[[1, 2, 3]]], 4, [[[1, 2, 3, 255]]], ()),
        ([[[1, 2, 3, 255]]], 3, [[[1, 2, 3]]], ()),
        ([[[0, 100, 200, 128]]], 3, [[[127, 177, 227]]], ("transparency composited over white",)),
        ([[[50, 50, 50, 0]]], 1, [[[255]]], ("transparency composited over white",)),
        ([[[255, 0, 0, 0]]], 1, [[[255]]], ("transparency composited over white",)),
        ([[[1, 2, 3, 4]]], 4, [[[1, 2, 3, 4]]], ()),
    ],
)
def test_transform_channels_are_converted(
    pixels: list[Any], channels: int, expected: list[Any], notes: tuple[str, ...]
) -> None:
    transformed, found = record(1, 1, channels).transform(DecodedImage(np.array(pixels, np.uint8)))
    assert transformed.tolist() == expected
    assert found == notes


def framed(border: int, middle: int) -> DecodedImage:
    pixels = np.full((28, 28, 1), middle, np.uint8)
    pixels[[0, -1]] = pixels[:, [0, -1]] = border
    return DecodedImage(pixels)


@pytest.mark.parametrize(
    ("polarity", "border", "inverted"),
    [
        ("dark", 61, "light"),
        ("dark", 59, None),
        ("dark", 126, "light"),
        ("light", 59, "dark"),
        ("light", 61, None),
        ("mixed", 255, None),
        ("mixed", 0, None),
    ],
)
def test_transform_polarity_matches_the_network(polarity: str, border: int, inverted: str | None) -> None:
    pixels, notes = record(polarity=polarity).transform(framed(border, 60))
    assert pixels[14, 14, 0] == (195 if inverted else 60)
    assert pixels[0, 0, 0] == (255 - border if inverted else border)
    assert notes == ((f"inverted because its background is {inverted}",) if inverted else ())


@pytest.mark.parametrize(("level", "inverted"), [(0, False), (127, False), (128, True), (255, True)])
def test_transform_uniform_image_is_inverted_if_it_is_light(level: int, inverted: bool) -> None:
    pixels, _ = record(polarity="dark").transform(DecodedImage(np.full((28, 28, 1), level, np.uint8)))
    assert (pixels == (255 - level if inverted else level)).all()


def test_transform_color_is_never_inverted() -> None:
    pixels, notes = record(channels=3, polarity="dark").transform(framed(255, 60))
    assert pixels.max() == 255
    assert notes == ()


def test_transform_image_that_fits_is_unchanged_and_notes_add_up() -> None:
    pixels = noise(28, 28, 1)
    transformed, notes = record().transform(DecodedImage(pixels))
    np.testing.assert_array_equal(transformed, pixels)
    assert notes == ()
    image = DecodedImage(np.full((480, 640, 4), [250, 240, 230, 200], np.uint8), ("rotated by its EXIF orientation",))
    transformed, notes = record(polarity="dark").transform(image)
    assert notes == (
        "rotated by its EXIF orientation",
        "transparency composited over white",
        "converted to gray",
        "resized 640x480 -> 28x21",
        "inverted because its background is light",
        "letterboxed to 28x28",
    )
    assert np.flatnonzero(transformed[:, 5, 0]).tolist() == list(range(3, 24))


@pytest.mark.parametrize(
    ("dark", "light", "polarity"),
    [(90, 10, "dark"), (89, 11, "mixed"), (10, 90, "light"), (11, 89, "mixed"), (0, 100, "light"), (100, 0, "dark")],
)
def test_plain_polarity_needs_nine_images_in_ten(dark: int, light: int, polarity: str) -> None:
    images = np.repeat(np.array([63, 192], np.uint8), [dark, light])[:, None, None, None].repeat(6, 1).repeat(6, 2)
    images[:, 2:4, 2:4] = 120  # only the border counts
    measured = Preprocessing.plain(images)
    mean = ((dark * 63 + light * 192) * 32 + 100 * 120 * 4) / 3600
    assert measured.polarity == polarity
    assert measured.fill == ({"dark": 63, "light": 192, "mixed": int(mean + 0.5)}[polarity],)


def test_plain_gray_borders_are_mixed_and_fill_is_per_channel() -> None:
    assert Preprocessing.plain(np.full((4, 5, 5, 1), 64, np.uint8)).polarity == "mixed"
    assert Preprocessing.plain(np.full((4, 5, 5, 1), 191, np.uint8)).polarity == "mixed"
    navy = np.full((4, 5, 5, 3), [0, 0, 128], np.uint8)
    assert Preprocessing.plain(navy).polarity == "dark"
    assert Preprocessing.plain(navy).fill == (0, 0, 128)
    clear = np.full((4, 5, 5, 4), [0, 0, 0, 0], np.uint8)
    assert Preprocessing.plain(clear).polarity == "light"
    assert Preprocessing.plain(clear).fill == (0, 0, 0, 0)


def test_plain_polarity_uses_the_lower_median() -> None:
    images = np.zeros((1, 2, 2, 1), np.uint8)
    images[0, 0] = 255
    assert Preprocessing.plain(images).polarity == "dark"  # number (4 - 1) // 2 of 0, 0, 255, 255 is 0


def test_plain_article_a11_divides_by_255(data_folder: Path) -> None:
    """A11: reshape to (n, 28, 28, 1), float32, divide by 255."""
    raw = gzip.decompress((data_folder / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    plain = Preprocessing.plain(images)
    assert plain.model_copy(update={"frame": None, "typical": None}) == record(28, 28, 1, polarity="dark")
    network_input = plain.normalize(images[:500])
    assert network_input.dtype == np.float32
    assert network_input.shape == (500, 28, 28, 1)
    np.testing.assert_allclose(network_input, images[:500] / 255, rtol=1.2e-7)  # two roundings to float32
    assert (network_input.min(), network_input.max()) == (0, 1)


@pytest.mark.parametrize("chunk", [50, 2**22])
def test_standardized_has_mean_0_and_std_1(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "CHUNK_VALUES", chunk)
    images = (noise(50, 7, 6, 4) // np.array([1, 2, 4, 1])).astype(np.uint8)
    images[..., 3] = 200
    values = Preprocessing.standardized(images).normalize(images).astype(float)
    np.testing.assert_allclose(values.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=(0, 1, 2)), [1, 1, 1, 0], atol=1e-5)


def test_normalize_scales_then_subtracts_mean_in_float32() -> None:
    images = noise(2, 3, 3, 3)
    scale, mean = (0.1, 1 / 3, 2.0), (1e-3, 0.7, 0.0)
    expected = images.astype(np.float32) * np.array(scale, np.float32) - np.array(mean, np.float32)
    np.testing.assert_array_equal(record(3, 3, 3, scale=scale, mean=mean).normalize(images), expected)


def test_record_round_trips_through_json() -> None:
    measured = Preprocessing.standardized(noise(5, 4, 4, 3))
    assert Preprocessing.model_validate_json(measured.model_dump_json()) == measured


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 2}, "Input should be 1, 3 or 4"),
        ({"fill": (0, 0)}, "expected 1 values in fill, one per channel"),
        ({"fill": (256,)}, "less than or equal to 255"),
        ({"scale": (1.0, 1.0)}, "expected 1 values in scale"),
        ({"scale": (float("inf"),)}, "finite number"),
        ({"mean": ()}, "expected 1 values in mean"),
        ({"height": 0}, "greater than or equal to 1"),
        ({"width": 100_000}, "less than or equal to 16384"),
        ({"polarity": "blue"}, "Input should be 'dark', 'light' or 'mixed'"),
        ({"fit": "squeeze"}, "Input should be 'letterbox', 'crop' or 'stretch'"),
        ({"gamma": 2.2}, "Extra inputs are not permitted"),
    ],
)
def test_record_wrong_values_raise(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        record(**changes)


def test_record_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record().height = 5


def test_images_import_no_torch() -> None:
    code = "import sys, convscope.images.filters, convscope.images.preprocessing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def ring(side: int, background: int, ink: int, shift: int = 0, width: int = 2) -> Pixels:
    """A square ring in the middle of 28x28, or moved."""
    image = np.full((28, 28, 1), background, np.uint8)
    first = (28 - side) // 2 + shift
    image[first : first + side, first : first + side] = ink
    image[first + width : first + side - width, first + width : first + side - width] = background
    return image


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("kind", ["framed", "background", "mixed", "colors"])
def test_transform_each_equals_transform_of_each(kind: str, light: bool) -> None:
    images = [ring(20 if kind == "framed" else 20 + i % 9, i % 8, 200 + i) for i in range(40)]
    stack = np.stack([255 - image if light else image for image in images])
    stack = np.concatenate([stack, 255 - stack]) if kind == "mixed" else stack
    stack = stack.repeat(3, axis=3) if kind == "colors" else stack
    preprocessing = Preprocessing.plain(stack)
    assert (preprocessing.frame is not None, preprocessing.background is not None) == (
        kind == "framed", kind == "background",
    )  # fmt: skip
    others = [
        *stack[:9], *(255 - stack[:9]), ring(20, 60, 220), ring(12, 0, 255), ring(20, 0, 255, shift=4), ring(20, 0, 40),
        np.zeros((28, 28, 1), np.uint8), np.full((28, 28, 1), 127, np.uint8), np.full((28, 28, 1), 128, np.uint8),
        noise(28, 28, 1), noise(28, 28, 3, seed=1), noise(28, 28, 4, seed=2), noise(20, 30, 1, seed=3),
        *(noise(28, 28, 1, seed=seed) // 128 * 255 for seed in range(40)),
        *(noise(28, 28, 1, seed=seed) // 60 for seed in range(9)),
    ]  # fmt: skip
    decoded = [DecodedImage(pixels, (f"note {i}",)) for i, pixels in enumerate(others)]
    decoded.append(DecodedImage(ring(20, 0, 255), deep=noise(28, 28).astype(np.uint16)))
    expected, found = [preprocessing.transform(image) for image in decoded], preprocessing.transform_each(decoded)
    for (pixels, notes), (wanted, wanted_notes) in zip(found, expected, strict=True):
        assert notes == wanted_notes
        np.testing.assert_array_equal(pixels, wanted)
    unchanged = [i for i, (pixels, _) in enumerate(found) if pixels is decoded[i].pixels]
    assert len(unchanged) >= 9
    assert preprocessing.transform_each([]) == []
