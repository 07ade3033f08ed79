"""The files of a data set of images, with the class and the split of each. Nothing is decoded here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convscope.data.types import Labels
from convscope.errors import DataError

MAX_CLASSES = 1000
SPLIT_NAMES = {  # as people spell them, in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Row(NamedTuple):
    """A file, the name of its class, and its split: "train", "validation", "test", or "" without a split."""

    file: str
    label: str
    split: str = ""


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of a data set, in a fixed order.

    Attributes:
        root: the folder that contains them.
        files: their paths below `root`, with "/" between folders.
        classes: the class names.
        labels: int64 (n,), indices of `classes`.
        splits: "train", "validation" or "test" for each file; empty if the data set has no splits.
        strays: files without a class.
    """

    root: Path
    files: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Labels
    splits: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        """The path of a file."""
        return self.root / self.files[index]

    def class_of(self, index: int) -> str:
        """The name of a file's class."""
        return self.classes[int(self.labels[index])]

    def split_of(self, index: int) -> str:
        """The split of a file; "" if the data set has no splits."""
        return self.splits[index] if self.splits else ""


def make_listing(root: Path, rows: Sequence[Row], strays: Sequence[str] = ()) -> Listing:
    """The listing of some rows. Classes named by numbers are sorted by number, and come before the others.

    Args:
        root: the folder that contains the files.
        rows: files with their classes and splits.
        strays: files without a class.

    Raises:
        DataError: no class, only one, or more than 1,000; splits without train, or without test and validation.
    """
    classes = tuple(sorted({row.label for row in rows}, key=_class_order))
    if not classes:
        raise DataError(f"no class folders, {len(strays)} files: expected one folder of images per class")
    if len(classes) < 2:
        raise DataError(
            f"only one class, {classes[0]}: expected a folder per class, two or more; did you mean one of its folders?"
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"{len(classes):,} classes of {len(rows) / len(classes):.1f} files each: expected at most "
            f"{MAX_CLASSES:,}; is there one folder per image instead of one per class?"
        )
    splits = tuple(row.split for row in rows)
    if any(splits):
        _check_splits(splits)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[row.label] for row in rows], np.int64)
    files = tuple(row.file for row in rows)
    return Listing(root, files, classes, labels, splits if any(splits) else (), tuple(strays))


def _class_order(name: str) -> tuple[bool, int, str]:
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def _check_splits(splits: tuple[str, ...]) -> None:
    counts = Counter(splits)
    if not counts["train"] or not (counts["test"] or counts["validation"]):
        found = ", ".join(f"{count} {split or 'without a split'}" for split, count in counts.items())
        raise DataError(f"splits without train or without test: found {found}; expected train and test, or no splits")
