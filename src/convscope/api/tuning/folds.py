"""Parts of the training images that are left out of a training and measured by it; the test split is not touched."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convscope._text import list_some
from convscope.api.training.sources import Pretraining, Sources
from convscope.data.dataset import Dataset, Split
from convscope.data.types import Labels
from convscope.errors import DataError, UsageError

Mask = NDArray[np.bool_]
PARTS = 5  # of the training images, one of which a search measures on
MANY_IMAGES, MANY_PARTS = 20_000, 10


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

    >>> folds = assign_folds(Split(np.zeros((6, 8, 8), np.uint8), np.array([0, 0, 0, 1, 1, 1])), 3, seed=0)
    >>> sorted(folds[:3].tolist()), sorted(folds[3:].tolist())
    ([0, 1, 2], [0, 1, 2])
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
    return _replace_datasets(sources, lambda dataset: _without(dataset, held))


def measured_part(sources: Sources, seed: int) -> Sources:
    """The same sources with the test split replaced by images that a search measures on.

    They are the validation images of the data set, or a part of the training images, which is left out of training.

    Args:
        sources: What a training can start from.
        seed: Of that part.
    """
    dataset = dataset_of(sources)
    if dataset.validation is not None:
        return _replace_datasets(sources, _with_validation_as_test)
    train = dataset.train
    parts = MANY_PARTS if len(train) >= MANY_IMAGES else max(2, min(PARTS, int(np.bincount(train.labels).max())))
    part_of = assign_folds(train, parts, seed)
    check_folds(part_of, train.labels, dataset.classes)
    return leave_out(sources, part_of == 0)


def _without(dataset: Dataset, held: Mask) -> Dataset:
    content = hashlib.sha256(dataset.fingerprint.encode() + held.tobytes()).hexdigest()
    return replace(dataset, train=dataset.train.take(~held), test=dataset.train.take(held), content=content)


def _with_validation_as_test(dataset: Dataset) -> Dataset:
    assert dataset.validation is not None
    content = hashlib.sha256(f"{dataset.fingerprint} validation".encode()).hexdigest()
    return replace(dataset, test=dataset.validation, validation=None, content=content)


def _replace_datasets(sources: Sources, change: Callable[[Dataset], Dataset]) -> Sources:
    dataset, pretraining = sources.dataset, sources.pretraining
    return replace(
        sources,
        dataset=dataset and change(dataset),
        pretraining=pretraining and Pretraining(pretraining.backbone, change(pretraining.images)),
    )
