"""The files of a data set of images, with the class and the split of each. Nothing is decoded here."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convscope._text import natural_order, pluralize
from convscope.data.audit.issue import Issue
from convscope.data.types import Labels
from convscope.errors import DataError

MAX_CLASSES = 1000
MIN_SUBSAMPLE = 10  # files of each class and split


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
        issues: what was noticed while they were listed.
    """

    root: Path
    files: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Labels
    splits: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()

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

    def subsample(self, n: int | None) -> Listing:
        """About n of the files, or all of them: of each class and split the same fraction, but ten or more."""
        if n is None or n >= len(self):
            return self
        names = np.array(self.splits or [""] * len(self))
        kept = []
        for label, split in sorted(set(zip(self.labels.tolist(), names.tolist(), strict=True))):
            members = np.flatnonzero((self.labels == label) & (names == split))
            count = max(round(len(members) * n / len(self)), min(MIN_SUBSAMPLE, len(members)))
            kept.append(members[np.linspace(0, len(members) - 1, count).astype(np.int64)])
        rows = np.sort(np.concatenate(kept))
        return replace(
            self,
            files=tuple(self.files[row] for row in rows),
            labels=self.labels[rows],
            splits=tuple(self.splits[row] for row in rows) if self.splits else (),
        )


def make_listing(root: Path, rows: Sequence[Row], strays: Sequence[str] = (), issues: Sequence[Issue] = ()) -> Listing:
    """The listing of some rows.

    Classes are sorted naturally (2 before 10). Names that differ only in Unicode normalization are the same class. If
    some rows have a split, those without one are left out, which is an issue.

    Args:
        root: the folder that contains the files.
        rows: files with their classes and splits.
        strays: files without a class.
        issues: what was noticed so far.
    """
    found = list(issues)
    if any(row.split for row in rows) and (blank := [row for row in rows if not row.split]):
        rows = [row for row in rows if row.split]
        found.append(_without_split(blank))
    names = [unicodedata.normalize("NFC", row.label) for row in rows]
    classes = tuple(sorted(set(names), key=natural_order))
    number = {name: i for i, name in enumerate(classes)}
    splits = tuple(row.split for row in rows) if any(row.split for row in rows) else ()
    labels = np.array([number[name] for name in names], np.int64)
    return Listing(root, tuple(row.file for row in rows), classes, labels, splits, tuple(strays), tuple(found))


def check_trainable(listing: Listing) -> None:
    """Raise DataError unless a listing has 2 to 1,000 classes, and train and test, or no splits."""
    classes = listing.classes
    if len(classes) < 2:
        table = next((f"; the {issue.text} may have them" for issue in listing.issues if issue.kind == "table"), "")
        raise DataError(
            f"only one class, {classes[0]}: expected a folder per class or, in a table, a label per class, two or more"
            f"{table}"
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"{len(classes):,} classes of {len(listing) / len(classes):.1f} files each: expected at most "
            f"{MAX_CLASSES:,}; is there one folder per image instead of one per class?"
        )
    counts = Counter(listing.splits)
    if counts and (not counts["train"] or not (counts["test"] or counts["validation"])):
        found = ", ".join(f"{count} {split}" for split, count in counts.items())
        blank = sum(len(issue.files) for issue in listing.issues if issue.kind == "without-split")
        found += f", {blank} without a split" if blank else ""
        raise DataError(f"splits without train or without test: found {found}; expected train and test, or no splits")


def _without_split(rows: Sequence[Row]) -> Issue:
    return Issue(
        kind="without-split",
        level="warning",
        text=f"{pluralize(len(rows), 'row')} without a split, among rows that have one",
        action="not used",
        advice="write train, val or test into the empty cells, or remove the column",
        files=tuple((row.file,) for row in rows),
    )
