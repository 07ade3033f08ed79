"""Which images are left out together, and what training sees of them."""

from __future__ import annotations

import numpy as np
import pytest

from convscope import Dataset
from convscope.api.training.sources import Sources
from convscope.api.tuning.folds import assign_folds, check_folds, leave_out
from convscope.data.dataset import Split
from convscope.errors import DataError, UsageError


def split(labels: list[int], groups: list[int] | None = None) -> Split:
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None] + np.zeros((1, 8, 8), np.uint8)
    return Split(images, np.array(labels), groups=None if groups is None else np.array(groups))


def test_assign_folds_holds_the_same_share_of_each_class() -> None:
    train = split([0] * 40 + [1] * 20)
    folds = assign_folds(train, 4, seed=0)
    for fold in range(4):
        assert np.bincount(train.labels[folds == fold]).tolist() == [10, 5]


def test_assign_folds_depends_on_the_seed_alone() -> None:
    train = split([0, 1] * 20)
    first, again, other = (assign_folds(train, 5, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_assign_folds_keeps_groups_together() -> None:
    groups = [image // 3 for image in range(60)]
    folds = assign_folds(split([group % 2 for group in groups], groups), 5, seed=0)
    assert all(len(set(folds[np.array(groups) == group])) == 1 for group in set(groups))
    assert np.bincount(folds).tolist() == [12] * 5


def test_assign_folds_more_than_images_raises() -> None:
    with pytest.raises(UsageError, match=r"^--folds 4: expected at most 3, the number of images of the largest class$"):
        assign_folds(split([0, 0, 0, 1, 1]), 4, seed=0)


def test_check_folds_class_in_one_fold_raises() -> None:
    with pytest.raises(DataError, match=r"^expected two or more images .* in each class, got fewer in dog: add images"):
        check_folds(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), ("cat", "dog"))


def test_leave_out_makes_the_images_the_test_split() -> None:
    train = split([0, 1, 0, 1, 0, 1])
    dataset = Dataset("set", ("cat", "dog"), train, split([0, 1]), "arrays")
    held = np.array([True, True, False, False, False, False])
    left = leave_out(Sources("", dataset), held).dataset
    assert left is not None
    assert left.train.images[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert left.test.images[:, 0, 0, 0].tolist() == [0, 1]
    assert left.fingerprint != dataset.fingerprint
