"""Folders of images with one folder per class; see `folders.layout` for the ways in which they may be arranged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from convscope._text import list_some, pluralize
from convscope.data.audit.issue import Issue
from convscope.data.folders.annotations import find_annotation_files, set_aside_annotations
from convscope.data.folders.archive import is_archive
from convscope.data.folders.layout import ClassFolder, Reading, find_layout
from convscope.data.folders.passed_over import annotation_files, annotation_folders
from convscope.data.folders.tree import Folder, scan_folder, unwrap
from convscope.data.formats.listing import Listing, Row, make_listing
from convscope.data.formats.table import TABLE_SUFFIXES
from convscope.errors import DataError

CIFAR_PICKLES = ({"data_batch_1"}, {"train", "test", "meta"})  # files of CIFAR-10 and CIFAR-100


def list_folder(path: Path, reading: Reading = Reading()) -> Listing:  # noqa: B008  a frozen tuple
    """The files in the class folders of a folder.

    Args:
        path: the folder.
        reading: what is known of its layout.

    Raises:
        DataError: a class is empty, a split has a class that train does not have, or the layout is unclear.
        OSError: a folder cannot be read.
    """
    tree = scan_folder(path, reading.classes)
    annotations = set_aside_annotations(tree, by_subject=reading.class_level is None)
    base = unwrap(tree)
    classes, issues = find_layout(base, reading)
    _check_classes(classes)
    rows = [row for found in classes for row in _rows(found, base)]
    _check_pickles({*base.files, *(row.file.rpartition("/")[2] for row in rows)})
    files = find_annotation_files([row.file for row in rows])
    rows = [row for row in rows if row.file not in files]
    if not rows:
        raise DataError(_no_classes(base))
    issues = [*annotation_folders(annotations), *annotation_files(files), *issues, *_unread_tables(base)]
    return make_listing(path / base.path, rows, base.files, issues)


def _check_pickles(names: set[str]) -> None:
    """Raise DataError if files are named like those of CIFAR's Python version."""
    if found := next((sorted(files) for files in CIFAR_PICKLES if files <= names), None):
        raise DataError(
            f"{list_some(found)}: Python pickles of CIFAR, which are never loaded: save the arrays as an .npz, or, "
            "for CIFAR-10, name the data set cifar10"
        )


def _unread_tables(base: Folder) -> Iterator[Issue]:
    """An issue about tables next to the class folders, which may have other labels and splits."""
    if tables := [name for name in base.files if name.lower().endswith(TABLE_SUFFIXES)]:
        text = f"{pluralize(len(tables), 'table')} next to the class folders: {list_some(tables)}"
        advice = "name a table instead of the folder to use its labels and splits"
        yield Issue(kind="table", level="note", text=text, action="not read", advice=advice)


def _rows(found: ClassFolder, base: Folder) -> list[Row]:
    """A row for every file of a class folder."""
    start = len(base.path) + 1 if base.path else 0
    return [Row(file, found.label, found.split) for file in sorted(file[start:] for file in found.folder.walk())]


def _check_classes(classes: list[ClassFolder]) -> None:
    """Raise DataError if a split has a class that train does not have."""
    found = {split: {one.label for one in classes if one.split == split} for split in {one.split for one in classes}}
    expected = found.pop("train", None)
    for split, names in found.items() if expected else ():
        if extra := sorted(names - (expected or set())):
            missing = sorted((expected or set()) - names)
            lacks = f", and no {list_some(missing, 10)}" if missing else ""
            raise DataError(
                f"{split} has classes that train lacks: {list_some(extra, 10)}{lacks}; use the same names in both"
            )


def _no_classes(base: Folder) -> str:
    """Why a folder without classes is none."""
    tables = [name for name in base.files if name.lower().endswith(TABLE_SUFFIXES)]
    archives = [name for name in base.files if is_archive(Path(name))]
    hint = f"; {pluralize(len(archives), 'archive')} may hold them: unpack {list_some(archives, 3)}" if archives else ""
    hint = f"; if {tables[0]} has their labels, name it instead of the folder" if tables else hint
    return f"no class folders, {pluralize(len(base.files), 'file')}: expected one folder of images per class{hint}"
