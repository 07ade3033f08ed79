"""Folders train, val and test of pictures, split as convscope would, for programs that are to be compared on them.

    make_split.py FOLDER INTO [--group-by REGEX] [--validation 0.15] [--seed 0]

What convscope leaves out (unreadable, under two classes, repeated) is left out for all.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from convscope.cli.progress import StderrReporter
from convscope.data.dataset import Split
from convscope.data.formats.image_files import analyze, build_dataset
from convscope.data.options import LoadContext, LoadOptions, cache_folder
from convscope.data.splitting import stratified_group_split


def main() -> None:
    """Link every picture into the folder of its part and class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("into", type=Path)
    parser.add_argument("--group-by")
    parser.add_argument("--validation", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.folder, options.into, options.group_by, options.validation, options.seed)


def make(folder: Path, into: Path, group_by: str | None, validation: float, seed: int) -> None:
    """See above."""
    options = LoadOptions(group_by=group_by)
    analysis = analyze(folder, LoadContext(options, cache_folder(), StderrReporter()))
    dataset = build_dataset(folder, analysis, options)
    train, held = stratified_group_split(dataset.train, validation, seed)
    for part, split in {"train": train, "val": held, "test": dataset.test}.items():
        for row in rows(split):
            path = analysis.listing.path(row)
            link = into / part / analysis.listing.class_of(row) / f"{row:06d}{path.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
        print(f"{part}: {len(split):,} pictures", file=sys.stderr)


def rows(split: Split) -> list[int]:
    """The places of the pictures in their listing."""
    return [int(row) for row in split.indices(np.arange(len(split)))]


if __name__ == "__main__":
    main()
