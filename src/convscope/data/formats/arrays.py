"""Arrays of images and labels, as they come from NumPy, Keras, scikit-learn or PyTorch -> a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope.data.dataset import Dataset, Split
from convscope.data.splitting import DEFAULT_TEST_SPLIT_NOTE, default_test_split
from convscope.data.types import Images
from convscope.data.validation import error_prefix, numbered_classes
from convscope.errors import DataError

ArraySource: TypeAlias = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, Sequence[str]] | Mapping[str, Any]

SPLITS, CLASSES = ("train", "test", "validation"), "classes"
EXPECTED = '(images, labels), (images, labels, class_names), or {"train": (images, labels), "test": (images, labels)}'


def dataset_from_arrays(source: ArraySource) -> Dataset:
    """Check and convert arrays in memory.

    Args:
        source: (images, labels), (images, labels, class_names), or a dict of such pairs named "train", "test" and
            "validation", of which only "train" is required, with the class names as "classes". Without "test", train
            gets the `default_test_split`. See `convert_images`, `convert_labels` and `convert_classes` for the arrays.

    Raises:
        DataError: the arrays are of another kind, or do not fit each other.
    """
    with error_prefix("arrays"):
        pairs, classes = _unpack(source)
        splits = {name: make_split(f"{name} images", f"{name} labels", *pair) for name, pair in pairs.items()}
        notes = ["arrays"]
        train, test = splits["train"], splits.get("test")
        if test is None:
            train, test = default_test_split(train)
            notes.append(DEFAULT_TEST_SPLIT_NOTE)
        names = numbered_classes(splits["train"].labels) if classes is None else convert_classes(np.asarray(classes))
        return Dataset("arrays", names, train, test, "; ".join(notes), validation=splits.get("validation"))


def make_split(images_name: str, labels_name: str, images: ArrayLike, labels: ArrayLike) -> Split:
    """Convert and check a pair of arrays.

    Args:
        images_name: name of the images in messages.
        labels_name: name of the labels in messages.
        images: see `convert_images`.
        labels: see `convert_labels`.

    Raises:
        DataError: the arrays are of another kind, or do not fit each other.
    """
    with error_prefix(images_name):
        pixels = convert_images(_as_array(images))
    with error_prefix(labels_name):
        indices = convert_labels(_as_array(labels))
    with error_prefix(f"{images_name} and {labels_name}"):
        return Split(pixels, indices)


def convert_images(images: NDArray[Any]) -> NDArray[Any]:
    """Floats in 0..1 as uint8, round(255 * value); arrays of any other type unchanged.

    Raises DataError for floats that are outside 0..1, NaN or infinite.
    """
    if images.dtype.kind != "f" or not images.size:
        return images
    if wrong := np.count_nonzero(~np.isfinite(images)):
        raise DataError(f"{wrong} of {images.size} values are NaN or infinite: expected floats in 0..1")
    if images.min() < 0 or images.max() > 1:
        raise DataError(f"floats from {images.min():g} to {images.max():g}: expected floats in 0..1 or uint8 0..255")
    return scale_to_uint8(images)


def convert_labels(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels (n, 1) or one-hot (n, k) as (n,); arrays of any other shape unchanged. Raises DataError if not one-hot."""
    if labels.ndim != 2:
        return labels
    if labels.shape[1] == 1:
        return np.ravel(labels)
    ones = labels == 1
    if not (ones | (labels == 0)).all() or (ones.sum(axis=1) != 1).any():
        raise DataError(f"labels {labels.shape} are not one-hot: expected exactly one 1 and zeros in every row")
    return np.nonzero(ones)[1]


def convert_classes(classes: NDArray[Any]) -> tuple[str, ...]:
    """Class names from an array of strings (k,). Raises DataError for anything else."""
    if classes.dtype.kind != "U" or classes.ndim != 1:
        raise DataError(f"classes is {classes.dtype} {classes.shape}: expected one string per class, (k,)")
    return tuple(classes.tolist())


def scale_to_uint8(values: NDArray[Any], low: float = 0, high: float = 1) -> Images:
    """Map numbers linearly to uint8.

    Args:
        values: numbers of any type and shape.
        low: becomes 0, like everything below it.
        high: becomes 255, like everything above it.

    >>> scale_to_uint8(np.array([0, 0.5, 1])), scale_to_uint8(np.array([-3, 8, 20]), 0, 16)
    (array([  0, 128, 255], dtype=uint8), array([  0, 128, 255], dtype=uint8))
    """
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values
    levels = np.rint((values - float(low)) * (255 / (high - low)))
    return np.clip(levels, 0, 255).astype(np.uint8)


def _unpack(source: ArraySource) -> tuple[dict[str, Any], Sequence[str] | None]:
    """The (images, labels) of each split, train among them, and the class names if they are given."""
    if isinstance(source, Mapping):
        pairs = {name: value for name, value in source.items() if name != CLASSES}
        if unknown := [repr(name) for name in pairs if name not in SPLITS]:
            raise DataError(f"unknown split {unknown[0]}: expected train, test, validation or {CLASSES}")
        if "train" not in pairs:
            raise DataError(f"no train split: expected {EXPECTED}")
        wrong = next((name for name, pair in pairs.items() if not isinstance(pair, tuple | list) or len(pair) != 2), "")
        if wrong:
            raise DataError(f"{wrong} is no pair: expected (images, labels)")
        return pairs, source.get(CLASSES)
    if not isinstance(source, tuple | list) or len(source) not in (2, 3):
        size = f" of {len(source)}" if isinstance(source, tuple | list) else ""
        raise DataError(f"{type(source).__name__}{size}: expected {EXPECTED}")
    return {"train": source[:2]}, source[2] if len(source) == 3 else None


def _as_array(values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:  # NumPy's message is about its own call
        raise DataError("items of different shapes: expected an array, or a list of equally large items") from error
