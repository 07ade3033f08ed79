"""Image files in class folders or in a table -> a data set: listed, decoded once, analyzed, split."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from convscope._text import list_some
from convscope.data.audit.analysis import Analysis
from convscope.data.audit.rules import find_issues
from convscope.data.cache.pixel_cache import open_store
from convscope.data.dataset import Dataset, Split
from convscope.data.formats.image_folder import list_folder
from convscope.data.formats.table import CSV_SUFFIXES, JSON_SUFFIXES, is_table, list_table
from convscope.data.options import LoadContext, LoadOptions
from convscope.data.splitting import DEFAULT_TEST_SPLIT_NOTE, default_test_split
from convscope.data.types import Labels
from convscope.data.validation import error_prefix
from convscope.errors import DataError

MIN_IMAGES_PER_CLASS = 5  # to train, validate and test on


def read_image_files(path: Path, context: LoadContext) -> Dataset:
    """The data set of a folder with one folder per class, or of a table of files and labels.

    Files that cannot be read, files with two labels and repeated files are excluded; `issues` lists them. Without
    splits of its own, the set gets the `default_test_split`, in which images that belong together stay together.

    Args:
        path: the folder or table.
        context: options, cache and reporter.

    Raises:
        DataError: the path is of another kind, or a class has fewer than 5 usable images.
    """
    analysis = analyze(path, context)
    with error_prefix(str(path)):
        return build_dataset(path, analysis, context.options)


def analyze(path: Path, context: LoadContext) -> Analysis:
    """List and decode the images of a folder or a table.

    Args:
        path: the folder or table.
        context: options, cache and reporter.

    Raises:
        DataError: it is neither, or no image can be read.
    """
    with error_prefix(str(path)):
        if path.is_file() and not is_table(path):
            suffixes = ", ".join(CSV_SUFFIXES + JSON_SUFFIXES)
            raise DataError(f"a file: expected a folder with one folder of images per class, or one of {suffixes}")
        listing = list_table(path) if path.is_file() else list_folder(path)
        return Analysis(listing, open_store(listing, context), context.options.group_by)


def build_dataset(path: Path, analysis: Analysis, options: LoadOptions) -> Dataset:
    """The data set of the usable images.

    Args:
        path: names the data set.
        analysis: its images.
        options: how they were read.

    Raises:
        DataError: a class has fewer than 5 usable images.
    """
    _check_counts(analysis)
    listing, store = analysis.listing, analysis.store
    own = {name: _split(analysis, name) for name in dict.fromkeys(listing.splits)}
    validation = None
    if not own:
        train, test = default_test_split(_split(analysis))
    elif "test" in own:
        train, test, validation = own["train"], own["test"], own.get("validation")
    else:
        train, test = own["train"], own["validation"]
    content = hashlib.sha256(f"{store.key} {listing.classes}".encode())
    for split in (train, test, *([validation] if validation else [])):
        content.update(split.indices(np.arange(len(split))).astype("<i8").tobytes())
        content.update(split.labels.astype("<i8").tobytes())
    return Dataset(
        path.resolve().stem, listing.classes, train, test, "; ".join([str(path), *_notes(analysis)]),
        validation=validation, preprocessing=store.preprocessing, load_options=options,
        issues=find_issues(analysis), files=listing.files, content=content.hexdigest(),
    )  # fmt: skip


def _split(analysis: Analysis, name: str = "") -> Split:
    """The usable images, of all splits or of one."""
    used = analysis.used
    if name:
        used = used & (np.array(analysis.listing.splits) == name)
    rows: Labels = np.flatnonzero(used)
    return Split(analysis.store.pixels, analysis.listing.labels[rows], rows, analysis.groups[rows])


def _notes(analysis: Analysis) -> list[str]:
    """What the source says about how the files were read and split."""
    listing, record = analysis.listing, analysis.store.preprocessing
    excluded = len(listing) - int(analysis.used.sum())
    notes = [f"{record.fit} to {record.width}x{record.height}"]
    if excluded:
        notes.append(f"{excluded:,} of {len(listing):,} files excluded")
    if not listing.splits:
        notes.append(DEFAULT_TEST_SPLIT_NOTE)
    elif "test" not in listing.splits:
        notes.append("val is the test split")
    return notes


def _check_counts(analysis: Analysis) -> None:
    listing = analysis.listing
    counts = np.bincount(listing.labels[analysis.used], minlength=len(listing.classes))
    if few := [f"{listing.classes[i]} ({counts[i]})" for i in np.flatnonzero(counts < MIN_IMAGES_PER_CLASS)]:
        raise DataError(
            f"too few images in {list_some(few)}: expected {MIN_IMAGES_PER_CLASS} or more usable images per class, to "
            "train, validate and test on; add images or remove the class"
        )
