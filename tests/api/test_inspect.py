"""Showing a data set: its numbers, and the images that are written."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope import _extras, load_data
from convscope.api.inspect import show_dataset
from convscope.errors import DataError, UsageError
from helpers.reporting import RecordingReporter


def test_show_dataset_article_a1_a10_has_numbers_and_first_nine(tmp_path: Path) -> None:
    data = load_data("digits")
    shown = show_dataset("digits", 3, tmp_path)
    image = data.train.images[3]
    values = json.loads(json.dumps(shown.model_dump(mode="json"), allow_nan=False))
    assert values["image"] == {
        "index": 3,
        "label": str(data.train.labels[3]),
        "shape": [8, 8, 1],
        "pixels": image.tolist(),
        "text": "\n".join(" ".join(f"{value:3d}" for value in row) for row in image[:, :, 0].tolist()),
    }
    one, nine = tmp_path / "digits-image-3.png", tmp_path / "digits-first-nine.png"
    assert shown.written == (one, nine)
    assert values["written"] == [str(one), str(nine)]
    with Image.open(one) as drawn:
        assert np.array_equal(np.asarray(drawn), image[:, :, 0])
    with Image.open(nine) as drawn:
        assert min(drawn.size) > 100
    assert (shown.splits["train"].n, shown.splits["test"].n) == (1438, 359)


def test_show_dataset_without_matplotlib_writes_the_image_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_extras, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
    reporter = RecordingReporter()
    shown = show_dataset("digits", 0, tmp_path, reporter)
    assert shown.written == (tmp_path / "digits-image-0.png",)
    assert [path.name for path in tmp_path.iterdir()] == ["digits-image-0.png"]
    assert reporter.messages == ["digits-first-nine.png needs the training extra: pip install 'convscope[train]'"]


def test_show_dataset_wrong_image_or_name_raises_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--image 1438: expected 0..1437, an index of a training image$"):
        show_dataset("digits", 1438, tmp_path)
    with pytest.raises(DataError, match=r"^unknown data set 'digist'"):
        show_dataset("digist", 0, tmp_path)
    assert not list(tmp_path.iterdir())
