"""Statistics of data sets, and images as numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convscope.data.dataset import Dataset, Split
from convscope.data.statistics import dataset_statistics, image_as_text


def test_dataset_statistics_agree_with_numpy_and_are_json() -> None:
    random = np.random.default_rng(0)
    train = Split(random.integers(3, 250, (30, 5, 6, 3), np.uint8), np.arange(30) % 3)
    test = Split(random.integers(0, 256, (4, 5, 6, 3), np.uint8), np.arange(4) % 2)
    dataset = Dataset("noise", ("a", "b", "c"), train, test, "here")
    values = json.loads(json.dumps(dataset_statistics(dataset).model_dump(mode="json")))
    assert {key: values[key] for key in ("name", "source", "fingerprint", "shape", "classes")} == {
        "name": "noise",
        "source": "here",
        "fingerprint": dataset.fingerprint,
        "shape": [5, 6, 3],
        "classes": ["a", "b", "c"],
    }
    for name, split in dataset.splits.items():
        found = values["splits"][name]
        assert (found["n"], found["shape"]) == (len(split), list(split.images.shape))
        parts = [(found, split.images)]
        parts += [(found["classes"][k], split.images[split.labels == k]) for k in range(3) if (split.labels == k).any()]
        for part, pixels in parts:
            expected = pixels.astype(np.float64)
            assert part["n"] == len(pixels)
            assert (part["min"], part["max"]) == (pixels.min(), pixels.max())
            assert part["mean"] == pytest.approx(expected.mean(), rel=1e-12)
            assert part["std"] == pytest.approx(expected.std(), rel=1e-12)
    assert values["splits"]["test"]["classes"][2] == {
        "name": "c",
        "n": 0,
        "min": None,
        "mean": None,
        "std": None,
        "max": None,
    }


def test_image_as_text_article_a1_is_a_matrix_of_numbers() -> None:
    """A1: 0..255, and color as a third dimension, here 2x3x3 RGB."""
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 5
    assert image_as_text(image) == ("red\n 0 15 30\n45 60 75\n\ngreen\n 5 20 35\n50 65 80\n\nblue\n10 25 40\n55 70 85")
    assert image_as_text(image[..., :1]) == " 0 15 30\n45 60 75"
    assert image_as_text(np.zeros((1, 1, 4), np.uint8)).split() == ["red", "0", "green", "0", "blue", "0", "alpha", "0"]
