"""The numbers behind a data set and behind one image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.data.dataset import Dataset, Images, Split

CHANNELS = {1: ("gray",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}


def summary(dataset: Dataset) -> dict[str, Any]:
    """Counts, shapes and pixel statistics per split and class, ready for JSON.

    Pixel values are 0..255; mean and std (of the population, over all pixels and channels) are exact up to float64
    rounding, because they come from integer counts of the 256 values.

        {"name", "source", "fingerprint", "shape": [h, w, c], "classes": [...],
         "splits": {"train": {"n", "shape": [n, h, w, c], "min", "mean", "std", "max",
                              "classes": [{"name", "n", "min", "mean", "std", "max"}, ...]}, "test": {...}}}

    A class without images in the test split has n = 0 and null statistics.
    """
    return {
        "name": dataset.name,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "shape": list(dataset.shape),
        "classes": list(dataset.classes),
        "splits": {name: _split_summary(split, dataset.classes) for name, split in dataset.splits.items()},
    }


def image_as_text(image: Images) -> str:
    """The matrix of numbers behind an image, one line per row of pixels and one block per channel.

    image: uint8 (height, width, channels), channels 1, 3 or 4. Color images get a heading per channel.

    >>> print(image_as_text(np.array([[[0], [7]], [[255], [16]]], np.uint8)))
      0   7
    255  16
    """
    width = len(str(image.max()))
    names = CHANNELS[image.shape[2]]
    blocks = [
        "\n".join(" ".join(f"{value:{width}d}" for value in row) for row in image[..., channel].tolist())
        for channel in range(len(names))
    ]
    if len(names) == 1:
        return blocks[0]
    return "\n\n".join(f"{name}\n{block}" for name, block in zip(names, blocks, strict=True))


def _split_summary(split: Split, classes: tuple[str, ...]) -> dict[str, Any]:
    counts = [
        _histogram(split, np.flatnonzero(split.labels == label)) for label in range(len(classes))
    ]  # k arrays (256,): how often each pixel value occurs in the class
    images = np.bincount(split.labels, minlength=len(classes)).tolist()
    return {
        "n": len(split),
        "shape": [len(split), *split.shape],
        **_statistics(np.sum(counts, axis=0)),
        "classes": [
            {"name": name, "n": n, **_statistics(count)} for name, n, count in zip(classes, images, counts, strict=True)
        ],
    }


def _histogram(split: Split, which: NDArray[np.int64]) -> NDArray[np.int64]:
    counts = np.zeros(256, np.int64)
    for images in split.take(which).chunks() if len(which) else ():
        counts += np.bincount(images.reshape(-1), minlength=256)
    return counts


def _statistics(counts: NDArray[np.int64]) -> dict[str, float | None]:
    """min, mean, std and max of the pixels whose values 0..255 occur `counts` times."""
    values = np.flatnonzero(counts)
    if not values.size:
        return {"min": None, "mean": None, "std": None, "max": None}
    weights = counts[values]
    mean = float(weights @ values / weights.sum())
    variance = float(weights @ (values - mean) ** 2 / weights.sum())
    return {"min": int(values[0]), "mean": mean, "std": variance**0.5, "max": int(values[-1])}
