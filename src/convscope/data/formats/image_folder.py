"""Folders of images with one folder per class.

    PATH/CLASS/...            a folder per class, with any folders inside
    PATH/train/CLASS/...      the same with test and val next to train; without test, val is the test split

Hidden files and the leftovers of operating systems are ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from convscope._text import list_some
from convscope.data.formats.listing import SPLIT_NAMES, Listing, Row, make_listing
from convscope.errors import DataError

IGNORED_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}  # in lower case


def list_folder(path: Path) -> Listing:
    """The files in the class folders of a folder.

    Raises DataError for an empty class, for splits with different classes, and what `make_listing` rejects.
    """
    root = _skip_wrappers(path)
    folders = _folders(root)
    splits = {folder: SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES}
    strays = [name for name in _names(root) if name not in folders]
    if "train" not in splits.values() or len(splits) != len(folders) or len(folders) < 2:
        return make_listing(root, _list_classes(root, "", ""), strays)
    rows = {folder: _list_classes(root, folder, split) for folder, split in splits.items()}
    _check_same_classes({folder: {row.label for row in found} for folder, found in rows.items()})
    return make_listing(root, [row for found in rows.values() for row in found], strays)


def _skip_wrappers(path: Path) -> Path:
    """The folder inside folders that contain only one folder of folders, as archives often do."""
    while True:
        names, folders = _names(path), _folders(path)
        if len(folders) != 1 or len(names) != 1 or not _folders(path / folders[0]):
            return path
        path /= folders[0]


def _list_classes(root: Path, inside: str, split: str) -> list[Row]:
    """A row for every file in the class folders of root/inside."""
    rows = []
    for name in _folders(root / inside):
        below = f"{inside}/{name}" if inside else name
        files = sorted(_walk(root, below))
        if not files:
            raise DataError(f"no files in the class folder {below}: put images there, or remove the folder")
        rows += [Row(file, name, split) for file in files]
    return rows


def _walk(root: Path, folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """The files in a folder and its subfolders; links back to a folder above are not followed."""
    real = os.path.realpath(root / folder)
    if real in above:
        return
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if _is_ignored(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(root, f"{folder}/{entry.name}", above | {real})
            else:
                yield f"{folder}/{entry.name}"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not _is_ignored(path.name))


def _folders(folder: Path) -> list[str]:
    return [name for name in _names(folder) if (folder / name).is_dir()]


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in IGNORED_NAMES


def _check_same_classes(classes: dict[str, set[str]]) -> None:
    """Raise DataError unless every split has the same classes."""
    (first, expected), *others = classes.items()
    for name, found in others:
        if found != expected:
            missing, extra = sorted(expected - found), sorted(found - expected)
            differences = " and ".join(
                f"{verb} {list_some(some, 10)}" for verb, some in (("lacks", missing), ("adds", extra)) if some
            )
            raise DataError(f"{name} has other classes than {first}: it {differences}; use the same names in both")
