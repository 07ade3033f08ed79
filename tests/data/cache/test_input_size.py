"""The size of the network's input, chosen by the images and by the available time."""

from __future__ import annotations

import numpy as np
import pytest

from convscope.data.cache.decode import IMAGE_INFO
from convscope.data.cache.input_size import SECONDS_PER_PIXEL, choose_preprocessing
from convscope.data.options import LoadOptions


def choose(sizes: list[tuple[int, int]], images: int = 1000, **options: float) -> tuple[int, int]:
    """Height and width of the input for images of these heights and widths."""
    sample = np.zeros(len(sizes), IMAGE_INFO)
    sample["height"], sample["width"] = np.array(sizes).T
    record = choose_preprocessing(sample, LoadOptions.model_validate(options), images)
    return record.height, record.width


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)] * 3, (28, 28)),  # all of one small size: unchanged
        ([(12, 40)] * 3, (12, 40)),
        ([(47, 80)] * 3, (47, 80)),
        ([(48, 64)] * 3, (60, 80)),  # all of one size, and large enough for the recipes of large images
        ([(48, 65)] * 3, (64, 64)),  # too large once enlarged by a quarter
        ([(30, 90), (38, 38), (200, 45)], (48, 48)),  # the shorter sides are 30, 38 and 45
        ([(20, 20), (30, 30), (200, 200)], (40, 40)),  # neither the largest nor the mean
        ([(64, 64), (64, 70)], (80, 80)),
        ([(32, 32), (32, 33)], (40, 40)),
        ([(9, 9), (9, 10)], (16, 16)),
        ([(500, 400), (300, 700)], (80, 80)),
        ([(100, 100)] * 3, (80, 80)),
    ],
)
def test_choose_preprocessing_exceeds_the_median_image_by_a_quarter_up_to_80_pixels(
    sizes: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    assert choose(sizes) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.01, 8), (5, 28), (11, 40), (12, 48), (20, 48), (21, 64), (32, 80), (10**6, 80)]
)
def test_choose_preprocessing_large_images_are_limited_by_time(seconds: float, expected: int) -> None:
    """1,000 images of 64x64 pixels take 20.48 seconds of a core."""
    assert SECONDS_PER_PIXEL == 5e-6
    assert choose([(500, 400), (300, 700)], core_seconds=seconds) == (expected, expected)


def test_choose_preprocessing_small_images_are_not_enlarged_by_more_time() -> None:
    assert choose([(37, 37), (38, 60)], core_seconds=10**6) == (48, 48)
    assert choose([(28, 28)] * 3, core_seconds=10**6) == (28, 28)
    assert choose([(28, 28)] * 3, core_seconds=1) == (8, 8)
    assert choose([(48, 64)] * 3, core_seconds=25) == (64, 64)  # not 60 by 80


def test_choose_preprocessing_requested_size_is_kept() -> None:
    assert choose([(500, 400)], image_size=200, core_seconds=1) == (200, 200)
    assert choose([(48, 64)], image_size=64) == (64, 64)
