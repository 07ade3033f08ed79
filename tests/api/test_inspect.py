"""Showing a data set: numbers and figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope import load_data
from convscope.api.inspect import show_dataset
from convscope.errors import DataError, UsageError


def test_a1_a10_a_data_set_shows_its_numbers_and_its_first_nine(tmp_path: Path) -> None:
    data = load_data("digits")
    shown = show_dataset("digits", 3, tmp_path)
    image = data.train.images[3]
    assert shown["image"] == {
        "index": 3,
        "class": str(data.train.labels[3]),
        "shape": "8x8x1",
        "pixels": image.tolist(),
        "text": "\n".join(" ".join(f"{value:3d}" for value in row) for row in image[:, :, 0].tolist()),
    }
    nine, one = (Path(path) for path in shown["written"])
    assert (nine, one) == (tmp_path / "digits-first-nine.png", tmp_path / "digits-image-3.png")
    with Image.open(one) as drawn:
        assert np.array_equal(np.asarray(drawn), image[:, :, 0])
    with Image.open(nine) as drawn:
        assert min(drawn.size) > 100
    assert (shown["splits"]["train"]["n"], shown["splits"]["test"]["n"]) == (1438, 359)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_an_image_that_is_not_there_stops_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--image 1438: digits has 1,438 training images, counted from 0$"):
        show_dataset("digits", 1438, tmp_path)
    with pytest.raises(DataError, match=r"^unknown data set 'digist'"):
        show_dataset("digist", 0, tmp_path)
    assert not list(tmp_path.iterdir())
