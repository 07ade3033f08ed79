"""Data sets: uint8 images, labels and class names, in a train, a test and perhaps a validation split."""

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

from convscope.data.audit.issue import Issue
from convscope.data.options import LoadOptions
from convscope.data.types import Images, Labels
from convscope.data.validation import check_all_present, check_arrays, check_classes, check_labels
from convscope.errors import DataError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import encode_png

MAX_CHUNK_BYTES = 2**26
HASH_BYTES = 8
LARGE_IMAGE_SIDE = 48  # pixels; from this shorter side on, image files are trained with the recipes for large images

Kind = Literal["gray", "color", "small images", "sized images", "images"]


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and their labels: rows of a store, which several splits share and which may be a memory-mapped file.

    All arrays are read-only. Raises DataError if they are empty, or do not fit each other or this description.

    Attributes:
        store: uint8 (stored, height, width, channels), 0..255, channels 1, 3 or 4; (stored, height, width) is gray.
        labels: int64 (n,), indices of classes; other integer types are converted.
        rows: int64 (n,), the row of each image in the store; None for all rows in order.
        groups: int64 (n,); images with the same number belong together and stay in one split. None if no images do.
    """

    store: Images
    labels: Labels
    rows: Labels | None = None
    groups: Labels | None = None

    def __post_init__(self) -> None:
        store = self.store[..., np.newaxis] if self.store.ndim == 3 else self.store
        check_arrays(store, self.labels, self.rows)
        object.__setattr__(self, "store", _read_only(store))
        object.__setattr__(self, "labels", _read_only(self.labels.astype(np.int64, copy=False)))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self)} images, {_shape_text(self.shape)})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        _, height, width, channels = self.store.shape
        return height, width, channels

    @property
    def images(self) -> Images:
        """The images in the order of the labels, uint8 (n, height, width, channels); a copy unless `rows` is None."""
        return self.store if self.rows is None else self.store[self.rows]

    def image(self, index: int) -> Images:
        """One image, uint8 (height, width, channels)."""
        image: Images = self.store[index if self.rows is None else self.rows[index]]
        return image

    def indices(self, images: Labels) -> Labels:
        """Row indices in the store for these image indices."""
        return images if self.rows is None else self.rows[images]

    def take(self, images: NDArray[Any]) -> Split:
        """A new split of the same store with some of the images, given as a boolean mask (n,) or as indices."""
        index = np.flatnonzero(images) if images.dtype == bool else images
        groups = None if self.groups is None else self.groups[index]
        return Split(self.store, self.labels[index], self.indices(index), groups)

    def subsample(self, n: int) -> Split:
        """At most n images, evenly spaced from the first to the last, so that a sorted split keeps all its classes."""
        if n >= len(self):
            return self
        return self.take(np.linspace(0, len(self) - 1, n).astype(np.int64))

    def chunks(self, n: int | None = None) -> Iterator[Images]:
        """All images in order, n at a time; by default 1,000, or as many as take 64 MB."""
        n = n or max(1, min(1000, MAX_CHUNK_BYTES // self.store[0].nbytes))
        for first in range(0, len(self), n):
            part = slice(first, first + n)
            yield self.store[part] if self.rows is None else self.store[self.rows[part]]

    def hashes(self) -> NDArray[np.uint64]:
        """The first 64 bits of the BLAKE2b (RFC 7693) of every image's pixels, uint64 (n,).

        Two of a million different images have the same hash with a probability of 3e-8.
        """
        digests = (
            hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=HASH_BYTES).digest()
            for images in self.chunks()
            for image in images
        )
        return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A named data set of two or more classes, each with at least one training image.

    Raises DataError if the labels, classes and shapes of the splits do not fit each other.

    Attributes:
        name: for messages and file names.
        classes: the k class names; labels in all splits are 0..k-1.
        train: the training split, from which a validation split is held out if there is none.
        test: the test split.
        source: where it was read from, in words.
        validation: the data set's own validation split.
        preprocessing: how image files were transformed; None for arrays.
        load_options: how image files were asked to be read; None for arrays.
        issues: what the audit of image files found.
        files: the path of each row of the store, for image files.
        content: a digest of all pixels and labels that is already known.
        file_side: the shorter side, in pixels, of the median image file; None for arrays.
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
    file_side: int | None = None

    def __post_init__(self) -> None:
        check_classes(self.classes)
        for name, split in self.splits.items():
            check_labels(name, split.labels, len(self.classes))
        check_all_present(self.train.labels, len(self.classes), self.classes)
        for name, split in self.splits.items():
            if split.shape != self.shape:
                raise DataError(
                    f"train images are {_shape_text(self.shape)}, {name} images {_shape_text(split.shape)}: "
                    "expected the same height, width and channels"
                )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name, train first."""
        validation = {"validation": self.validation} if self.validation else {}
        return {"train": self.train, **validation, "test": self.test}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.train.shape

    @property
    def kind(self) -> Kind:
        """What recipes distinguish: gray or color arrays; image files that are small, large, or of a requested size."""
        height, width, channels = self.shape
        if self.preprocessing is not None and min(height, width) >= LARGE_IMAGE_SIDE:
            return "sized images" if self.load_options and self.load_options.image_size else "images"
        if channels < 3:
            return "gray"
        return "color" if self.preprocessing is None else "small images"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of class names, shapes, pixels and labels; equal for data sets with the same content."""
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
        return f"Dataset({self.name}: {counts}, {_shape_text(self.shape)}, {len(self.classes)} classes, {self.source})"

    def _repr_html_(self) -> str:
        """The counts and the first nine training images with their class names, for notebooks."""
        rows = {
            "source": self.source, "train": len(self.train), "test": len(self.test), "image": _shape_text(self.shape)
        }  # fmt: skip
        table = "".join(f"<tr><th>{key}</th><td>{html.escape(str(value))}</td></tr>" for key, value in rows.items())
        nine = self.train.take(np.arange(min(9, len(self.train))))
        figures = "".join(
            _html_figure(image, self.classes[label]) for image, label in zip(nine.images, nine.labels, strict=True)
        )
        return f"<b>{html.escape(self.name)}</b><table>{table}</table>{figures}"


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()  # the caller's own array stays writable
    view.flags.writeable = False
    return view


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _html_figure(image: Images, name: str) -> str:
    url = f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"
    return (
        f'<figure style="display:inline-block;margin:4px"><img alt="" height="64" src="{url}">'
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
    )
