"""Images of another aspect ratio: "stretch" against rational arithmetic from the definition of its filter."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import floor
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from convscope.images.framing.background import Background
from convscope.images.framing.frame import Frame
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage

Pixels = NDArray[np.uint8]
Line = list[int]
Channels = Literal[1, 3, 4]
SIDES = st.one_of(st.just(1), st.integers(1, 24))
FRAME = Frame(side=20, row=3456, column=3456, offset=16, threshold=0, stroke=512, ink=255, faintest=200)


def record(height: int, width: int, channels: int = 1, **changes: Any) -> Preprocessing:
    """A record that stretches, with a color of padding that shows if there is any."""
    each = {"fill": (77,) * channels, "scale": (1 / 255,) * channels, "mean": (0.0,) * channels, "polarity": "mixed"}
    values = {"height": height, "width": width, "channels": channels, "fit": "stretch", **each, **changes}
    return Preprocessing.model_validate(values)


def rounded(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


def resampled(line: Line, m: int) -> Line:
    """A line of n pixels as m: the mean under a triangle of 1 pixel to both sides, or of n / m if that is more."""
    n = len(line)
    reach = max(Fraction(1), Fraction(n, m))
    result = []
    for i in range(m):
        center = (i + Fraction(1, 2)) * n / m
        weights = [max(Fraction(0), 1 - abs(j + Fraction(1, 2) - center) / reach) for j in range(n)]
        result.append(rounded(sum(w * v for w, v in zip(weights, line, strict=True)) / sum(weights, Fraction())))
    return result


def stretched(plane: list[Line], height: int, width: int) -> list[Line]:
    """First the rows, then the columns, each on its own scale."""
    columns = [resampled([row[x] for row in plane], height) for x in range(len(plane[0]))]
    return [resampled([column[y] for column in columns], width) for y in range(height)]


def colors(pixel: Line, channels: Channels) -> Line:
    """A pixel of 1, 3 or 4 values for a network: over white, and then gray as ITU-R BT.601 weighs it."""
    color = [*pixel[:3]] * (3 if len(pixel) == 1 else 1)
    alpha = pixel[3] if len(pixel) == 4 else 255
    if channels == 4:
        return [*color, alpha]
    color = [rounded(255 + Fraction((c - 255) * alpha, 255)) for c in color]
    if channels == 3:
        return color
    return [rounded(Fraction(sum(w * c for w, c in zip((299, 587, 114), color, strict=True)), 1000))]


@given(
    sides=st.tuples(SIDES, SIDES),
    target=st.tuples(SIDES, SIDES),
    kinds=st.tuples(st.sampled_from([1, 3, 4]), st.sampled_from([1, 3, 4])),
    draw=st.sampled_from([lambda random, shape: random.integers(0, 256, shape),
                          lambda random, shape: random.integers(0, 2, shape) * 255]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_transform_stretch_equals_rational_arithmetic(
    sides: tuple[int, int], target: tuple[int, int], kinds: tuple[int, Channels],
    draw: Callable[..., NDArray[np.int64]], seed: int,
) -> None:  # fmt: skip
    given_channels, channels = kinds
    pixels = draw(np.random.default_rng(seed), (*sides, given_channels)).astype(np.uint8)
    found, notes = record(*target, channels).transform(DecodedImage(pixels))
    converted = [[colors(pixel, channels) for pixel in row] for row in pixels.tolist()]
    planes = [stretched([[pixel[c] for pixel in row] for row in converted], *target) for c in range(channels)]
    assert found.tolist() == np.stack(planes, axis=-1).tolist()
    (height, width), (rows, columns) = sides, target
    assert (f"resized {width}x{height} -> {columns}x{rows}" in notes) == (sides != target)
    assert not any("letterboxed" in note or "cropped" in note for note in notes)


def test_transform_stretch_shows_all_of_the_image_and_nothing_else() -> None:
    pixels = np.zeros((40, 10, 1), np.uint8)
    pixels[:20] = 255
    found, notes = record(8, 16).transform(DecodedImage(pixels))
    assert found.min(axis=(1, 2)).tolist() == [255] * 3 + [224, 31] + [0] * 3  # 3/25 of the weights lie beyond the edge
    assert notes == ("resized 10x40 -> 16x8",)


@pytest.mark.parametrize(("polarity", "ink"), [("dark", 230), ("light", 25)])
def test_transform_stretched_image_is_inverted_by_its_own_border(polarity: str, ink: int) -> None:
    pixels = np.full((60, 12, 1), 255 - ink, np.uint8)
    pixels[20:40, 4:8] = ink
    expected, _ = record(24, 24, polarity=polarity).transform(DecodedImage(pixels))
    found, notes = record(24, 24, polarity=polarity).transform(DecodedImage(255 - pixels))
    assert found.tolist() == expected.tolist()
    assert notes[1:] == (f"inverted because its background is {'light' if polarity == 'dark' else 'dark'}",)


@pytest.mark.parametrize("shared", [{"frame": FRAME}, {"background": Background(level=20, fills=True)}])
def test_record_stretch_with_a_frame_or_a_background_raises(shared: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="expected neither frame nor background with fit 'stretch'"):
        record(28, 28, polarity="dark", **shared)
    assert record(28, 28, polarity="dark", **shared, fit="letterbox")
