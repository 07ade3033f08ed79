"""What folders and cells are called that stand for a split, for annotations or for parts of a data set."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

SPLITS = {
    "train": ("train", "training", "trn", "trainval"),
    "validation": ("val", "valid", "validate", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
}
SPLIT_OF_WORD = {word: split for split, words in SPLITS.items() for word in words}
FILLERS = ("dataset", "datasets", "data", "set", "sets", "split", "images", "image", "imgs", "img", "folder", "files")
PARTS = {"fold", "folds", "part", "batch", "shard", "chunk", "split", "cv", "kfold", "set", "subset", "session"}
IMAGES = {"image", "images", "img", "imgs", "jpegimages", "jpg", "jpeg", "png"}
ANNOTATIONS = {
    "annotation", "annotations", "label", "labels", "mask", "masks", "trimap", "trimaps", "bbox", "bboxes", "boxes",
    "segmentation", "segmentations", "gt", "groundtruth", "ground", "truth", "gts", "annot", "annots",
}  # fmt: skip
TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
PART = "|".join(sorted({*PARTS, *FILLERS}, key=len, reverse=True))
NUMBERED_PART = re.compile(rf"(?<![a-z])(?:{PART})(?:[-_. #(]*(\d{{1,9}})|[-_. #(]+([a-z]))(?![a-z0-9])")


def split_of(name: str, strict: bool = True) -> str:
    """The split that a name stands for: "train", "validation", "test", or "" for any other name.

    Args:
        name: in any case, with numbers and words such as "set" or "images" around it.
        strict: allow no other words around it.

    >>> [split_of(name) for name in ("Training", "test_set", "val2017", "trainImages", "seg_train", "bus")]
    ['train', 'test', 'validation', 'train', '', '']
    >>> split_of("seg_train", strict=False)
    'train'
    """
    words = [_without_filler(word) for word in _words(name)]
    found = [SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD]
    others = [word for word in words if word and word not in SPLIT_OF_WORD]
    return found[0] if len(found) == 1 and not (strict and others) else ""


def named_splits(names: Collection[str]) -> set[str]:
    """Those of the names that stand for splits: train, or letters_train next to letters_test."""
    splits: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        splits.setdefault(stem_of(name), set()).add(split_of(name, strict=False))
    return {name for name in names if split_of(name) or len(splits[stem_of(name)] - {""}) > 1}


def stem_of(name: str) -> tuple[str, ...]:
    """The words of a name that do not stand for a split, such as ("seg",) for seg_train."""
    words = [_without_filler(word) for word in _words(name)]
    return tuple(word for word in words if word and word not in SPLIT_OF_WORD)


def is_part(name: str) -> bool:
    """Whether a name stands for a part of a data set, such as fold1 or batch_2."""
    words = _words(name)
    return bool(words) and set(words) <= PARTS


def numbered_parts(names: Collection[str]) -> set[str]:
    """Those names that differ only in the number or letter of a part of a data set, counted from about one.

    >>> sorted(numbered_parts(["HAM10000_images_part_1", "HAM10000_images_part_2", "PartA", "PartB", "cat"]))
    ['HAM10000_images_part_1', 'HAM10000_images_part_2', 'PartA', 'PartB']
    >>> numbered_parts(["lego part 3001", "lego part 3002", "part_1"])
    set()
    """
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for name in names:
        lower = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        if found := NUMBERED_PART.search(lower):
            rest = (lower[: found.start(found.lastindex or 0)], lower[found.end() :])
            groups.setdefault(rest, {})[name] = int(found[1] or ord(found[2]) - ord("a") + 1)
    parts = (some for some in groups.values() if len(some) > 1 and max(some.values()) <= 2 * len(some) + 1)
    return {name for some in parts for name in some}


def is_images(name: str) -> bool:
    """Whether a name stands for the images of a data set, next to their annotations.

    >>> [is_images(name) for name in ("images", "JPEGImages", "Raw Images", "cat images")]
    [True, True, True, False]
    """
    words = set(_words(name))
    return bool(words & IMAGES) and words <= IMAGES | {*FILLERS, "raw", "rgb", "original"}


def is_annotations(name: str) -> bool:
    """Whether a name stands for annotations, such as labels or masks.

    >>> [is_annotations(name) for name in ("masks", "ground_truth", "SegmentationClass", "with_mask")]
    [True, True, True, False]
    """
    words = set(_words(name))
    return bool(words) and (words <= ANNOTATIONS | {*FILLERS, "class", "object"}) and bool(words & ANNOTATIONS)


def annotation_words(name: str) -> set[str]:
    """The words of a name that stand for annotations, as in train_masks; also in the name of a class: no_mask."""
    return set(_words(name)) & ANNOTATIONS


def is_whole(name: str) -> bool:
    """Whether a name stands for all images, or those of a split, with any number: data, train2017, val_images."""
    return (
        bool(_words(name)) and name.isascii() and {*SPLIT_OF_WORD} >= {one for one in subject_of(name) if one.isalpha()}
    )


def subject_of(name: str) -> tuple[str, ...]:
    """The words and numbers of a name that do not stand for images, data or annotations.

    >>> [subject_of(name) for name in ("train2017_masks", "TrainImages2017", "images")]
    [('train', '2017'), ('train', '2017'), ()]
    """
    words = (_without_filler(word.lower()) for word in re.findall(rf"{TOKEN.pattern}|\d+", name))
    return tuple(word for word in words if word and word not in ANNOTATIONS | IMAGES)


def is_unlabeled(name: str) -> bool:
    """Whether a name says that the images have no labels."""
    return bool(set(_words(name)) & {"unlabeled", "unlabelled", "unsup", "unlab"})


def _words(name: str) -> list[str]:
    return [word.lower() for word in TOKEN.findall(name)]


@lru_cache(1024)
def _without_filler(word: str) -> str:
    """A word without "set" or the like at its end; "" if it is nothing else."""
    if word in FILLERS:
        return ""
    return next((word.removesuffix(end) for end in FILLERS if word.removesuffix(end) in SPLIT_OF_WORD), word)
