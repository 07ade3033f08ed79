"""What is known of a set of pictures before it is split: which are the same, which belong together, which are used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convscope.data.audit.duplicates import Pairs, correlations, near_pairs, same_files, together
from convscope.data.cache.pixel_cache import Store
from convscope.data.dataset import Labels
from convscope.data.formats.listing import Listing
from convscope.errors import UsageError

SERIES = re.compile(r"^(.+)[-_. ]\d+\.\w+$")  # one of several pictures
SERIES_PAIRS = 500  # that are looked at
CLEARLY = 0.1  # more correlated than others of their class


Correlations = NDArray[np.float32]
Match = Callable[[str], re.Match[str] | None]


@dataclass(frozen=True)
class Series:
    """Names that count the pictures of one thing: how many such series, and the mean correlation of pictures.

    Within a series, and between two series of a class. `pattern` would keep each together.
    """

    count: int
    files: int
    within: float
    between: float
    pattern: str


@dataclass(frozen=True, eq=False)
class Survey:
    """A listing, its store, and what they tell. Numbers are those of the listing's files."""

    listing: Listing
    store: Store
    group_by: str | None = None

    @cached_property
    def readable(self) -> NDArray[np.bool_]:
        """Which files are pictures that can be used, (n,)."""
        readable: NDArray[np.bool_] = self.store.facts["height"] > 0
        return readable

    @cached_property
    def same(self) -> list[Labels]:
        """Files with the same content."""
        numbers = np.flatnonzero(self.readable)
        return [numbers[some] for some in same_files(self.store.facts["digest"][numbers])]

    @cached_property
    def conflicts(self) -> list[Labels]:
        """The same files under different classes: nobody knows which is right, so none of them is used."""
        return [some for some in self.same if len(set(self.listing.labels[some])) > 1]

    @cached_property
    def repeats(self) -> list[Labels]:
        """The same files in one class; one of them is used, one of the test set where the set is split."""
        return [some for some in self.same if len(set(self.listing.labels[some])) == 1]

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Which files are trained, validated and tested on, (n,)."""
        used = self.readable.copy()
        for some in self.conflicts:
            used[some] = False
        for some in self.repeats:
            used[some] = False
            used[min(some, key=self._rank)] = True
        return used

    @cached_property
    def near(self) -> Pairs:
        """Pairs of used pictures that are nearly the same."""
        return near_pairs(self.store.facts["hash"], self.store.pixels, np.flatnonzero(self.used))

    @cached_property
    def groups(self) -> Labels:
        """What belongs together, (n,): nearly the same pictures, and those of a group by their names."""
        return together(len(self.listing), [*self.near, *self._named()])

    @cached_property
    def series(self) -> Series | None:
        """Series that nobody named: what the files' names say, if the pictures say so too."""
        if self.group_by or self.listing.parts:
            return None
        names = self._by_name(lambda file: SERIES.match(file.rpartition("/")[2]), across=False)
        members = [some for some in names.values() if len(some) > 1]
        files, classes = sum(map(len, members)), len(self.listing.classes)
        if 2 * files < len(self.listing) or len(members) < 2 * classes:
            return None
        within, between = self._alike(members)
        if not len(between) or within.mean() - between.mean() < max(CLEARLY, 3 * _error(within, between)):
            return None
        return Series(len(members), files, float(within.mean()), float(between.mean()), SERIES.pattern)

    def part(self, number: int) -> str:
        """The split that the set itself puts a file into; nothing where it has none."""
        return self.listing.parts[number] if self.listing.parts else ""

    def _rank(self, number: int) -> tuple[bool, bool, int]:
        part = self.part(number)
        return part != "test", part != "validation", number

    def _named(self) -> Iterator[list[int]]:
        if not self.group_by:
            return
        try:
            pattern = re.compile(self.group_by)
        except re.error as error:
            raise UsageError(f"--group-by {self.group_by!r} is no regular expression: {error}") from error
        across = "/" in self.group_by
        found = self._by_name(lambda file: pattern.search(file if across else file.rpartition("/")[2]), across)
        if not found:
            raise UsageError(f"--group-by {self.group_by!r} matches no file name: try it on {self.listing.files[0]!r}")
        yield from found.values()

    def _by_name(self, match: Match, across: bool) -> dict[tuple[str, ...], list[int]]:
        """The files of each match; of a class, unless groups go across classes."""
        found: dict[tuple[str, ...], list[int]] = {}
        for number, file in enumerate(self.listing.files):
            if hit := match(file):
                key = hit.groups() or (hit.group(),)
                found.setdefault(key if across else (self.listing.class_of(number), *key), []).append(number)
        return found

    def _alike(self, members: list[list[int]]) -> tuple[Correlations, Correlations]:
        """Correlations of two pictures within, and of two between, some of the series."""
        random = np.random.default_rng(0)
        some = [np.array(members[i]) for i in random.permutation(len(members))[:SERIES_PAIRS]]
        inside = np.array([random.choice(series, 2, replace=False) for series in some])
        labels, of = self.listing.labels, np.full(len(self.listing), -1)
        for number, series in enumerate(members):
            of[series] = number
        outside = []
        for one in inside[:, 0]:
            others = np.flatnonzero((labels == labels[one]) & (of != of[one]))
            outside += [(one, random.choice(others))] if len(others) else []
        within, between = (
            correlations(self.store.pixels, np.array(pairs).reshape(-1, 2)) for pairs in (inside, outside)
        )
        return within, between


def _error(a: Correlations, b: Correlations) -> float:
    """The standard error of the difference of two means."""
    return float(np.sqrt(a.var() / len(a) + b.var() / len(b)))
