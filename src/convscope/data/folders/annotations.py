"""Folders of annotations, such as masks, next to the folders of the images that they belong to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from convscope.data.folders.names import (
    ANNOTATIONS,
    annotation_words,
    is_annotations,
    is_images,
    is_whole,
    subject_of,
)
from convscope.data.folders.tree import Folder

SUFFIX = re.compile(rf"[-_. ]+({'|'.join(sorted(ANNOTATIONS))})$", re.IGNORECASE)
NUMBERED_SUFFIX = re.compile(SUFFIX.pattern.removesuffix("$") + r"([-_. ]?\d+)?$", re.IGNORECASE)  # 1_mask_2.png
MIN_SHARE = 0.1  # of the files that are annotations; fewer may be chance


def set_aside_annotations(folder: Folder, by_subject: bool) -> list[Folder]:
    """Take the folders of annotations out of a folder, at any depth; those named like known classes stay.

    Annotations are masks next to images, masks of the images that are directly in the same folder, and train_masks next
    to train.

    Args:
        folder: is changed.
        by_subject: whether train_masks next to train is no class.

    Returns:
        The folders that were taken out.
    """
    found = [one for inner in folder.folders for one in set_aside_annotations(inner, by_subject)]
    has_images_folder = any(is_images(one.name) and one.has_images for one in folder.folders)
    stems = {_stem(file) for file in folder.files} if folder.has_own_images else set()
    wholes = [one for one in folder.folders if is_whole(one.name) and not annotation_words(one.name)]
    subjects = {subject_of(one.name) for one in wholes if one.has_images} if by_subject else set()
    kept: list[Folder] = []
    for one in folder.folders:
        is_named_so = is_annotations(one.name) and not is_images(one.name)
        aside = (is_named_so and (has_images_folder or _annotates(one, stems))) or (
            _has_subject(one) and subject_of(one.name) in subjects
        )
        (found if aside and not one.is_class else kept).append(one)
    folder.folders = kept
    return found


def find_annotation_files(files: Sequence[str]) -> set[str]:
    """Files that are named like others in the same folder, with a word for annotations at the end: 1_mask.png.

    Args:
        files: paths. If only a few of them are named so, it is by chance: none are returned.
    """
    stems = {file.rpartition(".")[0] for file in files}
    plain = ((file, NUMBERED_SUFFIX.sub("", file.rpartition(".")[0])) for file in files)
    found = {file for file, stem in plain if stem in stems and stem != file.rpartition(".")[0]}
    return found if len(found) >= MIN_SHARE * len(files) else set()


def find_annotations(folders: list[Folder]) -> tuple[Folder, Folder] | None:
    """The first folder that may annotate the images of another one, such as cat_masks next to cat, and that one.

    As cat_mask may be a class, the files have to be named like those in the other folder, and one more thing has to
    say so: the plural, or file names such as 1_mask.png.
    """
    subjects = {subject_of(one.name): one for one in folders if one.name.isascii() and not annotation_words(one.name)}
    for one in folders:
        other = subjects.get(subject_of(one.name)) if _has_subject(one) and subject_of(one.name) else None
        says_so = other and (one.name.lower().endswith("s") or all(SUFFIX.search(_stem(file)) for file in one.walk()))
        if other and says_so and _annotates(one, {_stem(file) for file in other.walk()}):
            return one, other
    return None


def _has_subject(folder: Folder) -> bool:
    """Whether a folder's name may say what its annotations are of."""
    return folder.name.isascii() and bool(annotation_words(folder.name))


def _annotates(folder: Folder, stems: set[str]) -> bool:
    """Whether all files in a folder are named like those with the given stems, apart from a suffix such as _mask."""
    return bool(stems) and all(stem in stems or SUFFIX.sub("", stem) in stems for stem in map(_stem, folder.walk()))


def _stem(file: str) -> str:
    return PurePosixPath(file).stem
