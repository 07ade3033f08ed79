"""Which files a data set of pictures is made of: class folders, or a table of files and labels. Nothing is decoded.

    PATH/CLASS/...             a folder per class, with whatever folders are in it
    PATH/train/CLASS/...       the same with val and test beside train; without a test folder val is the test set
    PATH.csv                   a first line that names the columns file and label, and split where there is one
    PATH.jsonl                 {"file": ..., "label": ...} on every line, "split" where there is one

Files of a table lie beside it. Hidden files and what operating systems leave behind are passed over.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convscope.data.dataset import Labels
from convscope.data.formats.table import SPLITS, Row, read_table
from convscope.errors import DataError

DEBRIS = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
MAX_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of a data set, in a fixed order.

    root: the folder they lie in. files: their paths below it, with "/" between folders. labels: int64 (n,), indices
    into `classes`. parts: "train", "validation" or "test" for each file, or nothing where the set is not split.
    strays: files that are of no class.
    """

    root: Path
    files: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Labels
    parts: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def path(self, number: int) -> Path:
        """Where a file lies."""
        return self.root / self.files[number]

    def class_of(self, number: int) -> str:
        """The name of a file's class."""
        return self.classes[int(self.labels[number])]


def list_files(path: Path) -> Listing:
    """The listing of a folder or of a table.

    Raises DataError: no classes, one class, over 1,000 classes, an empty class, splits with different classes, and
    what is wrong with a table.
    """
    if path.is_file() and path.suffix.lower() not in TABLES:
        raise DataError(f"a file: expected a folder with a folder of pictures per class, or one of {', '.join(TABLES)}")
    if path.is_file():
        rows = read_table(path)
        return _listing(path.parent, rows, ())
    root = _into(path)
    folders = _folders(root)
    parts = {folder: SPLITS[folder.lower()] for folder in folders if folder.lower() in SPLITS}
    strays = tuple(name for name in _names(root) if name not in folders)
    if set(parts.values()) >= {"train"} and len(parts) == len(folders) > 1:
        found = {folder: _class_folder(root, folder, part) for folder, part in parts.items()}
        _check_alike({folder: {row.label for row in rows} for folder, rows in found.items()})
        return _listing(root, [row for rows in found.values() for row in rows], strays)
    return _listing(root, _class_folder(root, "", ""), strays)


def _into(path: Path) -> Path:
    """Past folders that hold nothing but one folder of folders, as archives often do."""
    while True:
        names, folders = _names(path), _folders(path)
        if len(folders) != 1 or len(names) != 1 or not _folders(path / folders[0]):
            return path
        path /= folders[0]


def _class_folder(root: Path, inside: str, part: str) -> list[Row]:
    """A row for every file in the class folders of root/inside."""
    rows = []
    for name in _folders(root / inside):
        below = f"{inside}/{name}" if inside else name
        files = sorted(_walk(root, below))
        if not files:
            raise DataError(f"no files in the class folder {below}: put images there, or take the folder away")
        rows += [Row(file, name, part) for file in files]
    return rows


def _walk(root: Path, folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """The files in a folder and in those below it; a link back to a folder above is not followed."""
    real = os.path.realpath(root / folder)
    if real in above:
        return
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if _is_debris(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(root, f"{folder}/{entry.name}", above | {real})
            else:
                yield f"{folder}/{entry.name}"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not _is_debris(path.name))


def _folders(folder: Path) -> list[str]:
    return [name for name in _names(folder) if (folder / name).is_dir()]


def _is_debris(name: str) -> bool:
    return name.startswith(".") or name.lower() in DEBRIS


def _check_alike(classes: dict[str, set[str]]) -> None:
    """That every split has the same classes."""
    (first, expected), *others = classes.items()
    for name, found in others:
        if found != expected:
            lacking, extra = sorted(expected - found), sorted(found - expected)
            differences = " and ".join(
                f"{what} {', '.join(some[:10])}{', ...' if len(some) > 10 else ''}"
                for what, some in (("lacks", lacking), ("has in addition", extra))
                if some
            )
            raise DataError(f"{name} has other classes than {first}: it {differences}; name them alike")


def _listing(root: Path, rows: Iterable[Row], strays: tuple[str, ...]) -> Listing:
    rows = list(rows)
    names = {row.label for row in rows}
    classes = tuple(sorted(names, key=_by_number))
    if not classes:
        raise DataError(f"no class folders, {len(strays)} files: expected one folder of images per class")
    if len(classes) < 2:
        raise DataError(
            f"only one class, {classes[0]}: expected a folder per class, two or more; is one of its folders meant?"
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"{len(classes):,} classes of {len(rows) / len(classes):.1f} files each: expected at most "
            f"{MAX_CLASSES:,}; is there a folder per picture instead of one per class?"
        )
    parts = tuple(row.part for row in rows)
    if any(parts):
        _check_parts(parts)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[row.label] for row in rows], np.int64)
    files = tuple(row.file for row in rows)
    return Listing(root, files, classes, labels, parts if any(parts) else (), strays)


def _by_number(name: str) -> tuple[bool, int, str]:
    """Names that are numbers in their order, then the others in theirs."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def _check_parts(parts: tuple[str, ...]) -> None:
    counts = Counter(parts)
    if not counts["train"] or not (counts["test"] or counts["validation"]):
        found = ", ".join(f"{count} {part or 'of no split'}" for part, count in counts.items())
        raise DataError(f"splits without train or without test: found {found}; expected train and test, or no splits")
