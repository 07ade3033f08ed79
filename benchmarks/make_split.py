"""Split a folder of images as convscope does into folders train, val and test, so that other programs can use them.

    make_split.py FOLDER INTO [--group-by REGEX] [--validation 0.15] [--seed 0]

Files that convscope leaves out (unreadable, in two classes, repeated) are left out for all programs.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from convscope.cli.progress import CliReporter
from convscope.data.formats.image_files import analyze, build_dataset
from convscope.data.options import LoadContext, LoadOptions, cache_folder
from convscope.data.splitting import stratified_group_split


def main() -> None:
    """Split the folder given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("into", type=Path)
    parser.add_argument("--group-by")
    parser.add_argument("--validation", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make_split(options.folder, options.into, options.group_by, options.validation, options.seed)


def make_split(folder: Path, into: Path, group_by: str | None, validation: float, seed: int) -> None:
    """Hard-link every image to INTO/SPLIT/CLASS/INDEX.SUFFIX.

    Args:
        folder: a folder with a sub-folder per class.
        into: on the same file system.
        group_by: see `convscope train --group-by`.
        validation: fraction of the training images to hold out.
        seed: of that choice.
    """
    options = LoadOptions(group_by=group_by)
    analysis = analyze(folder, LoadContext(options, cache_folder(), CliReporter()))
    dataset = build_dataset(folder, analysis, options)
    train, held_out = stratified_group_split(dataset.train, validation, seed)
    for part, split in {"train": train, "val": held_out, "test": dataset.test}.items():
        for index, label in zip(split.indices(np.arange(len(split))), split.labels, strict=True):
            path = analysis.listing.path(index)
            link = into / part / dataset.classes[label] / f"{index:06d}{path.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
        print(f"{part}: {len(split):,} images", file=sys.stderr)


if __name__ == "__main__":
    main()
