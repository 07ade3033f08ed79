"""How the folders of a data set are meant: which of them are classes, which are splits, and which are neither.

    CLASS/...               a folder per class, with any folders inside
    train/CLASS/...         the same with val and test next to train, however they are spelled (training_set, val2017)
    CLASS/train/...         splits inside the class folders

A layout that can be read in two ways is refused, unless the caller says which folders are the classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import combinations
from typing import NamedTuple

from convscope._text import list_some, pluralize
from convscope.data.audit.issue import Issue
from convscope.data.folders.names import is_annotations, is_images, is_part, is_unlabeled, split_of, stem_of
from convscope.data.folders.tree import Folder, is_image_name
from convscope.errors import DataError

MIN_SHARED = 2  # names of folders inside two folders, from which on these look like splits or parts
OPTION = "--class-level {} (of train and data check)"


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


def unwrap(folder: Folder) -> Folder:
    """The folder inside folders that contain only one folder of folders, as archives often do."""
    while True:
        inner = [one for one in _without_annotations(folder.folders) if one.has_images]
        blocked = folder.has_own_images or any(one.is_empty for one in folder.folders)
        if len(inner) != 1 or blocked or not inner[0].image_folders:
            return folder
        folder = inner[0]


def find_layout(base: Folder, reading: Reading) -> Layout:
    """Decide what the folders in `base`, which was unwrapped, are.

    Raises:
        DataError: there are two ways to read them, or none.
    """
    kept = _without_annotations(base.folders)
    top = [folder for folder in kept if folder.has_images]
    others = _without(base.folders, top)
    issues = list(_passed_over(base, [folder for folder in others if not folder.is_empty]))
    level = reading.class_level
    found = _inner_classes(top, []) if level == 2 else None
    if level is None:
        found = _splits_above(top) or _splits_inside(top) or _as_known(top, reading)
    if found is None:
        if level is None:
            _refuse_unclear(top)
        for folder in kept:
            if folder.is_empty:
                raise DataError(f"no files in the class folder {folder.name}: put images there, or remove the folder")
        found = Layout([ClassFolder(folder, folder.name) for folder in top], list(_nested(top)))
    if found.classes and all(is_images(one.label) or is_annotations(one.label) for one in found.classes):
        where = list_some(dict.fromkeys(one.folder.path for one in found.classes))
        raise DataError(f"no class folders: the images are in {where}; expected one folder of images per class")
    return Layout(found.classes, [*issues, *found.issues, *_empty(kept)])


def _without_annotations(folders: list[Folder]) -> list[Folder]:
    """The folders without masks and the like, if one of the others says that it holds the images."""
    annotations = [folder for folder in folders if is_annotations(folder.name) and not is_images(folder.name)]
    others = _without(folders, annotations)
    return others if any(is_images(folder.name) and folder.has_images for folder in others) else folders


def _without(folders: list[Folder], others: Iterable[Folder]) -> list[Folder]:
    excluded = set(others)
    return [folder for folder in folders if folder not in excluded]


def _as_known(top: list[Folder], reading: Reading) -> Layout | None:
    """The folders inside those at the top as classes, if all of them are named like known classes."""
    inner = {one.name for folder in top for one in _inner(folder)}
    return _inner_classes(top, []) if inner and inner <= set(reading.classes) else None


def _splits_above(top: list[Folder]) -> Layout | None:
    """Folders of splits with class folders inside; None if there are none."""
    named = _named_splits(top)
    for candidates in (named, [folder for folder in top if split_of(folder.name, strict=False)]):
        chosen = [folder for folder in candidates if _inner(folder)]
        if len(_splits(chosen)) > 1 and (candidates is named or _agree(chosen)):
            train = _train_classes(chosen)
            chosen = [folder for folder in chosen if len(_inner(folder)) > 1 or _names(_inner(folder)) & train]
            return _inner_classes(chosen, _without(top, chosen))
    chosen = [folder for folder in named if _inner(folder)]
    others = _without(top, chosen)
    if not chosen or not others or len(_without(others, named)) < len(others):
        return _inner_classes(chosen, others) if chosen else None
    classes = _names(one for folder in chosen for one in _inner(folder))
    shared = any(classes & _names(_inner(folder)) for folder in others) or classes & _names(others)
    if shared or any(map(_is_flat, others)) or _splits(chosen) != {"train"}:
        _refuse(top, classes)
    return None  # a class called train


def _named_splits(top: list[Folder]) -> list[Folder]:
    """The folders named like splits: train, or letters_train next to letters_test."""
    splits: dict[tuple[str, ...], set[str]] = {}
    for folder in top:
        splits.setdefault(stem_of(folder.name), set()).add(split_of(folder.name, strict=False))
    return [folder for folder in top if split_of(folder.name) or len(splits[stem_of(folder.name)] - {""}) > 1]


def _inner_classes(above: list[Folder], others: list[Folder]) -> Layout:
    """The layout whose classes are inside the folders `above`; the others are not used."""
    several = len(_splits(above)) > 1 or _splits(above) == {"test"}
    classes = [
        ClassFolder(one, one.name, split_of(folder.name, strict=False) if several else "")
        for folder in above
        for one in _inner(folder)
    ]
    others = [*others, *(folder for folder in above if not _inner(folder))]
    flat = [folder for folder in others if split_of(folder.name, strict=False) and not len(_inner(folder)) > 1]
    issues = [
        *_ignored(flat, "without class folders, so without labels", "convscope predict gives them labels"),
        *_ignored(_without(others, flat), "next to the splits", ""),
        *_loose_images(unwrap(folder) for folder in above),
    ]
    return Layout(classes, issues)


def _splits_inside(top: list[Folder]) -> Layout | None:
    """Class folders with folders of splits inside; None if there are none."""
    parts = [part for folder in top for part in folder.image_folders]
    splits = {split_of(part.name) for part in parts}
    if "train" not in splits or len(splits - {""}) < 2:
        return None
    if "" in splits or any(map(_is_flat, top)):
        _refuse(top, _names(parts))
    if not all(map(_is_flat, parts)):
        _refuse(top, {one.name for part in parts for one in part.image_folders})
    return Layout(
        [ClassFolder(one, up.name, split_of(one.name)) for up in top for one in up.image_folders],
        list(_loose_images(top)),
    )


def _refuse_unclear(top: list[Folder]) -> None:
    """Raise DataError unless the folders are classes beyond doubt."""
    names = {folder.name for folder in top}
    inner = {folder.name: {one.name for one in _inner(folder)} for folder in top}
    named = set(_named_splits(top))
    if len(top) > 1 and all(_is_flat(folder) and (folder in named or is_part(folder.name)) for folder in top):
        raise DataError(
            f"no class folders: {list_some(sorted(names))} hold images, but look like splits or parts, not classes; "
            f"expected a folder of images per class inside, a table of files and labels, or, if these are the "
            f"classes, {OPTION.format(1)}"
        )
    splits = [folder for folder in top if folder in named or (len(top) > 1 and _is_odd(folder))]
    if len(splits) > 1 or any(split_of(folder.name) != "train" for folder in splits):
        raise DataError(
            f"{list_some(folder.name for folder in splits)} next to {list_some(sorted(names - _names(splits)))}: a "
            f"class, or images without labels? Move it elsewhere or, if it is a class, use {OPTION.format(1)}"
        )
    for copy, found in inner.items():
        if len((found & names) - {copy}) >= MIN_SHARED:
            raise DataError(
                f"{copy} contains {list_some(sorted(found & names))} like the folder around it: a copy, or a class? "
                f"Move it elsewhere or, if it is a class, use {OPTION.format(1)}"
            )
    for one, other in combinations((found for found in inner.values() if len(found) >= MIN_SHARED), 2):
        if len(one & other) >= MIN_SHARED:
            _refuse(top, one & other)


def _refuse(top: list[Folder], inside: Iterable[str]) -> None:
    raise DataError(
        f"two ways to read the folders: the classes may be {list_some(sorted(_names(top)))}, or "
        f"{list_some(sorted(inside))} inside them; choose by {OPTION.format('1 or 2')}"
    )


def _passed_over(base: Folder, folders: list[Folder]) -> Iterable[Issue]:
    """Issues about folders at the top that do not hold images of classes."""
    if runs := sorted(base.all_runs()):
        text = f"{pluralize(len(runs), 'folder')} with results of a training: {list_some(runs)}"
        yield Issue(kind="run-folder", level="note", text=text, action="passed over")
    if without := [folder for folder in folders if not folder.has_images and any(True for _ in folder.walk())]:
        text = f"{pluralize(len(without), 'folder')} without images: {list_some(sorted(_names(without)))}"
        yield Issue(kind="no-images", level="note", text=text, action="passed over")
    yield from _ignored([folder for folder in folders if folder.has_images], "named like annotations", "")


def _ignored(folders: list[Folder], what: str, advice: str) -> Iterable[Issue]:
    for folder in folders:
        files = tuple((file,) for file in folder.walk())
        text = f"{pluralize(len(files), 'file')} in {folder.name}, {what}"
        yield Issue(kind="passed-over", level="warning", text=text, action="not used", advice=advice, files=files)


def _empty(folders: list[Folder]) -> Iterable[Issue]:
    if empty := [folder.name for folder in folders if folder.is_empty]:
        text = f"{pluralize(len(empty), 'empty folder')}: {list_some(empty)}"
        yield Issue(kind="empty-folder", level="warning", text=text, action="passed over")


def _loose_images(folders: Iterable[Folder]) -> Iterable[Issue]:
    """Issues about images next to the folders that were expected instead."""
    for folder in folders:
        if files := tuple((folder.join(name),) for name in folder.files if is_image_name(name)):
            text = f"{pluralize(len(files), 'file')} directly in {folder.path}, outside the folders in it"
            yield Issue(kind="passed-over", level="warning", text=text, action="not used", files=files)


def _nested(top: list[Folder]) -> Iterable[Issue]:
    if nested := [folder.join(one.name) for folder in top for one in folder.image_folders]:
        text = f"{pluralize(len(nested), 'folder')} inside the class folders: {list_some(nested)}"
        yield Issue(kind="nested-folders", level="note", text=text, action="read as part of their class")
    if any(split_of(folder.name) for folder in top):
        names = list_some(folder.name for folder in top if split_of(folder.name))
        yield Issue(kind="split-name", level="note", text=f"a folder called {names}", action="read as a class")


def _inner(folder: Folder) -> list[Folder]:
    """The folders of images inside, behind wrappers such as train/train."""
    return unwrap(folder).image_folders


def _is_odd(folder: Folder) -> bool:
    """Whether a folder's name is not that of a class."""
    return is_annotations(folder.name) or is_unlabeled(folder.name)


def _is_flat(folder: Folder) -> bool:
    return not folder.image_folders


def _names(folders: Iterable[Folder]) -> set[str]:
    return {folder.name for folder in folders}


def _splits(folders: Iterable[Folder]) -> set[str]:
    return {split_of(folder.name, strict=False) for folder in folders}


def _train_classes(folders: list[Folder]) -> set[str]:
    """The class folders of the training split, or of the first split without one."""
    train = [folder for folder in folders if split_of(folder.name, strict=False) == "train"] or folders[:1]
    return {one.name for folder in train for one in _inner(folder)}


def _agree(folders: list[Folder]) -> bool:
    """Whether folders are of training and of another split, and have classes in common."""
    train = [folder for folder in folders if split_of(folder.name, strict=False) == "train"]
    others = [folder for folder in folders if folder not in train]
    return bool(train) and any(_names(_inner(folder)) & _train_classes(folders) for folder in others)
