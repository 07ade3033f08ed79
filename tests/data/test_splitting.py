"""Splitting: stratified, disjoint, complete, repeatable, with groups kept whole."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cases.bad_inputs import images, labels
from convscope.data.dataset import Split
from convscope.data.splitting import stratified_group_split
from convscope.errors import DataError, UsageError
from helpers.splits import image_numbers, numbered_images


@given(
    hnp.arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 4)),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
)
def test_stratified_group_split_is_stratified_disjoint_complete_and_repeatable(
    classes: NDArray[np.int64], fraction: float, seed: int
) -> None:
    counts = np.bincount(classes)
    split = Split(numbered_images(len(classes)), classes)
    if counts.max() < 2:
        with pytest.raises(DataError, match="nothing can be held out"):
            stratified_group_split(split, fraction, seed)
        return
    train, held = stratified_group_split(split, fraction, seed)
    assert sorted([*image_numbers(train), *image_numbers(held)]) == list(range(len(classes)))
    for part in (train, held):
        assert np.array_equal(part.labels, classes[image_numbers(part)])
        assert np.all(np.diff(image_numbers(part).astype(int)) > 0)
    for label in np.unique(classes):
        n, out = counts[label], np.count_nonzero(held.labels == label)
        assert n - out >= 1
        assert out >= min(n - 1, 1)
        assert abs(out - fraction * n) <= 0.5 or out in (1, n - 1)
    again = stratified_group_split(split, fraction, seed)[1]
    assert np.array_equal(image_numbers(again), image_numbers(held))


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), min_size=2, max_size=60),
    st.floats(0.05, 0.6),
    st.integers(0, 9),
)
def test_stratified_group_split_keeps_groups_whole(members: list[tuple[int, int]], fraction: float, seed: int) -> None:
    classes, groups = np.array(members, np.int64).T
    split = Split(numbered_images(len(classes)), classes, groups=groups)
    try:
        train, held = stratified_group_split(split, fraction, seed)
    except DataError:
        for label in set(classes):  # every group holds all images of one of its classes
            for group in set(groups[classes == label]):
                touched = [k for k in range(3) if (groups[classes == k] == group).any()]
                assert any((groups[classes == k] == group).all() for k in touched)
        return
    assert sorted([*image_numbers(train), *image_numbers(held)]) == list(range(len(classes)))
    assert train.groups is not None
    assert held.groups is not None
    assert set(train.groups).isdisjoint(held.groups)
    assert set(train.labels) == set(classes)
    largest = max(np.bincount(groups))
    for label in set(classes):
        assert (held.labels == label).sum() <= max(1, fraction * (classes == label).sum() + 0.5) + largest
    again = stratified_group_split(split, fraction, seed)[1]
    assert np.array_equal(image_numbers(again), image_numbers(held))


def test_stratified_group_split_class_of_large_groups_gives_its_smallest() -> None:
    groups = np.repeat([0, 1, 2, 3, 4], [9, 4, 7, 20, 20])
    classes = (groups > 2).astype(np.int64)
    _, held = stratified_group_split(Split(numbered_images(60), classes, groups=groups), 0.1, seed=0)
    assert held.groups is not None
    assert sorted(set(held.groups[held.labels == 0])) == [1]
    assert np.bincount(held.labels).tolist() == [4, 20]


def test_stratified_group_split_groups_of_one_are_stratified_like_images() -> None:
    classes = np.arange(600) % 3
    _, held = stratified_group_split(Split(numbered_images(600), classes, groups=np.arange(600)), 0.2, seed=0)
    assert np.bincount(held.labels).tolist() == [40, 40, 40]


def test_stratified_group_split_is_pinned() -> None:
    """Another choice would put yesterday's test images into today's training set."""
    split = Split(numbered_images(1797), np.arange(1797) % 10)
    held = image_numbers(stratified_group_split(split, 0.2, seed=0)[1])
    assert held[:8].tolist() == [2, 3, 11, 13, 15, 20, 21, 32]
    assert hashlib.sha256(held.tobytes()).hexdigest()[:16] == "674c2b39a7b087a8"
    assert not np.array_equal(image_numbers(stratified_group_split(split, 0.2, seed=1)[1]), held)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_stratified_group_split_fraction_outside_0_to_1_raises(fraction: float) -> None:
    with pytest.raises(UsageError, match="expected a number between 0 and 1"):
        stratified_group_split(Split(images(), labels()), fraction, seed=0)
