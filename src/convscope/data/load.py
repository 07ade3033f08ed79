"""A name or a path -> a data set."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from convscope._extras import needs_extra
from convscope._reporting import Reporter
from convscope.data.archives import naming, read_package
from convscope.data.dataset import DEFAULT_TEST_SPLIT, Dataset, Split, default_test_split
from convscope.data.download import fetch
from convscope.data.formats.idx import has_idx, read_idx
from convscope.data.formats.image_folder import read_image_files
from convscope.data.formats.listing import TABLES
from convscope.data.formats.npz import read_npz
from convscope.data.options import LoadOptions
from convscope.data.registry import NAMES, SETS, NamedSet
from convscope.errors import DataError

PATHS = (
    "the path of a folder with a folder of images per class, of a .csv or .jsonl of files and labels, of an .npz or IDX"
)


def load_data(
    source: str | Path | Dataset, options: LoadOptions | None = None, reporter: Reporter | None = None
) -> Dataset:
    """The data set of that name (see NAMES) or at that path: pictures in class folders or named in a table, npz, IDX.

    A name wins over a folder of the same name: write ./mnist for the folder. Named sets are looked for in
    $CONVSCOPE_DATA, then in the user's cache, then downloaded into the cache. `options` is how images are read;
    `reporter` gets the progress of downloads and of decoding. A Dataset is returned as it is.

    Raises DataError where the set is not known, cannot be had or is not sound.
    """
    if isinstance(source, Dataset):
        return source
    reporter, name = reporter or Reporter(), source
    if str(name) == "digits":
        return _load_digits()
    if str(name) in SETS:
        return _load_named(SETS[str(name)], reporter)
    path = Path(name)
    with naming(str(name)):
        is_file, is_folder = path.is_file(), path.is_dir()
    if not str(name) or not (is_file or is_folder):
        raise DataError(_unknown(str(name)))
    if is_file and path.suffix.lower() == ".npz":
        return read_npz(path)
    if path.suffix.lower() in TABLES if is_file else not has_idx(path):
        return read_image_files(path, options or LoadOptions(), cache_folder(), reporter)
    return read_idx(path)


def load_default(reporter: Reporter) -> Dataset:
    """MNIST if it can be had, else `digits`; the reporter gets one line that tells which.

    Raises DataError where neither can be had.
    """
    try:
        dataset = load_data("mnist", reporter=reporter)
    except DataError:
        dataset = load_data("digits")
        reporter.message(
            "No data set named, and MNIST cannot be had (`convscope data show mnist` says why): taking digits"
        )
    else:
        reporter.message(f"No data set named: taking mnist from {dataset.source}")
    return dataset


def cache_folder() -> Path:
    """Where downloaded data sets are kept, one sub-folder each."""
    return user_cache_path("convscope")


def _load_named(wanted: NamedSet, reporter: Reporter) -> Dataset:
    with naming(wanted.name):
        contents, folder = _from_data_folder(wanted) or _from_cache(wanted, reporter)
    files = [file for package in wanted.packages for file in package.files]
    train, test = wanted.decode([contents[file.name] for file in files])
    return Dataset(wanted.name, wanted.classes, train, test, str(folder))


def _from_data_folder(wanted: NamedSet) -> tuple[dict[str, bytes], Path] | None:
    for folder in _places(wanted):
        found = [read_package(folder, package) for package in wanted.packages]
        if all(found):
            return {name: content for part in found if part for name, content in part.items()}, folder
    return None


def _from_cache(wanted: NamedSet, reporter: Reporter) -> tuple[dict[str, bytes], Path]:
    folder = cache_folder() / wanted.name
    try:
        return fetch(wanted, folder, reporter), folder
    except DataError as error:
        places = ", ".join(map(str, _places(wanted))) or "$CONVSCOPE_DATA, which is not set"
        packages = ", ".join(package.name for package in wanted.packages)
        raise DataError(
            f"not in {places}, nor in the cache {folder}; {error}; "
            f"put {packages} there, plain or packed, or try again with a network"
        ) from error


def _places(wanted: NamedSet) -> list[Path]:
    """The folders inside $CONVSCOPE_DATA where the set may lie."""
    root = os.environ.get("CONVSCOPE_DATA")
    return [Path(root, folder) for folder in wanted.folders] if root else []


def _load_digits() -> Dataset:
    """The 1,797 digits of 8x8 pixels inside scikit-learn, their values 0..16 stretched to 0..255."""
    with needs_extra("digits"):
        from sklearn.datasets import load_digits
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)
    train, test = default_test_split(Split(images, digits.target))
    return Dataset("digits", tuple("0123456789"), train, test, f"scikit-learn; {DEFAULT_TEST_SPLIT}")


def _unknown(name: str) -> str:
    known = f"expected {', '.join(NAMES)}, or {PATHS}"
    if Path(name).name != name or Path(name).suffix:
        return f"no such file or folder: {name}; {known}"
    close = difflib.get_close_matches(name.lower(), NAMES, n=1)
    return f"unknown data set {name!r}{f', did you mean {close[0]!r}?' if close else ':'} {known}"
