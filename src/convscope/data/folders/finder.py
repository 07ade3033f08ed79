"""The files that a table names, which may lack their suffix, lie in a folder, or be spelled in another Unicode form."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from convscope._text import list_some
from convscope.data.folders.tree import is_image_name, scan_folder
from convscope.errors import DataError


class FileFinder:
    """Finds files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[str]] = {}

    def find_all(self, names: Collection[str]) -> dict[str, str]:
        """The path below the folder of each name.

        Args:
            names: paths below the folder, with or without suffix, in any Unicode normalization; or names of files in
                one of its folders.

        Raises:
            DataError: a file does not exist, or a name fits several; two names are the same file.
        """
        found = {name: name for name in names if os.path.isfile(os.path.join(self.root, name))}  # noqa: PTH113, PTH118
        if len(found) < len(names):
            self._by_name = self._index()
            found |= {name: path for name in names if name not in found and (path := self._find(name))}
        if missing := [name for name in names if name not in found]:
            raise DataError(
                f"{len(missing)} of {len(names)} files do not exist, the first is {self.root / missing[0]}: paths are "
                "relative to the table's folder; correct them or remove their rows"
            )
        return found

    def _find(self, name: str) -> str:
        """The path that a name stands for; "" if there is none."""
        wanted = unicodedata.normalize("NFC", str(PurePosixPath(name)))
        paths = self._by_name.get(wanted, [])
        if len(paths) > 1:
            raise DataError(f"{name} may be {list_some(paths)}: write the path below the table's folder")
        return paths[0] if paths else ""

    def _index(self) -> dict[str, list[str]]:
        """The paths of all files by path, by path without suffix, by name, and by name without suffix."""
        index: dict[str, list[str]] = {}
        for path in scan_folder(self.root).walk():
            plain = unicodedata.normalize("NFC", path)
            spellings = {plain, plain.rpartition("/")[2]}
            if is_image_name(path):
                spellings |= {str(PurePosixPath(spelling).with_suffix("")) for spelling in spellings}
            for spelling in spellings:
                index.setdefault(spelling, []).append(path)
        return index
