"""Windows and components, compared with what they say in a few lines of plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from convscope.images.framing.morphology import closing, connected_components, local_mean, opening

IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))
RADII = st.integers(1, 5)


@given(IMAGES, RADII)
def test_local_mean_equals_the_loop(gray: NDArray[np.uint8], radius: int) -> None:
    for (y, x), mean in np.ndenumerate(local_mean(gray, radius)):
        part = gray[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].astype(int)
        assert mean == (2 * part.sum() + part.size) // (2 * part.size)


@pytest.mark.slow
@given(IMAGES, RADII)
def test_opening_equals_the_loop(gray: NDArray[np.uint8], radius: int) -> None:
    height, width = gray.shape
    reach = range(-radius, radius + 1)

    def smallest(y: int, x: int) -> int:
        return min(
            int(gray[min(max(y + i, 0), height - 1), min(max(x + j, 0), width - 1)]) for i in reach for j in reach
        )

    opened = [[max(smallest(y + i, x + j) for i in reach for j in reach) for x in range(width)] for y in range(height)]
    assert opening(gray, radius).tolist() == opened
    assert (closing(255 - gray, radius) == 255 - np.array(opened)).all()


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_connected_components_equal_flood_fill(mask: NDArray[np.bool_]) -> None:
    expected, count = np.zeros(mask.shape, int), 0
    for start in np.argwhere(mask):
        if expected[tuple(start)]:
            continue
        count += 1
        waiting = [tuple(start)]
        while waiting:
            y, x = waiting.pop()
            if not expected[y, x] and mask[y, x]:
                expected[y, x] = count
                near = [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
                waiting += [(i, j) for i, j in near if 0 <= i < mask.shape[0] and 0 <= j < mask.shape[1]]
    components, found = connected_components(mask)
    assert found == count
    np.testing.assert_array_equal(components, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_windows_larger_than_the_image_are_accepted(shape: tuple[int, int]) -> None:
    gray = np.full(shape, 9, np.uint8)
    assert (opening(gray, 50) == 9).all()
    assert (local_mean(gray, 50) == 9).all()
