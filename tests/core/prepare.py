"""Write what the core tests need: runs, a data set and images. Needs the training extra; the tests do not.

Usage: python tests/core/prepare.py FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import convscope
from convscope.images.read import encode_png

ARCHITECTURE = "conv 4 3, relu, flatten"


def write_images(folder: Path, dataset: convscope.Dataset, per_class: int = 12) -> None:
    """The first images of the first two classes as PNG files, in a folder per class."""
    for label in (0, 1):
        (folder / dataset.classes[label]).mkdir(parents=True)
        images = dataset.train.images[dataset.train.labels == label][:per_class]
        for i, image in enumerate(images):
            (folder / dataset.classes[label] / f"{i}.png").write_bytes(encode_png(image))


def main(folder: Path) -> None:
    """Train one run on `digits.npz` and one on the digits of scikit-learn."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    digits = convscope.load_data("digits")
    np.savez(
        folder / "digits.npz",
        x_train=digits.train.images, y_train=digits.train.labels, x_test=digits.test.images, y_test=digits.test.labels,
    )  # fmt: skip
    write_images(folder / "images", digits)
    convscope.train_model(folder / "digits.npz", ARCHITECTURE, threads=1, run=folder / "run")
    convscope.train_model("digits", ARCHITECTURE, threads=1, run=folder / "digits-run")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
