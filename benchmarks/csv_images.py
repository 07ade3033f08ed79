"""The images of a CSV file of columns file, label, split, with NumPy and Pillow alone, for all environments."""

from __future__ import annotations

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

Split = tuple[np.ndarray, np.ndarray]


def read_splits(table: Path, side: int) -> tuple[dict[str, Split], list[str]]:
    """Decode all images on all cores, stretched to a square.

    Args:
        table: the CSV file; its files are relative to its folder.
        side: of the images, in pixels.

    Returns:
        Images uint8 (n, side, side, 3) and labels int64 (n,) of each split, and the sorted names of the classes.
    """
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        images = np.stack(list(pool.map(lambda row: decode(table.parent / row["file"], side), rows)))
    labels = np.array([classes.index(row["label"]) for row in rows])
    splits = np.array([row["split"] for row in rows])
    return {str(name): (images[splits == name], labels[splits == name]) for name in np.unique(splits)}, classes


def decode(path: Path, side: int) -> np.ndarray:
    """Return uint8 (side, side, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
