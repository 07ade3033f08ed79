"""Splitting a data set in two: by class, with images that belong together on the same side, always in the same way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convscope.data.dataset import Split
from convscope.data.types import Labels
from convscope.errors import DataError, UsageError

DEFAULT_TEST_FRACTION, DEFAULT_TEST_SEED = 0.2, 0
DEFAULT_TEST_SPLIT_NOTE = "test split: a fixed, stratified 20 %"  # in the source of sets without their own test split


def stratified_group_split(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split in two, class by class; the same arguments always give the same two parts.

    Image i gets the i-th raw 64-bit number of NumPy's PCG64(seed), a stream that NumPy promises never to change. Of
    each class, the images with the lowest numbers are held out: `fraction` of them, rounded half up, but at least one
    and never all. A class with a single image stays in the first part. Both parts keep the order of the split.

    Images of a group stay together. A group has the number of its first image, and is held out if none of its classes
    would then exceed its share. A class whose groups are all too large for that gives up its smallest one.

    Args:
        split: the images to divide.
        fraction: how much to hold out, between 0 and 1.
        seed: of the random numbers.

    Returns:
        The rest and the part held out.

    Raises:
        UsageError: the fraction is not between 0 and 1.
        DataError: no class has two images that do not belong together.

    >>> digits = Split(np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2)
    >>> stratified_group_split(digits, 0.2, seed=0)
    (Split(16 images, 8x8x1), Split(4 images, 8x8x1))
    """
    if not 0 < fraction < 1:
        raise UsageError(f"fraction to hold out {fraction}: expected a number between 0 and 1, such as 0.1")
    numbers = np.random.PCG64(seed).random_raw(len(split))
    if split.groups is None:
        held = _hold_out_images(split.labels, fraction, numbers)
    else:
        held = _hold_out_groups(split.labels, split.groups, fraction, numbers)
    if not held.any():
        raise DataError("nothing can be held out: expected a class with two or more images that do not belong together")
    return split.take(~held), split.take(held)


def default_test_split(everything: Split) -> tuple[Split, Split]:
    """Train and test split of a set without a test split of its own: `stratified_group_split` of 0.2 with seed 0."""
    return stratified_group_split(everything, DEFAULT_TEST_FRACTION, DEFAULT_TEST_SEED)


def _held_out_count(fraction: float, images: int) -> int:
    """How many images of a class are held out."""
    return min(max(1, int(fraction * images + 0.5)), images - 1)


def _hold_out_images(labels: Labels, fraction: float, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """The mask (n,) of the images that are held out."""
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        by_number = members[np.argsort(numbers[members], kind="stable")]
        held[by_number[: _held_out_count(fraction, len(members))]] = True
    return held


def _hold_out_groups(labels: Labels, groups: Labels, fraction: float, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """The mask (n,) of the images that are held out, whole groups at a time."""
    sizes = np.bincount(labels)
    wanted = np.array([_held_out_count(fraction, size) for size in sizes])
    taken, held = np.zeros(len(sizes), int), np.zeros(len(labels), bool)
    by_number = _groups_by_number(groups, numbers)
    for members in by_number:
        classes, count = np.unique(labels[members], return_counts=True)
        if (taken[classes] + count <= wanted[classes]).all():
            held[members], taken[classes] = True, taken[classes] + count
    for members in sorted(by_number, key=len):  # for classes whose groups are all too large
        classes, count = np.unique(labels[members], return_counts=True)
        if not taken[classes].any() and (count < sizes[classes]).all():
            held[members], taken[classes] = True, count
    return held


def _groups_by_number(groups: Labels, numbers: NDArray[np.uint64]) -> list[Labels]:
    """The image indices of each group, groups in the order of the number of their first image."""
    _, firsts = np.unique(groups, return_index=True)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)  # in the order of `firsts`
    return [members[i] for i in np.argsort(numbers[firsts], kind="stable")]
