"""What every data set is, wherever it came from: uint8 images, labels, class names, a train and a test split."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convscope._text import list_some
from convscope.data.audit.issue import Issue
from convscope.data.options import LoadOptions
from convscope.errors import DataError, UsageError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import encode_png

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

LARGE = 48  # pixels, the least side of what a network for larger pictures is meant for
DEFAULT_TEST_SPLIT = "test is a fixed stratified fifth"  # in the source of sets without a split of their own


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and their labels: rows of a store, which several splits share and which may be a memory-mapped file.

    store: uint8 (stored, height, width, channels), 0..255, channels 1, 3 or 4; (.., height, width) is taken as gray.
    labels: int64 (n,), an index into the class names; other integer types are converted.
    rows: int64 (n,), the place of each image in the store; by default all of them, in order.
    groups: int64 (n,), images of the same number are of the same thing; by default each is for itself.
    All arrays are read-only.

    Raises DataError where the arrays do not fit this or each other, or are empty.
    """

    store: Images
    labels: Labels
    rows: Labels | None = None
    groups: Labels | None = None

    def __post_init__(self) -> None:
        store = self.store[..., np.newaxis] if self.store.ndim == 3 else self.store
        _check_arrays(store, self.labels, self.rows)
        object.__setattr__(self, "store", _read_only(store))
        object.__setattr__(self, "labels", _read_only(self.labels.astype(np.int64, copy=False)))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self)} images, {_times(self.shape)})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        _, height, width, channels = self.store.shape
        return height, width, channels

    @property
    def images(self) -> Images:
        """The images in the order of the labels, uint8 (n, height, width, channels); a copy where `rows` choose."""
        return self.store if self.rows is None else self.store[self.rows]

    def image(self, number: int) -> Images:
        """One image, uint8 (height, width, channels)."""
        image: Images = self.store[number if self.rows is None else self.rows[number]]
        return image

    def indices(self, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in the store the images lie that have these numbers."""
        return which if self.rows is None else self.rows[which]

    def take(self, which: NDArray[Any]) -> Split:
        """The images that `which` picks, a boolean mask (n,) or indices, as a new split of the same store."""
        index = np.flatnonzero(which) if which.dtype == bool else which
        groups = None if self.groups is None else self.groups[index]
        return Split(self.store, self.labels[index], self.indices(index), groups)

    def subsample(self, most: int) -> Split:
        """At most so many images, evenly from the first to the last: of all classes, however they are sorted."""
        if most >= len(self):
            return self
        return self.take(np.linspace(0, len(self) - 1, most).astype(np.int64))

    def chunks(self, images: int = 1000) -> Iterator[Images]:
        """All images in order, so many at a time."""
        for first in range(0, len(self), images):
            part = slice(first, first + images)
            yield self.store[part] if self.rows is None else self.store[self.rows[part]]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A named data set of at least two classes, each with at least one training image.

    classes: the k class names; labels in all splits are 0..k-1. source: where it was read from, for people. validation:
    where the set has its own; else it is held out of train. For sets of picture files: load_options, what was asked
    for; preprocessing, how images of other sizes were transformed; issues, what a check of them found; files, the path
    of each row of the store; content, a digest that stands for all pixels and labels.

    Raises DataError where labels, classes and shapes of the splits do not fit each other.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    source: str
    validation: Split | None = None
    preprocessing: Preprocessing | None = None
    load_options: LoadOptions | None = None
    issues: tuple[Issue, ...] = ()
    files: tuple[str, ...] = ()
    content: str = ""

    def __post_init__(self) -> None:
        _check_classes(self.classes)
        for name, split in self.splits.items():
            _check_labels(name, split.labels, len(self.classes))
        _check_all_present(self.train.labels, len(self.classes))
        for name, split in self.splits.items():
            if split.shape != self.shape:
                raise DataError(
                    f"train images are {_times(self.shape)}, {name} images {_times(split.shape)}: "
                    "expected the same height, width and channels"
                )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name, train first."""
        own = {"validation": self.validation} if self.validation else {}
        return {"train": self.train, **own, "test": self.test}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.train.shape

    @property
    def kind(self) -> Literal["gray", "color", "small images", "sized images", "images"]:
        """What recipes make a difference between; pictures are files, small ones in color, sized ones as asked for."""
        height, width, channels = self.shape
        if self.preprocessing is not None and min(height, width) >= LARGE:
            return "sized images" if self.load_options and self.load_options.image_size else "images"
        if channels < 3:
            return "gray"
        return "color" if self.preprocessing is None else "small images"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hex, of class names, shapes, pixels and labels: two sets with the same content share it."""
        if self.content:
            return self.content
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in self.splits.values():
            digest.update(repr((len(split), *split.shape)).encode())
            for images in split.chunks():
                digest.update(np.ascontiguousarray(images).data)
            digest.update(split.labels.astype("<i8").data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        counts = f"{len(self.train)} train + {len(self.test)} test images"
        return f"Dataset({self.name}: {counts}, {_times(self.shape)}, {len(self.classes)} classes, {self.source})"

    def _repr_html_(self) -> str:
        """For notebooks: the counts, and the first nine training images with their class names."""
        rows = {"source": self.source, "train": len(self.train), "test": len(self.test), "image": _times(self.shape)}
        table = "".join(f"<tr><th>{key}</th><td>{html.escape(str(value))}</td></tr>" for key, value in rows.items())
        nine = self.train.take(np.arange(min(9, len(self.train))))
        figures = "".join(
            _figure(image, self.classes[label]) for image, label in zip(nine.images, nine.labels, strict=True)
        )
        return f"<b>{html.escape(self.name)}</b><table>{table}</table>{figures}"


def numbered_classes(labels: Labels) -> tuple[str, ...]:
    """Class names "0".."k-1" for training labels (n,) that are to run from 0 to k-1 without a gap.

    Raises DataError for a label below zero or a gap: one wild label must not make a million classes.

    >>> numbered_classes(np.array([1, 0, 2, 1]))
    ('0', '1', '2')
    """
    highest = int(labels.max())
    if labels.min() < 0:
        raise DataError(f"labels out of range in the train split: found {labels.min()}, expected 0 or more")
    _check_all_present(labels, highest + 1)
    return tuple(str(k) for k in range(highest + 1))


def as_levels(values: NDArray[Any], low: float = 0, high: float = 1) -> Images:
    """uint8 of numbers of any shape: `low` becomes 0 and `high` 255, what lies outside is cut off.

    >>> as_levels(np.array([0, 0.5, 1])), as_levels(np.array([-3, 8, 20]), 0, 16)
    (array([  0, 128, 255], dtype=uint8), array([  0, 128, 255], dtype=uint8))
    """
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values
    levels = np.rint((values - float(low)) * (255 / (high - low)))
    return np.clip(levels, 0, 255).astype(np.uint8)


def stratified_group_split(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Cut a split in two, (train, held out), class by class and always in the same way.

    Image i gets the i-th raw 64-bit number of NumPy's PCG64(seed), a stream that NumPy promises never to change. Of
    each class the images with the lowest numbers are held out: `fraction` of them, rounded half up, but at least one
    and never all; a class of one image stays in train whole. Both parts keep the order of the split.

    Images of a group stay together: a group counts as its first image, and is held out as a whole where each of its
    classes still wants as many images. A class whose groups are all too large for that gives its smallest one.

    Raises UsageError unless 0 < fraction < 1, DataError where nothing can be held out.

    >>> digits = Split(np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2)
    >>> stratified_group_split(digits, 0.2, seed=0)
    (Split(16 images, 8x8x1), Split(4 images, 8x8x1))
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the fraction to hold out is {fraction}: expected a number between 0 and 1, such as 0.1")
    numbers = np.random.PCG64(seed).random_raw(len(split))
    if split.groups is None:
        held = _held_images(split.labels, fraction, numbers)
    else:
        held = _held_groups(split.labels, split.groups, fraction, numbers)
    if not held.any():
        raise DataError("nothing can be held out: expected a class with two or more images that do not belong together")
    return split.take(~held), split.take(held)


def _wanted(fraction: float, images: int) -> int:
    """How many of a class's images are held out."""
    return min(max(1, int(fraction * images + 0.5)), images - 1)


def _held_images(labels: Labels, fraction: float, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        first = members[np.argsort(numbers[members], kind="stable")]
        held[first[: _wanted(fraction, len(members))]] = True
    return held


def _held_groups(labels: Labels, groups: Labels, fraction: float, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    sizes = np.bincount(labels)
    wanted = np.array([_wanted(fraction, size) for size in sizes])
    taken, held = np.zeros(len(sizes), int), np.zeros(len(labels), bool)
    _, firsts = np.unique(groups, return_index=True)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)  # in the order of `firsts`
    by_number = [members[place] for place in np.argsort(numbers[firsts], kind="stable")]
    for some in by_number:
        own, count = np.unique(labels[some], return_counts=True)
        if (taken[own] + count <= wanted[own]).all():
            held[some], taken[own] = True, taken[own] + count
    for some in sorted(by_number, key=len):  # for classes whose groups are all too large
        own, count = np.unique(labels[some], return_counts=True)
        if not taken[own].any() and (count < sizes[own]).all():
            held[some], taken[own] = True, count
    return held


def default_test_split(everything: Split) -> tuple[Split, Split]:
    """Train and test of a set without a test split: a `stratified_group_split` of 0.2 with seed 0, always the same."""
    return stratified_group_split(everything, 0.2, seed=0)


def _check_arrays(images: Images, labels: Labels, rows: Labels | None) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(
            f"images are {images.dtype} {images.shape}: "
            "expected uint8 (n, height, width) or (n, height, width, channels)"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"labels are {labels.dtype} {labels.shape}: expected integers (n,)")
    count = len(images) if rows is None else len(rows)
    if count != len(labels):
        raise DataError(f"{count} images but {len(labels)} labels: expected one label per image")
    if not images.size or not count:
        raise DataError(f"empty split: images are {images.shape}, expected at least one image of at least one pixel")
    if images.shape[3] not in (1, 3, 4):
        raise DataError(f"images have {images.shape[3]} channels, {images.shape}: expected 1, 3 or 4, as the last axis")


def _check_classes(classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise DataError(f"only one class ({list_some(classes)}): expected at least two to tell apart")
    odd = [name for name in classes if not name.isprintable()]
    if odd:
        raise DataError(f"class names with control characters ({list_some(map(repr, odd))}): expected printable text")
    if len(set(classes)) < len(classes):
        twice = dict.fromkeys(name for name in classes if classes.count(name) > 1)
        raise DataError(f"class names given more than once: {list_some(twice)}")


def _check_labels(split: str, labels: Labels, classes: int) -> None:
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if wrong.size:
        raise DataError(
            f"labels out of range in the {split} split: found {list_some(wrong)}, expected 0..{classes - 1} "
            f"for {classes} classes"
        )


def _check_all_present(labels: Labels, classes: int) -> None:
    present = np.unique(labels)
    if len(present) < classes:
        missing = classes - len(present)
        absent = np.setdiff1d(np.arange(min(classes, len(present) + 6)), present)  # a wild label costs no huge array
        raise DataError(
            f"labels with a gap: no training image of class {list_some(absent, total=missing)}, "
            f"expected every class 0..{classes - 1}"
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()  # the caller's own array stays writable
    view.flags.writeable = False
    return view


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _figure(image: Images, name: str) -> str:
    url = f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"
    return (
        f'<figure style="display:inline-block;margin:4px"><img alt="" height="64" src="{url}">'
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
    )
