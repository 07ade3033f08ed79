"""Histograms of images."""

from __future__ import annotations

import numpy as np
import pytest

from convscope.images import statistics


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 5, 1), (4, 3, 3, 3), (7, 9, 1, 4), (50, 8, 8, 1)])
@pytest.mark.parametrize("chunk", [16, 2**22])
def test_histogram_counts_every_value_once(chunk: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are counted in pairs; an odd one is not forgotten."""
    monkeypatch.setattr(statistics, "CHUNK_VALUES", chunk)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = [[(images[..., channel] == value).sum() for value in range(256)] for channel in range(shape[3])]
    np.testing.assert_array_equal(statistics.histogram(images), expected)
