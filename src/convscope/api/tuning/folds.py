"""Parts of the training images that are left out of a training and measured by it; the test split is not touched."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convscope._text import list_some
from convscope.api.training.sources import Pretraining, Sources
from convscope.data.dataset import Dataset, Split
from convscope.data.types import Labels
from convscope.errors import DataError, UsageError

Mask = NDArray[np.bool_]


def dataset_of(sources: Sources) -> Dataset:
    """The images; for both a training from scratch and a backbone, those of the former."""
    if sources.dataset is not None:
        return sources.dataset
    assert sources.pretraining is not None
    return sources.pretraining.images


def assign_folds(train: Split, folds: int, seed: int) -> Labels:
    """The fold of every image, 0 to folds - 1, int64 (n,): classes in equal proportions, groups in one fold each.

    Args:
        train: The images.
        folds: Number of folds, at least 2.
        seed: The same seed gives the same folds.

    Raises:
        UsageError: There are more folds than images in the largest class.
        DataError: All images of a class would be left out together.

    >>> assign_folds(Split(np.zeros((6, 8, 8), np.uint8), np.array([0, 0, 0, 1, 1, 1])), 3, seed=0).tolist()
    [2, 0, 1, 0, 1, 2]
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    largest = int(np.bincount(train.labels).max())
    if folds > largest:
        raise UsageError(f"--folds {folds}: expected at most {largest}, the number of images of the largest class")
    splitter = StratifiedKFold if train.groups is None else StratifiedGroupKFold
    parts = splitter(folds, shuffle=True, random_state=seed % 2**32)
    fold_of = np.zeros(len(train), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class has fewer images than there are folds
        for fold, (_, held) in enumerate(parts.split(train.labels, train.labels, train.groups)):
            fold_of[held] = fold
    return fold_of


def check_folds(fold_of: Labels, labels: Labels, classes: tuple[str, ...]) -> None:
    """Raise DataError if all images of a class are in one fold: the training without it would not know the class."""
    lost = [name for i, name in enumerate(classes) if len(np.unique(fold_of[labels == i])) < 2]
    if lost:
        raise DataError(
            f"expected two or more images that do not belong together in each class, got fewer in {list_some(lost)}: "
            "add images, or leave the class out"
        )


def leave_out(sources: Sources, held: Mask) -> Sources:
    """The same sources with the test split replaced by some of the training images, which are left out of training.

    Args:
        sources: What a training can start from.
        held: Which training images to leave out, bool (n,).
    """
    dataset, pretraining = sources.dataset, sources.pretraining
    return replace(
        sources,
        dataset=dataset and _without(dataset, held),
        pretraining=pretraining and Pretraining(pretraining.backbone, _without(pretraining.images, held)),
    )


def _without(dataset: Dataset, held: Mask) -> Dataset:
    content = hashlib.sha256(dataset.fingerprint.encode() + held.tobytes()).hexdigest()
    return replace(dataset, train=dataset.train.take(~held), test=dataset.train.take(held), content=content)
