"""Labeled images that a trained network is measured on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convscope._text import pluralize
from convscope.data.dataset import Dataset, Split
from convscope.data.types import Labels


class Changes(NamedTuple):
    """Number of images that preprocessing changed more than in size."""

    inverted: int = 0
    framed: int = 0


class LabeledImages(NamedTuple):
    """Images with labels, of one class or more.

    Attributes:
        images: the images; their labels are indices of `classes`.
        classes: class names.
        description: which images of which data set these are.
        is_own: whether they are of the data set that the network was trained on.
        preprocessed: how the network's preprocessing changed them; None if the images are still as they were.
        is_numbered: whether the classes have no names but numbers, as in an IDX file.
    """

    images: Split
    classes: tuple[str, ...]
    description: str
    is_own: bool = False
    preprocessed: Changes | None = None
    is_numbered: bool = False


def describe_measured(name: str, split: str, images: int, total: int = 0, unreadable: int = 0) -> str:
    """Which images of a data set are measured.

    Args:
        name: of the data set.
        split: the split that was chosen; "" for all images.
        images: number of images that are measured.
        total: number of all images of the data set, if it has other splits.
        unreadable: number of files of the split that cannot be read.

    >>> describe_measured("new", "", 60), describe_measured("new", "test", 12, 60, 1)
    ('all 60 images of new', 'the test split of new: 12 of 60 images; 1 file cannot be read')
    """
    of_all = f" of {total:,}" if total > images else ""
    broken = f"; {pluralize(unreadable, 'file')} cannot be read" if unreadable else ""
    if not split:
        return f"{'all ' if not unreadable else ''}{pluralize(images, 'image')} of {name}{broken}"
    return f"the {split} split of {name}: {images:,}{of_all} {'image' if images == 1 else 'images'}{broken}"


def numbered_images(images: Split, description: str) -> LabeledImages:
    """Images whose labels are numbers, which name their classes; a class may be missing."""
    numbers, labels = np.unique(images.labels, return_inverse=True)
    indices: Labels = labels.reshape(-1).astype(np.int64)
    return LabeledImages(
        Split(images.store, indices, images.rows), tuple(map(str, numbers.tolist())), description, is_numbered=True
    )


def labeled_test_split(dataset: Dataset, name: str) -> LabeledImages:
    """The test split of a data set, whose name or path is `name`."""
    total = sum(map(len, dataset.splits.values()))
    return LabeledImages(dataset.test, dataset.classes, describe_measured(name, "test", len(dataset.test), total))
