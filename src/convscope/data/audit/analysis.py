"""Relations between the images of a data set before it is split: duplicates, groups, and which images are used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convscope.data.audit.duplicates import Pairs, connected_groups, correlations, near_duplicates, same_files
from convscope.data.cache.pixel_cache import Store
from convscope.data.formats.listing import Listing
from convscope.data.types import Labels
from convscope.errors import UsageError

SERIES_PATTERN = re.compile(r"^(.+)[-_. ]\d+\.\w+$")  # a name with a counter
MAX_SERIES_PAIRS = 500  # that are compared
MIN_CORRELATION_GAIN = 0.1  # of images of a series over others of their class

Correlations = NDArray[np.float32]
Match = Callable[[str], re.Match[str] | None]


@dataclass(frozen=True)
class Series:
    """Names that count images of the same thing.

    Attributes:
        count: number of series.
        files: number of files in them.
        within: mean correlation of two images of a series.
        between: mean correlation of images of two series of a class.
        pattern: a regular expression for `group_by` that would keep each series in one split.
    """

    count: int
    files: int
    within: float
    between: float
    pattern: str


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the images of a listing have to do with each other. All indices are those of the listing's files.

    Attributes:
        listing: the files.
        store: their decoded images.
        group_by: see `LoadOptions`.
    """

    listing: Listing
    store: Store
    group_by: str | None = None

    @cached_property
    def readable(self) -> NDArray[np.bool_]:
        """Which files are images that can be used, (n,)."""
        readable: NDArray[np.bool_] = self.store.info["height"] > 0
        return readable

    @cached_property
    def same(self) -> list[Labels]:
        """Files with the same content."""
        indices = np.flatnonzero(self.readable)
        return [indices[some] for some in same_files(self.store.info["digest"][indices])]

    @cached_property
    def conflicts(self) -> list[Labels]:
        """Identical files in different classes: none of them is used, because the right class is unknown."""
        return [some for some in self.same if len(set(self.listing.labels[some])) > 1]

    @cached_property
    def repeats(self) -> list[Labels]:
        """Identical files in one class: one of them is used, that of the test split if there is one."""
        return [some for some in self.same if len(set(self.listing.labels[some])) == 1]

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Which files are used for training, validation and testing, (n,)."""
        used = self.readable.copy()
        for some in self.conflicts:
            used[some] = False
        for some in self.repeats:
            used[some] = False
            used[min(some, key=self._precedence)] = True
        return used

    @cached_property
    def near(self) -> Pairs:
        """Pairs of used images that are nearly identical."""
        return near_duplicates(self.store.info["hash"], self.store.pixels, np.flatnonzero(self.used))

    @cached_property
    def groups(self) -> Labels:
        """A number for each file, (n,), equal for near duplicates and for files that `group_by` groups."""
        return connected_groups(len(self.listing), [*self.near, *self._named_groups()])

    @cached_property
    def series(self) -> Series | None:
        """Series that nobody declared: names with counters whose images are similar."""
        if self.group_by or self.listing.splits:
            return None
        names = self._group_names(lambda file: SERIES_PATTERN.match(file.rpartition("/")[2]), across_classes=False)
        members = [some for some in names.values() if len(some) > 1]
        files, classes = sum(map(len, members)), len(self.listing.classes)
        if 2 * files < len(self.listing) or len(members) < 2 * classes:
            return None
        within, between = self._series_correlations(members)
        if not len(between):
            return None
        gain = within.mean() - between.mean()
        if gain < max(MIN_CORRELATION_GAIN, 3 * _standard_error(within, between)):
            return None
        return Series(len(members), files, float(within.mean()), float(between.mean()), SERIES_PATTERN.pattern)

    def _precedence(self, index: int) -> tuple[bool, bool, int]:
        """Sorts first the file to keep of identical ones."""
        split = self.listing.split_of(index)
        return split != "test", split != "validation", index

    def _named_groups(self) -> Iterator[list[int]]:
        """The groups of `group_by`."""
        if not self.group_by:
            return
        try:
            pattern = re.compile(self.group_by)
        except re.error as error:
            raise UsageError(f"--group-by {self.group_by!r} is not a regular expression: {error}") from error
        across = "/" in self.group_by
        found = self._group_names(lambda file: pattern.search(file if across else file.rpartition("/")[2]), across)
        if not found:
            raise UsageError(
                f"--group-by {self.group_by!r} matches no file name: expected one that matches, for example, "
                f"{self.listing.files[0]!r}"
            )
        yield from found.values()

    def _group_names(self, match: Match, across_classes: bool) -> dict[tuple[str, ...], list[int]]:
        """The files with the same match, and of the same class unless groups extend across classes."""
        found: dict[tuple[str, ...], list[int]] = {}
        for index, file in enumerate(self.listing.files):
            if hit := match(file):
                key = hit.groups() or (hit.group(),)
                found.setdefault(key if across_classes else (self.listing.class_of(index), *key), []).append(index)
        return found

    def _series_correlations(self, members: list[list[int]]) -> tuple[Correlations, Correlations]:
        """Correlations of two images of a series, and of images of two series of a class, for some series."""
        random = np.random.default_rng(0)
        some = [np.array(members[i]) for i in random.permutation(len(members))[:MAX_SERIES_PAIRS]]
        inside = np.array([random.choice(series, 2, replace=False) for series in some])
        labels, series_of = self.listing.labels, np.full(len(self.listing), -1)
        for number, series in enumerate(members):
            series_of[series] = number
        outside = []
        for one in inside[:, 0]:
            others = np.flatnonzero((labels == labels[one]) & (series_of != series_of[one]))
            outside += [(one, random.choice(others))] if len(others) else []
        within, between = (
            correlations(self.store.pixels, np.array(pairs).reshape(-1, 2)) for pairs in (inside, outside)
        )
        return within, between


def _standard_error(a: Correlations, b: Correlations) -> float:
    """The standard error of the difference of two means."""
    return float(np.sqrt(a.var() / len(a) + b.var() / len(b)))
