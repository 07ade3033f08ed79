"""NumPy's .npz archives, with arrays named as Keras and MedMNIST name them, or one pair of images and labels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from convscope._text import reason_of
from convscope.data.dataset import Dataset
from convscope.data.formats.arrays import convert_classes, make_split
from convscope.data.labeled import LabeledImages, describe_measured, numbered_images
from convscope.data.options import LoadContext
from convscope.data.splitting import DEFAULT_TEST_SPLIT_NOTE, default_test_split
from convscope.data.validation import check_labels, error_prefix, numbered_classes
from convscope.errors import DataError

Array = NDArray[Any]
Pairs = tuple[tuple[str, str], ...]

PAIRS = (  # names of (images, labels), of train and test or of all images
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("images", "labels"),),
    (("X", "y"),),
    (("x", "y"),),
)
TEST_PAIRS = tuple((pairs[-1],) for pairs in PAIRS)  # to measure a network on
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
        pairs, arrays, ignored = _read_arrays(path, PAIRS)
        splits = [make_split(images, labels, arrays[images], arrays[labels]) for images, labels in pairs]
        train, test = splits if len(splits) == 2 else default_test_split(splits[0])
        classes = convert_classes(arrays[CLASSES]) if CLASSES in arrays else numbered_classes(train.labels)
        return Dataset(path.stem, classes, train, test, _source(path, arrays, ignored))


def read_labeled_npz(path: Path, _context: LoadContext | None = None) -> LabeledImages:
    """Read the images of an .npz that measure a network: the test pair, or the only pair.

    Raises DataError as `read_npz` does.
    """
    with error_prefix(str(path)):
        pairs, arrays, _ = _read_arrays(path, TEST_PAIRS)
        images = make_split(*pairs[0], *(arrays[key] for key in pairs[0]))
        description = describe_measured(str(path), "test" if "test" in pairs[0][0] else "", len(images))
        if CLASSES not in arrays:
            return numbered_images(images, description)
        classes = convert_classes(arrays[CLASSES])
        check_labels("test", images.labels, len(classes))
        return LabeledImages(images, classes, description)


def _read_arrays(path: Path, known: Sequence[Pairs]) -> tuple[Pairs, dict[str, Array], set[str]]:
    """The names of the first pairs that are known, their arrays and the classes, and the names of other arrays."""
    with path.open("rb") as file, _open(file) as archive:
        pairs = _choose_pairs(archive.files, known)
        wanted = [*(key for pair in pairs for key in pair), CLASSES]
        arrays = {key: _read_array(archive, key) for key in wanted if key in archive.files}
        return pairs, arrays, set(archive.files) - set(arrays)


def _open(file: BinaryIO) -> NpzFile:
    archive = None
    with suppress(*DAMAGE):
        archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, NpzFile):
        raise DataError("not an .npz, or a truncated one: expected a complete archive, as np.savez writes it")
    return archive


def _choose_pairs(keys: Collection[str], known: Sequence[Pairs]) -> Pairs:
    for pairs in known:
        if all(key in keys for pair in pairs for key in pair):
            return pairs
    expected = "; ".join(", ".join(key for pair in pairs for key in pair) for pairs in known)
    raise DataError(f"no known arrays, found {', '.join(keys) or 'none'}: expected {expected}")


def _read_array(archive: NpzFile, key: str) -> Array:
    try:
        array = archive[key]
    except DAMAGE as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{key}: Python objects, which are never loaded: save numbers or strings") from error
        raise DataError(f"{key}: damaged ({reason_of(error)}): download or save the .npz again") from error
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
