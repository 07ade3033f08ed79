"""The pre-flight check of a folder or a table of pictures: what someone should know before training on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope._reporting import Reporter
from convscope.data.audit.issue import Issue
from convscope.data.audit.rules import issues
from convscope.data.formats.image_folder import dataset_of, survey_of
from convscope.data.load import cache_folder
from convscope.data.options import LoadOptions
from convscope.errors import DataError


@dataclass(frozen=True)
class AuditReport:
    """What the check of a set of pictures says.

    counts: files and used pictures of each class. splits: images of each split. seen: what the network would see, in
    words. problem: why the set cannot be trained on, or nothing.
    """

    path: str
    counts: dict[str, tuple[int, int]]
    splits: dict[str, int]
    seen: str
    issues: tuple[Issue, ...]
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with every file of every issue."""
        return {
            "path": self.path,
            "classes": [{"name": name, "files": files, "used": used} for name, (files, used) in self.counts.items()],
            "splits": self.splits,
            "seen": self.seen,
            "issues": [issue.to_dict() for issue in self.issues],
            "problem": self.problem or None,
        }


def audit_images(path: Path, options: LoadOptions, reporter: Reporter) -> AuditReport:
    """Look through a folder or a table of pictures without changing anything.

    Raises DataError where it is none.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder: expected a folder of class folders, a .csv or a .jsonl")
    survey = survey_of(path, options, cache_folder(), reporter)
    classes, labels, record = survey.listing.classes, survey.listing.labels, survey.store.preprocessing
    files, used = (np.bincount(some, minlength=len(classes)).tolist() for some in (labels, labels[survey.used]))
    splits, problem = {}, ""
    try:
        dataset = dataset_of(path, survey, options)
        splits = {name: len(split) for name, split in dataset.splits.items()}
    except DataError as error:
        problem = f"{path}: {error}"
    colors = {1: "gray", 3: "color", 4: "color with transparency"}[record.channels]
    return AuditReport(
        path=str(path),
        counts={name: (files[i], used[i]) for i, name in enumerate(classes)},
        splits=splits,
        seen=f"{record.width}x{record.height} {colors}, {record.fit}, {record.polarity} background",
        issues=issues(survey),
        problem=problem,
    )
