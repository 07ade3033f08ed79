"""Histograms of oriented gradients and a support vector machine on images: sklearn_hog.py CSV [--seed 0]

CSV has the columns file, label and split (train, val, test). HOG (Dalal and Triggs, 2005) of color images comes from
scikit-image; cell size, kernel and C are those that are best on the validation images. Prints:

    {"accuracy": ..., "n": ..., "validation_accuracy": ..., "epochs": 1, "chosen": ...}
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from skimage.feature import hog
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from csv_images import read_splits

SIDE = 128
CELLS = (16, 32)  # pixels
STRENGTHS = [  # kernel and C, for features of variance 1
    *(("linear", c) for c in (1e-5, 1e-4, 1e-3)),
    *(("rbf", c) for c in (1, 3, 10, 30)),
]


def main() -> None:
    """Choose, fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    splits, _ = read_splits(options.table, SIDE)
    labels = {name: labels for name, (_, labels) in splits.items()}
    best, chosen, test_accuracy = -1.0, "", 0.0
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for cell in CELLS:
            features = {
                name: np.stack(list(pool.map(partial(describe, cell=cell), images, chunksize=32)))
                for name, (images, _) in splits.items()
            }
            for kernel, strength in STRENGTHS:
                tried = make_pipeline(StandardScaler(), SVC(kernel=kernel, C=strength, random_state=options.seed))
                accuracy = tried.fit(features["train"], labels["train"]).score(features["val"], labels["val"])
                if accuracy > best:
                    best, chosen = accuracy, f"{cell} pixels per cell, {kernel}, C = {strength:g}"
                    test_accuracy = tried.score(features["test"], labels["test"])
    result = {"accuracy": test_accuracy, "n": len(labels["test"]), "validation_accuracy": best, "epochs": 1}
    print(json.dumps({**result, "chosen": chosen}), flush=True)


def describe(image: np.ndarray, cell: int) -> np.ndarray:
    """Return the features of an image, float32."""
    cells = (cell, cell)
    found = hog(image, pixels_per_cell=cells, cells_per_block=(2, 2), block_norm="L2-Hys", channel_axis=2)
    return found.astype(np.float32)


if __name__ == "__main__":
    main()
