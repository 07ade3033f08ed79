"""Relations between the images of a data set before it is split: duplicates, groups, and which images are used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convscope.data.audit.duplicates import Pairs, connected_groups, near_duplicates, same_files
from convscope.data.audit.series import Series, find_series, match_names
from convscope.data.cache.pixel_cache import Store
from convscope.data.formats.listing import Listing
from convscope.data.types import Labels
from convscope.errors import UsageError


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
        """Series of similar images that the splits divide, or that nothing keeps together."""
        together = self.groups
        if self.listing.splits:
            together = np.unique(self.listing.splits, return_inverse=True)[1].astype(np.int64)
        return find_series(self.listing, self.store.pixels, together)

    def _precedence(self, index: int) -> tuple[bool, bool, int]:
        """Sorts first the file to keep of identical ones."""
        split = self.listing.split_of(index)
        return split != "test", split != "validation", index

    def _named_groups(self) -> Iterator[list[int]]:
        """The groups of `group_by`."""
        if not self.group_by:
            return
        try:
            found = match_names(self.listing, self.group_by)
        except re.error as error:
            raise UsageError(f"--group-by {self.group_by!r} is not a regular expression: {error}") from error
        if not found:
            raise UsageError(
                f"--group-by {self.group_by!r} matches no file name: expected one that matches, for example, "
                f"{self.listing.files[0]!r}"
            )
        yield from found
