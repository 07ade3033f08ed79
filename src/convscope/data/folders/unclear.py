"""Layouts of folders that can be read in two ways, or in none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import NoReturn

from convscope._text import list_some
from convscope.data.folders.annotations import find_annotations
from convscope.data.folders.names import (
    annotation_words,
    is_annotations,
    is_images,
    is_part,
    is_unlabeled,
    named_splits,
    numbered_parts,
    split_of,
)
from convscope.data.folders.tree import Folder, inner_folders, names_of

MIN_SHARED = 2  # names of folders inside two folders, from which on these look like splits or parts
OPTION = "--class-level"
TABLES = (".csv", ".tsv", ".jsonl")


class UnclearError(Exception):
    """Folders can be read in two ways, or in none; `advice` ends the sentence for a user who has the options."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.advice = advice


def refuse_unclear(base: Folder) -> None:
    """Raise an error unless the folders are classes beyond doubt."""
    top = base.image_folders
    named = named_splits(names_of(top))
    _refuse_parts(base, named)
    _refuse_odd(top, named)
    _refuse_copies(top)


def _refuse_parts(base: Folder, named: set[str]) -> None:
    """Raise an error if all folders are named like splits or parts."""
    top = base.image_folders
    numbered = numbered_parts(names_of(top))
    parts = all(is_part(folder.name) for folder in top) or (
        bool(numbered) and all(one.name in numbered or _is_next_to_parts(one.name) for one in top)
    )
    if len(top) < 2 or not (parts or all(folder.name in named or is_part(folder.name) for folder in top)):
        return
    inside = {one.name for folder in top for one in inner_folders(folder) if not is_images(one.name)}
    if parts and inside:
        refuse(top, inside)
    if all(folder.is_flat for folder in top) or parts:
        raise UnclearError(
            f"no class folders: {list_some(sorted(names_of(top)))} hold images, but look like splits or parts, "
            "not classes",
            f"; expected a folder of images per class inside, a table of files and labels{table_hint(base)}, or, if "
            f"these are the classes, {OPTION} 1",
        )


def _is_next_to_parts(name: str) -> bool:
    """Whether a folder next to numbered parts is no class either, such as test_batch or masks."""
    return bool(annotation_words(name) or split_of(name, strict=False))


def table_hint(base: Folder) -> str:
    """Words about a table in a folder that may have labels; "" without one."""
    tables = [name for name in base.files if name.lower().endswith(TABLES)]
    return f" (if {tables[0]} has them, name it instead of the folder)" if tables else ""


def _refuse_odd(top: list[Folder], named: set[str]) -> None:
    """Raise an error if one of several folders is not named like a class, or may annotate another one."""
    names = names_of(top)
    words = Counter(word for folder in top for word in annotation_words(folder.name))
    odd = {
        folder
        for folder in top
        if is_unlabeled(folder.name)
        or is_images(folder.name)
        or (is_annotations(folder.name) and all(words[word] == 1 for word in annotation_words(folder.name)))
    }
    if all(is_images(name) or is_annotations(name) for name in names):
        return  # no class at all
    splits = [folder for folder in top if folder.name in named or (len(top) > 1 and folder in odd)]
    if len(splits) > 1 or any(split_of(folder.name) != "train" for folder in splits):
        raise UnclearError(
            f"{list_some(folder.name for folder in splits)} next to {list_some(sorted(names - names_of(splits)))}: a "
            "class, or images without labels?",
            f" Move it elsewhere or, if it is a class, use {OPTION} 1",
        )
    if found := find_annotations(top):
        raise UnclearError(
            f"{found[0].name} next to {found[1].name}, with the same file names: a class, or annotations of the "
            "images?",
            f" Move it elsewhere or, if it is a class, use {OPTION} 1",
        )


def _refuse_copies(top: list[Folder]) -> None:
    """Raise an error if a folder contains others like those around it, or like those in another one."""
    names = names_of(top)
    inner = {folder.name: names_of(inner_folders(folder)) for folder in top}
    for copy, found in inner.items():
        if len((found & names) - {copy}) >= MIN_SHARED:
            raise UnclearError(
                f"{copy} contains {list_some(sorted(found & names))} like the folder around it: a copy, or a class?",
                f" Move it elsewhere or, if it is a class, use {OPTION} 1",
            )
    for one, other in combinations((found for found in inner.values() if len(found) >= MIN_SHARED), 2):
        if len(one & other) >= MIN_SHARED:
            refuse(top, one & other)


def refuse(top: list[Folder], inside: Iterable[str]) -> NoReturn:
    raise UnclearError(
        f"two ways to read the folders: the classes may be {list_some(sorted(names_of(top)))}, or "
        f"{list_some(sorted(inside))} inside them",
        f"; choose by {OPTION} 1 or 2",
    )
