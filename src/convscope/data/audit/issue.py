"""An issue: one kind of problem, or peculiarity, that the audit of a data set found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from convscope._records import Record

Level = Literal["warning", "note"]


class Issue(Record):
    """One kind of problem in a data set.

    Attributes:
        kind: an identifier that stays the same between versions, such as "near-duplicate".
        level: "warning" if accuracies may be wrong or lower because of it, else "note".
        text: what was found.
        action: what training does about it.
        advice: what a person could do about it.
        files: the files that are affected, paths below the data set's folder; files that belong to each other share a
            tuple.
        rows: the rows of the same files in the store; not part of the JSON.
    """

    kind: str
    level: Level
    text: str
    action: str = ""
    advice: str = ""
    files: tuple[tuple[str, ...], ...] = ()
    rows: tuple[tuple[int, ...], ...] = Field(default=(), exclude=True, repr=False)
