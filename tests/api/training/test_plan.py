"""The preprocessing that a plan measures on the training images."""

from __future__ import annotations

import numpy as np
import pytest

from convscope.api.training.plan import measure_preprocessing
from convscope.data.dataset import Dataset, Split
from convscope.images.preprocessing import Preprocessing
from convscope.training.recipes import RECIPES
from convscope.training.resolve import TrainData


def brighter_and_brighter(images: int = 100) -> TrainData:
    """4x4 images, the pixels of each of one value: its number."""
    store = np.broadcast_to(np.arange(images, dtype=np.uint8)[:, None, None, None], (images, 4, 4, 1))
    split = Split(np.ascontiguousarray(store), np.arange(images) % 2)
    return TrainData(Dataset("gray", ("even", "odd"), split, split, "made here"), split, split, None)


@pytest.mark.parametrize(
    ("values", "numbers"),
    [(None, range(100)), (1600, range(100)), (16 * 4 + 15, [0, 33, 66, 99]), (16 * 2, [0, 99])],
)
def test_measure_preprocessing_uses_no_more_values_than_asked_for(values: int | None, numbers: list[int]) -> None:
    """They are those of images spread evenly over the training images."""
    data, recipe = brighter_and_brighter(), RECIPES["default"]
    found = measure_preprocessing(data, recipe) if values is None else measure_preprocessing(data, recipe, values)
    expected = Preprocessing.standardized(data.train.images[list(numbers)])
    assert (found.scale, found.mean) == (expected.scale, expected.mean)
    assert found.mean[0] == pytest.approx(np.mean(numbers) / np.std(numbers), rel=1e-5)
