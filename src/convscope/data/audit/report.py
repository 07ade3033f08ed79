"""The audit of a folder or a table of images: what to know before training on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from convscope._records import Record
from convscope._reporting import Reporter
from convscope.data.audit.analysis import Analysis
from convscope.data.audit.issue import Issue
from convscope.data.audit.rules import find_issues
from convscope.data.formats.image_files import IMAGE_PATHS, analyze, build_dataset
from convscope.data.formats.unpacked import find_path, unpacked
from convscope.data.options import LoadContext, LoadOptions, cache_folder
from convscope.errors import DataError
from convscope.images.preprocessing import Preprocessing


class ClassCount(Record):
    """The number of files of a class, and of those that are used."""

    name: str
    files: int
    used: int


class AuditReport(Record):
    """The result of an audit.

    Attributes:
        path: the data set.
        classes: files and used images of each class.
        splits: images of each split; empty if the data set cannot be used.
        input: the network's input, in words.
        issues: warnings first.
        problem: why the data set cannot be used for training; None if it can.
    """

    path: str
    classes: tuple[ClassCount, ...]
    splits: dict[str, int]
    input: str
    issues: tuple[Issue, ...] = Field(default=())
    problem: str | None = None


def audit_images(source: str | Path, options: LoadOptions, reporter: Reporter) -> AuditReport:
    """Examine a folder or a table of images without changing anything.

    Args:
        source: a folder with one folder of images per class, an archive of it, a .csv, a .jsonl, or a .parquet, or the
            address of one.
        options: how training would read it.
        reporter: receives messages and the progress of decoding.

    Raises:
        DataError: it is neither.
    """
    context, name = LoadContext(options, cache_folder(), reporter), str(source)
    path = find_path(name, context)
    if path is None:
        raise DataError(f"{name}: no such file or folder; expected {IMAGE_PATHS}")
    with unpacked(path, context) as inner:
        analysis = analyze(inner, context)
    splits, problem, issues = {}, None, find_issues(analysis)
    try:
        dataset = build_dataset(path, analysis, options)
        issues = dataset.issues
        splits = {name: len(split) for name, split in dataset.splits.items()}
    except DataError as error:
        problem = f"{name}: {error}"
    return AuditReport(
        path=name,
        classes=_count_classes(analysis),
        splits=splits,
        input=_describe_input(analysis.store.preprocessing),
        issues=issues,
        problem=problem,
    )


def _count_classes(analysis: Analysis) -> tuple[ClassCount, ...]:
    names, labels = analysis.listing.classes, analysis.listing.labels
    files, used = (np.bincount(some, minlength=len(names)).tolist() for some in (labels, labels[analysis.used]))
    return tuple(ClassCount(name=name, files=files[i], used=used[i]) for i, name in enumerate(names))


def _describe_input(record: Preprocessing) -> str:
    colors = {1: "gray", 3: "color", 4: "color with transparency"}[record.channels]
    return f"{record.width}x{record.height} {colors}, {record.fit}, {record.polarity} background"
