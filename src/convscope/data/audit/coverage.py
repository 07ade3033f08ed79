"""Which classes have no image in a split, so that their accuracy is not measured there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from convscope._text import list_some, pluralize
from convscope.data.audit.issue import Issue
from convscope.data.dataset import Split
from convscope.data.splitting import stratified_group_split
from convscope.errors import DataError

VALIDATION_FRACTION = 0.1  # that training holds out of a data set without a validation split


def coverage_issues(classes: tuple[str, ...], train: Split, test: Split, validation: Split | None) -> Iterator[Issue]:
    """An issue for each split in which a class is missing.

    Args:
        classes: the class names.
        train: the training split, from which training holds out a validation split if there is none.
        test: the test split.
        validation: the validation split, if the data set has one.
    """
    for name, split in (("test", test), ("validation", validation or _held_out(train))):
        counts = np.bincount(split.labels, minlength=len(classes)) if split else np.zeros(len(classes))
        if missing := [classes[i] for i in np.flatnonzero(counts == 0)]:
            noun = pluralize(len(missing), "class", "classes")
            yield Issue(
                kind=f"no-{name}-images",
                level="warning",
                text=f"{noun} without a {name} image: {list_some(missing)}",
                action=f"not part of the {name} accuracy",
                advice=f"add images to {name}, or images that do not belong together, so that some can be held out",
            )


def _held_out(train: Split) -> Split | None:
    """About what training will hold out; None if nothing can be held out."""
    try:
        return stratified_group_split(train, VALIDATION_FRACTION, seed=0)[1]
    except DataError:
        return None
