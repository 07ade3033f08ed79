"""The width of strokes, and strokes that are scaled to the width that a network knows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from convscope.images.framing.strokes import scale_strokes, stroke_width


def bar(width: int, length: int, margin: int = 0) -> NDArray[np.uint8]:
    return np.pad(np.full((length, width), 255, np.uint8), margin)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_stroke_width_long_bar_is_its_width(width: int) -> None:
    assert stroke_width(bar(width, 2000)) / 256 == pytest.approx(width, rel=0.01)
    assert stroke_width(bar(width, 2000, margin=4)) == stroke_width(bar(width, 2000))


def test_scale_strokes_thin_lines_are_widened() -> None:
    corner = np.zeros((160, 160), np.uint8)
    corner[:, :2] = corner[-2:] = 255
    thin, wide = (scale_strokes(corner, 20, 20, stroke) for stroke in (1, 600))
    assert thin.shape == wide.shape == (20, 20)
    assert stroke_width(wide) > 1.3 * stroke_width(thin)


def test_scale_strokes_enlarged_strokes_are_sharp() -> None:
    ring = np.pad(np.zeros((3, 3), np.uint8), 2, constant_values=255)
    scaled = scale_strokes(ring, 21, 21, 3 * 256)
    assert np.isin(scaled, (0, 255)).mean() > 0.75
    assert stroke_width(scaled) < stroke_width(np.kron(ring, np.ones((3, 3), np.uint8)))


@given(arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30))), st.integers(1, 2000))
def test_scale_strokes_fits_inside(levels: NDArray[np.uint8], stroke: int) -> None:
    scaled = scale_strokes(levels, 10, 12, stroke)
    assert scaled.shape[0] <= 10
    assert scaled.shape[1] <= 12
    assert scaled.shape[0] == 10 or scaled.shape[1] == 12
