"""What a check of a data set found, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["warning", "note"]


@dataclass(frozen=True)
class Issue:
    """One kind of thing that was found.

    kind: a word that stays the same between versions. level: "warning" where the numbers may be wrong or worse for it.
    text: what was found. action: what training does about it. advice: what a person could do. files: paths below the
    data set's folder, those that belong to each other in one tuple. rows: the rows of the same files in the store, for
    thumbnails.
    """

    kind: str
    level: Level
    text: str
    action: str = ""
    advice: str = ""
    files: tuple[tuple[str, ...], ...] = ()
    rows: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The issue as JSON-able values, with every file."""
        return {
            "kind": self.kind,
            "level": self.level,
            "text": self.text,
            "action": self.action,
            "advice": self.advice,
            "files": [list(some) for some in self.files],
        }
