"""NumPy's .npz archives: as Keras and MedMNIST name their arrays, or one pair of images and labels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from convscope.data.archives import naming
from convscope.data.dataset import DEFAULT_TEST_SPLIT, Dataset, Split, as_levels, default_test_split, numbered_classes
from convscope.errors import DataError

Array = NDArray[Any]

PAIRS = (  # (images, labels) of train and test, or of all images
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("images", "labels"),),
    (("X", "y"),),
    (("x", "y"),),
)
CLASSES = "classes"
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, MemoryError)  # NumPy's and zipfile's


def read_npz(path: Path) -> Dataset:
    """The data set in an .npz that has the arrays of one row of PAIRS; one pair alone gets the `default_test_split`.

    Images: uint8 (n, height, width) or (n, height, width, 1 | 3 | 4), or floats in 0..1, which become
    round(255 * value). Labels: integers (n,) or (n, 1), or one-hot (n, k). `classes`, where there is one, holds the
    class names as strings. Other arrays, such as MedMNIST's val_images, are left out, and `source` says so.
    """
    with naming(str(path)):
        with path.open("rb") as file, _open(file) as archive:
            pairs = _choose(archive.files)
            wanted = [*(key for pair in pairs for key in pair), CLASSES]
            arrays = {key: _array(archive, key) for key in wanted if key in archive.files}
        splits = [_split(arrays, *pair) for pair in pairs]
        train, test = splits if len(splits) == 2 else default_test_split(splits[0])
        classes = _class_names(arrays[CLASSES]) if CLASSES in arrays else numbered_classes(train.labels)
        return Dataset(path.stem, classes, train, test, _source(path, arrays, set(archive.files) - set(arrays)))


def _open(file: BinaryIO) -> NpzFile:
    opened = None
    with suppress(*DAMAGE):
        opened = np.load(file, allow_pickle=False)
    if not isinstance(opened, NpzFile):
        raise DataError("not an .npz, or a truncated one: expected a whole archive, as np.savez writes it")
    return opened


def _choose(keys: Collection[str]) -> tuple[tuple[str, str], ...]:
    for pairs in PAIRS:
        if all(key in keys for pair in pairs for key in pair):
            return pairs
    known = "; ".join(", ".join(key for pair in pairs for key in pair) for pairs in PAIRS)
    raise DataError(f"no known arrays, found {', '.join(keys) or 'none'}: expected {known}")


def _array(archive: NpzFile, key: str) -> Array:
    try:
        array = archive[key]
    except DAMAGE as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{key}: Python objects, which are never loaded: save numbers or strings") from error
        reason = " ".join(str(error).split())
        raise DataError(f"{key}: damaged ({reason}): get the .npz again or save it anew") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{key}: not an array: expected an .npz archive of np.savez")
    return array


def _split(arrays: dict[str, Array], images: str, labels: str) -> Split:
    with naming(images):
        pixels = _pixels(arrays[images])
    with naming(labels):
        indices = _indices(arrays[labels])
    with naming(f"{images} and {labels}"):
        return Split(pixels, indices)


def _pixels(images: Array) -> Array:
    """uint8 from floats in 0..1; any other array as it is."""
    if images.dtype.kind != "f" or not images.size:
        return images
    if wrong := np.count_nonzero(~np.isfinite(images)):
        raise DataError(f"{wrong} of {images.size} values are NaN or infinite: expected floats in 0..1")
    if images.min() < 0 or images.max() > 1:
        raise DataError(f"floats from {images.min():g} to {images.max():g}: expected floats in 0..1 or uint8 0..255")
    return as_levels(images)


def _indices(labels: Array) -> Array:
    """Labels (n,) from (n, 1) or one-hot (n, k); any other array as it is."""
    if labels.ndim != 2:
        return labels
    if labels.shape[1] == 1:
        return np.ravel(labels)
    ones = labels == 1
    if not (ones | (labels == 0)).all() or (ones.sum(axis=1) != 1).any():
        raise DataError(f"labels {labels.shape} are not one-hot: expected a single 1 and else 0 in every row")
    return np.nonzero(ones)[1]


def _class_names(classes: Array) -> tuple[str, ...]:
    if classes.dtype.kind != "U" or classes.ndim != 1:
        raise DataError(f"{CLASSES} is {classes.dtype} {classes.shape}: expected one string per class, (k,)")
    return tuple(classes.tolist())


def _source(path: Path, arrays: dict[str, Array], left_out: Collection[str]) -> str:
    notes = [str(path)]
    if any(array.dtype.kind == "f" and array.ndim > 2 for array in arrays.values()):
        notes.append("floats 0..1 became 0..255")
    if left_out:
        notes.append(f"left out: {', '.join(sorted(left_out))}")
    if len(arrays.keys() - {CLASSES}) == 2:
        notes.append(DEFAULT_TEST_SPLIT)
    return "; ".join(notes)
