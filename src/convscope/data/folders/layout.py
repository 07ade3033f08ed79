"""How the folders of a data set are meant: which of them are classes, which are splits, and which are neither.

    CLASS/...               a folder per class, with any folders inside
    train/CLASS/...         the same with val and test next to train, however they are spelled (training_set, val2017)
    CLASS/train/...         splits inside the class folders

A layout that can be read in two ways is refused, unless the caller says which folders are the classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from convscope._text import list_some
from convscope.data.audit.issue import Issue
from convscope.data.folders.names import is_annotations, is_images, is_whole, named_splits, split_of
from convscope.data.folders.passed_over import (
    empty_folders,
    left_out_folders,
    loose_images,
    nested_folders,
    unused_folders,
)
from convscope.data.folders.tree import Folder, inner_folders, names_of, unwrap
from convscope.data.folders.unclear import UnclearError, refuse, refuse_unclear, table_hint
from convscope.errors import DataError


class ClassFolder(NamedTuple):
    """A folder whose images belong to one class and one split ("" without splits)."""

    folder: Folder
    label: str
    split: str = ""


class Layout(NamedTuple):
    """The class folders of a data set, and what was passed over."""

    classes: list[ClassFolder]
    issues: list[Issue]


class Reading(NamedTuple):
    """What the caller knows of a layout.

    Attributes:
        class_level: 1 if the folders at the top are the classes, 2 if those inside them are; None to find out.
        classes: names of classes that decide between two readings.
    """

    class_level: int | None = None
    classes: Collection[str] = ()


def find_layout(base: Folder, reading: Reading) -> Layout:
    """Decide what the folders in `base`, which was unwrapped, are.

    Args:
        base: a folder without folders of annotations, scanned with the known classes.
        reading: what is known of the layout.

    Raises:
        DataError: there are two ways to read them, or none.
    """
    try:
        found = _find_classes(base, reading.class_level)
    except UnclearError as error:
        known = f"expected folders named like the network's classes, which are {list_some(reading.classes)}"
        raise DataError(f"{error}{'; ' + known if reading.classes else error.advice}") from None
    if not found:
        for folder in base.folders:
            if folder.is_empty:
                raise DataError(f"no files in the class folder {folder.name}: put images there, or remove the folder")
        top = base.image_folders
        found = Layout([ClassFolder(folder, folder.name) for folder in top], list(nested_folders(top)))
    _check_names(base, found.classes)
    return Layout(found.classes, [*left_out_folders(base), *found.issues, *empty_folders(base.folders)])


def _find_classes(base: Folder, level: int | None) -> Layout | None:
    """The class folders below those at the top; None if those at the top are the classes."""
    top = base.image_folders
    inside = [one for folder in top for one in inner_folders(folder)]
    are_known = bool(inside) and all(one.is_class for one in inside)
    if top and all(folder.is_class for folder in top):
        if are_known and any(one.name != folder.name for folder in top for one in inner_folders(folder)):
            refuse(top, names_of(inside))
        return _splits_inside(top)
    if level == 1 and any(one.is_class for one in inside):
        level = None  # of the data that the network was trained on
    if level is None and (found := _splits_above(top) or _splits_inside(top)):
        return found
    if level == 2 or (level is None and are_known):
        return _inner_classes(top, [])
    if level is None:
        refuse_unclear(base)
    return None


def _check_names(base: Folder, classes: list[ClassFolder]) -> None:
    """Raise DataError if no class folder is named like a class."""
    names = {one.label for one in classes if not one.folder.is_class}
    is_one = len(classes) == 1
    if names and all(is_images(name) or is_annotations(name) or (is_one and is_whole(name)) for name in names):
        where = list_some(dict.fromkeys(one.folder.path for one in classes))
        hint = table_hint(base)
        raise DataError(
            f"no class folders: the images are in {where}; expected one folder of images per class"
            f"{', or a table of files and labels' + hint if hint else ''}"
        )


def _without(folders: list[Folder], others: Iterable[Folder]) -> list[Folder]:
    excluded = set(others)
    return [folder for folder in folders if folder not in excluded]


def _splits_above(top: list[Folder]) -> Layout | None:
    """Folders of splits with class folders inside; None if there are none."""
    names = named_splits(names_of(top))
    named = [folder for folder in top if folder.name in names]
    for candidates in (named, [folder for folder in top if split_of(folder.name, strict=False)]):
        chosen = [folder for folder in candidates if inner_folders(folder)]
        if len(_splits(chosen)) > 1 and (candidates is named or _agree(chosen)):
            train = _train_classes(chosen)
            chosen = [
                folder for folder in chosen if len(inner_folders(folder)) > 1 or names_of(inner_folders(folder)) & train
            ]
            return _inner_classes(chosen, _without(top, chosen))
    chosen = [folder for folder in named if inner_folders(folder)]
    others = _without(top, chosen)
    if not chosen or not others or len(_without(others, named)) < len(others):
        return _inner_classes(chosen, others) if chosen else None
    classes = names_of(one for folder in chosen for one in inner_folders(folder))
    shared = any(classes & names_of(inner_folders(folder)) for folder in others) or classes & names_of(others)
    if shared or any(one.is_flat for one in others) or _splits(chosen) != {"train"}:
        refuse(top, classes)
    return None  # a class called train


def _inner_classes(above: list[Folder], others: list[Folder]) -> Layout:
    """The layout whose classes are inside the folders `above`; the others are not used."""
    several = len(_splits(above)) > 1 or _splits(above) == {"test"}
    classes = [
        ClassFolder(one, one.name, split_of(folder.name, strict=False) if several else "")
        for folder in above
        for one in inner_folders(folder)
    ]
    others = [*others, *(folder for folder in above if not inner_folders(folder))]
    flat = [folder for folder in others if split_of(folder.name, strict=False) and not len(inner_folders(folder)) > 1]
    issues = [
        *unused_folders(flat, "without class folders, so without labels", "convscope predict gives them labels"),
        *unused_folders(_without(others, flat), "next to the splits", ""),
        *loose_images(unwrap(folder) for folder in above),
    ]
    return Layout(classes, issues)


def _splits_inside(top: list[Folder]) -> Layout | None:
    """Class folders with folders of splits inside; None if there are none."""
    parts = [part for folder in top for part in folder.image_folders]
    splits = {split_of(part.name) for part in parts}
    if "train" not in splits or len(splits - {""}) < 2:
        return None
    if "" in splits or any(one.is_flat for one in top):
        refuse(top, names_of(parts))
    if not all(one.is_flat for one in parts):
        refuse(top, {one.name for part in parts for one in part.image_folders})
    return Layout(
        [ClassFolder(one, up.name, split_of(one.name)) for up in top for one in up.image_folders],
        list(loose_images(top)),
    )


def _splits(folders: Iterable[Folder]) -> set[str]:
    return {split_of(folder.name, strict=False) for folder in folders}


def _train_classes(folders: list[Folder]) -> set[str]:
    """The class folders of the training split, or of the first split without one."""
    train = [folder for folder in folders if split_of(folder.name, strict=False) == "train"] or folders[:1]
    return {one.name for folder in train for one in inner_folders(folder)}


def _agree(folders: list[Folder]) -> bool:
    """Whether folders are of training and of another split, and have classes in common."""
    train = [folder for folder in folders if split_of(folder.name, strict=False) == "train"]
    others = [folder for folder in folders if folder not in train]
    return bool(train) and any(names_of(inner_folders(folder)) & _train_classes(folders) for folder in others)
