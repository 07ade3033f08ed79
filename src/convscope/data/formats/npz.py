"""NumPy's .npz archives, with arrays named as Keras and MedMNIST name them, or one pair of images and labels."""

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

from convscope.data.dataset import Dataset
from convscope.data.formats.arrays import convert_classes, make_split
from convscope.data.options import LoadContext
from convscope.data.splitting import DEFAULT_TEST_SPLIT_NOTE, default_test_split
from convscope.data.validation import error_prefix, numbered_classes
from convscope.errors import DataError

Array = NDArray[Any]

PAIRS = (  # names of (images, labels), of train and test or of all images
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("images", "labels"),),
    (("X", "y"),),
    (("x", "y"),),
)
CLASSES = "classes"
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, MemoryError)  # of NumPy and zipfile


def is_npz(path: Path) -> bool:
    """Whether a path is a file named .npz."""
    return path.is_file() and path.suffix.lower() == ".npz"


def read_npz(path: Path, _context: LoadContext | None = None) -> Dataset:
    """Read an .npz that has the arrays of one row of PAIRS.

    Images are uint8 (n, height, width) or (n, height, width, 1 | 3 | 4), or floats in 0..1, which become
    round(255 * value). Labels are integers (n,) or (n, 1), or one-hot (n, k). An array `classes`, if present, holds the
    class names as strings. Other arrays, such as MedMNIST's val_images, are ignored, and `source` says so. A single
    pair gets the `default_test_split`.

    Args:
        path: the archive.

    Raises:
        DataError: the archive is damaged, or its arrays are of another kind.
    """
    with error_prefix(str(path)):
        with path.open("rb") as file, _open(file) as archive:
            pairs = _choose_pairs(archive.files)
            wanted = [*(key for pair in pairs for key in pair), CLASSES]
            arrays = {key: _read_array(archive, key) for key in wanted if key in archive.files}
        splits = [make_split(images, labels, arrays[images], arrays[labels]) for images, labels in pairs]
        train, test = splits if len(splits) == 2 else default_test_split(splits[0])
        classes = convert_classes(arrays[CLASSES]) if CLASSES in arrays else numbered_classes(train.labels)
        return Dataset(path.stem, classes, train, test, _source(path, arrays, set(archive.files) - set(arrays)))


def _open(file: BinaryIO) -> NpzFile:
    archive = None
    with suppress(*DAMAGE):
        archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, NpzFile):
        raise DataError("not an .npz, or a truncated one: expected a complete archive, as np.savez writes it")
    return archive


def _choose_pairs(keys: Collection[str]) -> tuple[tuple[str, str], ...]:
    for pairs in PAIRS:
        if all(key in keys for pair in pairs for key in pair):
            return pairs
    known = "; ".join(", ".join(key for pair in pairs for key in pair) for pairs in PAIRS)
    raise DataError(f"no known arrays, found {', '.join(keys) or 'none'}: expected {known}")


def _read_array(archive: NpzFile, key: str) -> Array:
    try:
        array = archive[key]
    except DAMAGE as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{key}: Python objects, which are never loaded: save numbers or strings") from error
        reason = " ".join(str(error).split())
        raise DataError(f"{key}: damaged ({reason}): download or save the .npz again") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{key}: not an array: expected an .npz archive, as np.savez writes it")
    return array


def _source(path: Path, arrays: dict[str, Array], ignored: Collection[str]) -> str:
    """The path, and notes on how the arrays were read."""
    notes = [str(path)]
    if any(array.dtype.kind == "f" and array.ndim > 2 for array in arrays.values()):
        notes.append("floats 0..1 scaled to 0..255")
    if ignored:
        notes.append(f"ignored: {', '.join(sorted(ignored))}")
    if len(arrays.keys() - {CLASSES}) == 2:
        notes.append(DEFAULT_TEST_SPLIT_NOTE)
    return "; ".join(notes)
