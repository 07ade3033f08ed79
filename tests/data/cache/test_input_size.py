"""How large the network's input is, by the pictures and by the time that there is."""

from __future__ import annotations

import numpy as np
import pytest

from convscope.data.cache.decode import FACTS
from convscope.data.cache.input_size import PIXEL_SECONDS, choose_preprocessing
from convscope.data.options import LoadOptions


def side(sizes: list[tuple[int, int]], pictures: int = 1000, **asked: float) -> tuple[int, int]:
    """Of the input for pictures (height, width)."""
    sample = np.zeros(len(sizes), FACTS)
    sample["height"], sample["width"] = np.array(sizes).T
    frame = choose_preprocessing(sample, LoadOptions.model_validate(asked), pictures)
    return frame.height, frame.width


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)] * 3, (28, 28)),  # all alike and small: as they are
        ([(12, 40)] * 3, (12, 40)),
        ([(47, 80)] * 3, (47, 80)),
        ([(48, 64)] * 3, (60, 80)),  # all alike, and large enough for the recipes of pictures
        ([(48, 65)] * 3, (64, 64)),  # a quarter more is too large
        ([(30, 90), (38, 38), (200, 45)], (48, 48)),  # the shorter sides are 30, 38 and 45
        ([(20, 20), (30, 30), (200, 200)], (40, 40)),  # not the largest, nor the mean
        ([(64, 64), (64, 70)], (80, 80)),
        ([(32, 32), (32, 33)], (40, 40)),
        ([(9, 9), (9, 10)], (16, 16)),
        ([(500, 400), (300, 700)], (80, 80)),
        ([(100, 100)] * 3, (80, 80)),
    ],
)
def test_the_input_is_a_quarter_larger_than_the_median_picture_but_no_more_than_80_pixels(
    sizes: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    assert side(sizes) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.01, 8), (5, 28), (11, 40), (12, 48), (20, 48), (21, 64), (32, 80), (10**6, 80)]
)
def test_the_time_decides_how_large_large_pictures_may_be(seconds: float, expected: int) -> None:
    """1,000 pictures of 64x64 pixels take 20.48 seconds of a core."""
    assert PIXEL_SECONDS == 5e-6
    assert side([(500, 400), (300, 700)], core_seconds=seconds) == (expected, expected)


def test_small_pictures_are_not_blown_up_because_there_is_time() -> None:
    assert side([(37, 37), (38, 60)], core_seconds=10**6) == (48, 48)
    assert side([(28, 28)] * 3, core_seconds=10**6) == (28, 28)
    assert side([(28, 28)] * 3, core_seconds=1) == (8, 8)
    assert side([(48, 64)] * 3, core_seconds=25) == (64, 64)  # not 60 by 80


def test_who_asks_for_a_size_gets_it() -> None:
    assert side([(500, 400)], image_size=200, core_seconds=1) == (200, 200)
    assert side([(48, 64)], image_size=64) == (64, 64)
