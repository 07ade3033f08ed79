"""A folder or a table of pictures -> a data set: listed, decoded once, surveyed, split."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from convscope._reporting import Reporter
from convscope._text import list_some
from convscope.data.archives import naming
from convscope.data.audit.analysis import Survey
from convscope.data.audit.rules import issues
from convscope.data.cache.pixel_cache import open_store
from convscope.data.dataset import DEFAULT_TEST_SPLIT, Dataset, Labels, Split, default_test_split
from convscope.data.formats.listing import list_files
from convscope.data.options import LoadOptions
from convscope.errors import DataError

LEAST = 5  # images of a class, to train, validate and test on


def read_image_files(path: Path, options: LoadOptions, cache: Path, reporter: Reporter) -> Dataset:
    """The data set of a folder with a sub-folder per class, or of a table of files and labels; see `list_files`.

    What cannot be read, what lies under two classes and what is repeated is left out; `issues` tell all of it.
    Without splits of its own, a fixed stratified fifth of it is the test set; what belongs together stays together.

    Raises DataError for what is no such set, or has fewer than 5 images in a class.
    """
    survey = survey_of(path, options, cache, reporter)
    with naming(str(path)):
        return dataset_of(path, survey, options)


def survey_of(path: Path, options: LoadOptions, cache: Path, reporter: Reporter) -> Survey:
    """What is known of the pictures, before anything is decided."""
    with naming(str(path)):
        listing = list_files(path)
        return Survey(listing, open_store(listing, options, cache, reporter), options.group_by)


def dataset_of(path: Path, survey: Survey, options: LoadOptions) -> Dataset:
    """Train and test, and validation where the set has its own."""
    listing = survey.listing
    _check_counts(survey)
    split = {part: _split(survey, part) for part in dict.fromkeys(listing.parts)}
    validation = None
    if not split:
        train, test = default_test_split(_split(survey))
    elif "test" in split:
        train, test, validation = split["train"], split["test"], split.get("validation")
    else:
        train, test = split["train"], split["validation"]
    notes = [str(path), *_notes(survey)]
    store = survey.store
    content = hashlib.sha256(f"{store.key} {listing.classes}".encode())
    for part in (train, test, *([validation] if validation else [])):
        content.update(part.indices(np.arange(len(part))).astype("<i8").tobytes())
        content.update(part.labels.astype("<i8").tobytes())
    return Dataset(
        path.resolve().stem, listing.classes, train, test, "; ".join(notes),
        validation=validation, load_options=options, preprocessing=store.preprocessing, issues=issues(survey),
        files=listing.files, content=content.hexdigest(),
    )  # fmt: skip


def _split(survey: Survey, part: str = "") -> Split:
    """The used pictures of a part."""
    used = survey.used
    if part:
        used = used & (np.array(survey.listing.parts) == part)
    rows: Labels = np.flatnonzero(used)
    return Split(survey.store.pixels, survey.listing.labels[rows], rows, survey.groups[rows])


def _notes(survey: Survey) -> list[str]:
    """What has to be said wherever the data set is."""
    left_out = len(survey.listing) - int(survey.used.sum())
    preprocessing = survey.store.preprocessing
    notes = [f"{preprocessing.fit} to {preprocessing.width}x{preprocessing.height}"]
    if left_out:
        notes.append(f"{left_out:,} of {len(survey.listing):,} files left out")
    if not survey.listing.parts:
        notes.append(DEFAULT_TEST_SPLIT)
    elif "test" not in survey.listing.parts:
        notes.append("val is the test set")
    return notes


def _check_counts(survey: Survey) -> None:
    listing = survey.listing
    counts = np.bincount(listing.labels[survey.used], minlength=len(listing.classes))
    if few := [f"{listing.classes[i]} ({counts[i]})" for i in np.flatnonzero(counts < LEAST)]:
        raise DataError(
            f"too few images in {list_some(few)}: expected {LEAST} or more per "
            "class that can be used, to train, validate and test on; add images or take the class away"
        )
