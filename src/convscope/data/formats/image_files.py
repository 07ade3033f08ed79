"""Image files in class folders or in a table -> a data set: listed, decoded once, analyzed, split."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope._text import list_some, pluralize
from convscope.data.audit.analysis import Analysis
from convscope.data.audit.coverage import coverage_issues
from convscope.data.audit.rules import find_issues
from convscope.data.cache.decode import ImageInfo
from convscope.data.cache.pixel_cache import open_store
from convscope.data.cache.time_limit import limit_images
from convscope.data.dataset import Dataset, Split
from convscope.data.folders.layout import Reading
from convscope.data.formats.image_folder import list_folder
from convscope.data.formats.listing import Listing, check_trainable
from convscope.data.formats.table import TABLE_SUFFIXES, is_table, list_table
from convscope.data.labeled import Changes, LabeledImages, describe_measured
from convscope.data.options import LoadContext, LoadOptions
from convscope.data.splitting import DEFAULT_TEST_SPLIT_NOTE, default_test_split
from convscope.data.types import Labels
from convscope.data.validation import error_prefix
from convscope.errors import DataError
from convscope.images.depth import FULL_RANGE

IMAGE_PATHS = (
    "a folder with one folder of images per class, a .zip or .tar of it, "
    f"a {', '.join(TABLE_SUFFIXES)} of files and labels, or a .parquet"
)
MIN_IMAGES_PER_CLASS = 5  # to train, validate and test on


def read_image_files(path: Path, context: LoadContext) -> Dataset:
    """The data set of a folder with one folder per class, or of a table of files and labels.

    Files that cannot be read, files with two labels and repeated files are excluded; `issues` lists them. Without
    splits of its own, the set gets the `default_test_split`, in which images that belong together stay together. If
    there is no time to decode all files, the set has fewer images.

    Args:
        path: the folder or table.
        context: options, cache and reporter.

    Raises:
        DataError: the path is of another kind, or a class has fewer than 5 usable images.
    """
    with error_prefix(str(path)):
        listing = list_images(path, context)
        options = limit_images(listing, context)
        analysis = _analyze(listing.subsample(options.max_images), replace(context, options=options))
        return build_dataset(path, analysis, options)


def analyze(path: Path, context: LoadContext) -> Analysis:
    """List and decode the images of a folder or a table.

    Args:
        path: the folder or table.
        context: options, cache and reporter.

    Raises:
        DataError: it is neither, its classes or splits cannot be trained on, or no image can be read.
    """
    with error_prefix(str(path)):
        return _analyze(list_images(path, context), context)


def _analyze(listing: Listing, context: LoadContext) -> Analysis:
    check_trainable(listing)
    return Analysis(listing, open_store(listing, context), context.options.group_by)


def list_images(path: Path, context: LoadContext) -> Listing:
    """The files of a folder or a table. Raises DataError if it is neither, or as `list_folder` and `list_table` do."""
    if path.is_file() and not is_table(path):
        raise DataError(f"a file of another kind: expected {IMAGE_PATHS}")
    if path.is_file():
        return list_table(path)
    return list_folder(path, Reading(context.options.class_level, context.classes))


def read_labeled_files(path: Path, context: LoadContext) -> LabeledImages:
    """The images of a folder or a table that measure a network: its test split, or all of them without splits.

    Args:
        path: the folder or table.
        context: options, cache, reporter and the classes of the network.

    Raises:
        DataError: the path is of another kind, or no image can be read.
    """
    with error_prefix(str(path)):
        listing = list_images(path, context)
        store = open_store(listing, context)
    for issue in listing.issues:
        if issue.level == "warning":
            context.reporter.message(f"{path}: {issue.text}; {issue.action}")
    split = next((name for name in ("test", "validation") if name in listing.splits), "")
    chosen = np.array([split in ("", name) for name in listing.splits or [""] * len(listing)])
    rows: Labels = np.flatnonzero(chosen & (store.info["height"] > 0))
    left_out = int(chosen.sum()) - len(rows)
    return LabeledImages(
        Split(store.pixels, listing.labels[rows], rows),
        listing.classes,
        describe_measured(str(path), split, len(rows), len(listing), left_out),
        preprocessed=Changes(int(store.info["inverted"][rows].sum()), int(store.info["framed"][rows].sum())),
    )


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
    _check_train(analysis, train)
    issues = find_issues(analysis, coverage_issues(listing.classes, train, test, validation))
    content = hashlib.sha256(f"{store.key} {listing.classes}".encode())
    for split in (train, test, *([validation] if validation else [])):
        content.update(split.indices(np.arange(len(split))).astype("<i8").tobytes())
        content.update(split.labels.astype("<i8").tobytes())
    return Dataset(
        path.resolve().stem, listing.classes, train, test, "; ".join([str(path), *_notes(analysis)]),
        validation=validation, preprocessing=store.preprocessing, load_options=options,
        issues=issues, files=listing.files, content=content.hexdigest(), file_side=_median_side(store.info),
    )  # fmt: skip


def _median_side(info: ImageInfo) -> int:
    """The shorter side of the median image that can be read."""
    readable = info[info["height"] > 0]
    return int(np.median(np.minimum(readable["height"], readable["width"])))


def _check_train(analysis: Analysis, train: Split) -> None:
    """Raise DataError if a class has no training image."""
    listing = analysis.listing
    for label in np.setdiff1d(np.arange(len(listing.classes)), train.labels):
        own = listing.labels == label
        splits = np.array(listing.splits)
        elsewhere = ", ".join(
            f"{count} in {split}" for split in ("validation", "test") if (count := (own & (splits == split)).sum())
        )
        reasons = _why_excluded(analysis, own & (splits == "train"))
        excluded = f"; its training files are excluded: {reasons}" if reasons else ""
        raise DataError(
            f"no training image of {listing.classes[label]}: its images are {elsewhere}{excluded}; move some to train, "
            "or remove the class"
        )


def _why_excluded(analysis: Analysis, files: NDArray[np.bool_]) -> str:
    """How many of some files, a mask (n,), cannot be used, and why; "" if all are used."""
    doubtful = np.zeros(len(files), bool)
    for some in analysis.conflicts:
        doubtful[some] = True
    unreadable = ~analysis.readable
    counts = {
        "{} unreadable": files & unreadable,
        "{} in two classes": files & doubtful,
        "{} that are also in another split": files & ~analysis.used & ~unreadable & ~doubtful,
    }
    return ", ".join(text.format(f"{found.sum():,}") for text, found in counts.items() if found.any())


def _split(analysis: Analysis, name: str = "") -> Split:
    """The usable images, of all splits or of one."""
    used = analysis.used
    if name:
        used = used & (np.array(analysis.listing.splits) == name)
    rows: Labels = np.flatnonzero(used)
    if not len(rows):
        files = np.array([name in ("", split) for split in analysis.listing.splits or [""] * len(used)])
        raise DataError(
            f"no usable image{f' in {name}' if name else ''}: its {pluralize(int(files.sum()), 'file')} are "
            f"excluded: {_why_excluded(analysis, files)}; replace them, or remove the copies"
        )
    return Split(analysis.store.pixels, analysis.listing.labels[rows], rows, analysis.groups[rows])


def _notes(analysis: Analysis) -> list[str]:
    """What the source says about how the files were read and split."""
    listing, record = analysis.listing, analysis.store.preprocessing
    excluded = len(listing) - int(analysis.used.sum())
    notes = [f"{record.fit} to {record.width}x{record.height}"]
    if record.uint16_range != FULL_RANGE:
        notes.append("16-bit values {}..{} mapped to 0..255".format(*record.uint16_range))
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
