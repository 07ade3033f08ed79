"""The integer resize: equal to a naive reference, exact at the longest side, and close to Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from convscope.images import resize as module
from convscope.images.resize import resize

Pixels = NDArray[np.uint8]
SIDES = st.integers(1, 40)


def noise(*shape: int, seed: int = 0) -> Pixels:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def resize_line_ref(line: list[int], m: int) -> list[int]:
    """Step 4 of the algorithm as written, in Python's unbounded integers."""
    n, out = len(line), []
    for i in range(m):
        weights = [max(0, 2 * max(n, m) - abs((2 * i + 1) * n - (2 * j + 1) * m)) for j in range(n)]
        total = sum(weights)
        out.append((2 * sum(w * p for w, p in zip(weights, line, strict=True)) + total) // (2 * total))
    return out


def resize_ref(pixels: Pixels, height: int, width: int) -> NDArray[np.int64]:
    rows = np.apply_along_axis(lambda line: resize_line_ref(line.tolist(), height), 0, pixels)
    resized: NDArray[np.int64] = np.apply_along_axis(lambda line: resize_line_ref(line.tolist(), width), 1, rows)
    return resized


@pytest.mark.slow
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3, 4]), st.integers(0, 99))
def test_resize_equals_reference(h: int, w: int, height: int, width: int, channels: int, seed: int) -> None:
    pixels = noise(h, w, channels, seed=seed)
    resized = resize(pixels, height, width)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, resize_ref(pixels, height, width))


def test_resize_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(39, 17, 3)
    whole = resize(pixels, 11, 29)
    monkeypatch.setattr(module, "MAX_VALUES", 250)
    monkeypatch.setattr(module, "MAX_ROWS", 5)
    np.testing.assert_array_equal(resize(pixels, 11, 29), whole)


@pytest.mark.parametrize(("moved_from", "moved_to", "value"), [(0, 0, 1), (0, -2, 1), (1, -1, 0)])
def test_resize_longest_side_is_exact(moved_from: int, moved_to: int, value: int) -> None:
    line = np.repeat(np.array([1, 0], np.uint8), 2**19)
    line[[moved_from, moved_to]] = 0, 1  # the weights are symmetric, so S = T / 2, then 2 more, then 2 fewer
    assert resize(line[:, None, None], 1, 1).item() == value


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 99))
def test_resize_is_within_2_of_pillow(h: int, w: int, height: int, width: int, seed: int) -> None:
    pixels = noise(h, w, 3, seed=seed)
    pillow = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    # Pillow also rounds after each pass, columns first, with weights of 22 bits
    assert abs(resize(pixels, height, width).astype(int) - pillow).max() <= 2
