"""Loading a data set by its name, from a path, or from arrays."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

from convscope._files import check_regular
from convscope._reporting import Reporter
from convscope.data.dataset import Dataset
from convscope.data.folders.archive import stem
from convscope.data.formats.arrays import ArraySource, dataset_from_arrays
from convscope.data.formats.idx import is_idx, read_idx, read_labeled_idx
from convscope.data.formats.image_files import read_image_files, read_labeled_files
from convscope.data.formats.npz import is_npz, read_labeled_npz, read_npz
from convscope.data.formats.table import is_table
from convscope.data.formats.unpacked import find_path, unpacked
from convscope.data.labeled import LabeledImages, labeled_test_split
from convscope.data.named import load_named
from convscope.data.options import LoadContext, LoadOptions, cache_folder
from convscope.data.registry import NAMES
from convscope.data.validation import error_prefix
from convscope.errors import DataError

PATHS = (
    "a folder with one folder of images per class, a .zip or .tar of it, a .csv or .jsonl of files and labels, "
    "a .parquet, an .npz, or IDX files"
)


DataSource: TypeAlias = str | Path | Dataset | ArraySource


class Format(NamedTuple):
    """A kind of data set on disk.

    Attributes:
        matches: recognizes it without reading all of it.
        read: reads and checks it, to train on.
        read_labeled: reads the images to measure a network on: its test split, or all images if it has none. None
            stands for the test split of what `read` returns.
    """

    matches: Callable[[Path], bool]
    read: Callable[[Path, LoadContext], Dataset]
    read_labeled: Callable[[Path, LoadContext], LabeledImages] | None = None


FORMATS: tuple[Format, ...] = (  # tried in this order
    Format(is_npz, read_npz, read_labeled_npz),
    Format(is_table, read_image_files, read_labeled_files),
    Format(is_idx, read_idx, read_labeled_idx),
    Format(Path.is_dir, read_image_files, read_labeled_files),
)


def load_data(source: DataSource, options: LoadOptions | None = None, reporter: Reporter | None = None) -> Dataset:
    """Load a data set.

    A name is searched in $CONVSCOPE_DATA, then in the user's cache, then downloaded into the cache. It wins over a
    folder of the same name: write ./mnist for the folder. Data sets without a test split get a fixed, stratified one
    of 20 %.

    Args:
        source: a name (digits, mnist, fashion-mnist, cifar10); the path of a folder with one folder of images per
            class, of a .zip or .tar of it, of a .csv or .jsonl of files and labels, of a .parquet, of an .npz or of IDX
            files; the address of any of these, such as s3://bucket/photos, which is downloaded into the cache; or
            arrays: (images, labels),
            (images, labels, class_names), or a dict of such pairs named "train", "test" and "validation", with the
            class names as "classes". Images are uint8 (n, height, width) or (n, height, width, channels) with 1, 3 or
            4 channels, or floats in 0..1; labels are integers (n,) or (n, 1), or one-hot (n, k). A Dataset is returned
            as it is.
        options: how image files are read.
        reporter: receives messages and the progress of downloading and decoding; by default messages are warnings.

    Raises:
        DataError: the data set is unknown, cannot be read or downloaded, or is invalid.
        MissingExtraError: the data set needs a package that is not installed.

    >>> import numpy as np
    >>> images, labels = np.zeros((10, 8, 8), np.uint8), np.arange(10) % 2
    >>> load_data((images, labels, ["cat", "dog"]))
    Dataset(arrays: 8 train + 2 test images, 8x8x1, 2 classes, arrays; test split: a fixed, stratified 20 %)
    """
    if isinstance(source, Dataset):
        return source
    if not isinstance(source, str | Path):
        return dataset_from_arrays(source)
    reporter = reporter or Reporter()
    if str(source) in NAMES:
        return _load_named(str(source), reporter)
    context = LoadContext(options or LoadOptions(), cache_folder(), reporter)
    with unpacked(_existing(str(source), context), context) as path:
        dataset = _find_format(path).read(path, context)
    return replace(dataset, name=stem(Path(source).resolve()), source=dataset.source.replace(str(path), str(source)))


def load_labeled(
    source: str, classes: tuple[str, ...], options: LoadOptions | None = None, reporter: Reporter | None = None
) -> LabeledImages:
    """Load the images of a data set that measure a trained network: its test split, or all images if it has none.

    Args:
        source: a name or a path, see `load_data`.
        classes: the classes of the network, which decide how an unclear layout of folders is read.
        options: how image files are read.
        reporter: receives messages and the progress of downloading and decoding.

    Raises:
        DataError: the data set is unknown, cannot be read or downloaded, or is invalid.
        MissingExtraError: the data set needs a package that is not installed.
    """
    reporter = reporter or Reporter()
    if source in NAMES:
        return labeled_test_split(_load_named(source, reporter), source)
    context = LoadContext(options or LoadOptions(), cache_folder(), reporter, classes)
    with unpacked(_existing(source, context), context) as path:
        found = _find_format(path)
        if found.read_labeled is None:
            return labeled_test_split(found.read(path, context), source)
        labeled = found.read_labeled(path, context)
    return labeled._replace(description=labeled.description.replace(str(path), source))


def load_default(reporter: Reporter) -> Dataset:
    """MNIST, or digits if MNIST cannot be loaded; the reporter gets one line that says which.

    Raises DataError or MissingExtraError if neither can be loaded.
    """
    try:
        dataset = load_data("mnist", reporter=reporter)
    except DataError:
        dataset = load_data("digits")
        reporter.message(
            "No data set given, and MNIST cannot be loaded (`convscope data show mnist` says why): using digits"
        )
    else:
        reporter.message(f"No data set given: using mnist from {dataset.source}")
    return dataset


def _load_named(name: str, reporter: Reporter) -> Dataset:
    """The data set of a name, with a message if another folder or file has that name too."""
    dataset = load_named(name, reporter)
    if Path(name).exists() and Path(name).resolve() != Path(dataset.source).resolve():
        reporter.message(f"{name} is the data set of that name; write ./{name} for what is in this folder")
    return dataset


def _existing(source: str, context: LoadContext) -> Path:
    """The path of a data set, which may lead into an archive. Raises DataError if there is none."""
    path = find_path(source, context)
    if path is None:
        raise DataError(_unknown(source))
    return path


def _find_format(path: Path) -> Format:
    """The first format that matches a path."""
    with error_prefix(str(path)):
        if not path.is_dir():
            check_regular(path.stat().st_mode)
        for found in FORMATS:
            if found.matches(path):
                return found
    raise DataError(f"{path}: unknown format; expected {PATHS}")


def _unknown(name: str) -> str:
    known = f"expected {', '.join(NAMES)}, or the path of {PATHS}"
    if Path(name).name != name or Path(name).suffix:
        return f"no such file or folder: {name}; {known}"
    close = difflib.get_close_matches(name.lower(), NAMES, n=1)
    return f"unknown data set {name!r}{f', did you mean {close[0]!r}?' if close else ':'} {known}"
