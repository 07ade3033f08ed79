"""Pixel statistics of a data set and of its classes, and an image as a matrix of numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convscope._records import Record
from convscope.data.dataset import Dataset, Split
from convscope.data.types import Images, Labels

CHANNEL_NAMES = {1: ("gray",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}


class PixelStatistics(Record):
    """Statistics over all pixels and channels of `n` images, 0..255; None if there are no images.

    `std` is that of the population. Both `mean` and `std` are exact up to float64 rounding, because they are computed
    from integer counts of the 256 values.
    """

    n: int
    min: int | None
    mean: float | None
    std: float | None
    max: int | None


class ClassStatistics(PixelStatistics):
    """The statistics of one class."""

    name: str


class SplitStatistics(PixelStatistics):
    """The statistics of a split and of its classes; `shape` is (n, height, width, channels)."""

    shape: tuple[int, int, int, int]
    classes: tuple[ClassStatistics, ...]


class DatasetStatistics(Record):
    """The statistics of a data set; `shape` is (height, width, channels)."""

    name: str
    source: str
    fingerprint: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    splits: dict[str, SplitStatistics]


def dataset_statistics(dataset: Dataset) -> DatasetStatistics:
    """Counts, shapes and pixel statistics of every split and class."""
    return DatasetStatistics(
        name=dataset.name,
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        shape=dataset.shape,
        classes=dataset.classes,
        splits={name: _split_statistics(split, dataset.classes) for name, split in dataset.splits.items()},
    )


def image_as_text(image: Images) -> str:
    """An image, uint8 (height, width, channels), as a matrix of numbers: one line per row, one block per channel.

    The blocks of a color image have headings.

    >>> print(image_as_text(np.array([[[0], [7]], [[255], [16]]], np.uint8)))
      0   7
    255  16
    """
    width = len(str(image.max()))
    names = CHANNEL_NAMES[image.shape[2]]
    blocks = [
        "\n".join(" ".join(f"{value:{width}d}" for value in row) for row in image[..., channel].tolist())
        for channel in range(len(names))
    ]
    if len(names) == 1:
        return blocks[0]
    return "\n\n".join(f"{name}\n{block}" for name, block in zip(names, blocks, strict=True))


def _split_statistics(split: Split, classes: tuple[str, ...]) -> SplitStatistics:
    histograms = [_histogram(split, np.flatnonzero(split.labels == label)) for label in range(len(classes))]
    counts = np.bincount(split.labels, minlength=len(classes)).tolist()
    return SplitStatistics(
        **_statistics(len(split), np.sum(histograms, axis=0)).model_dump(),
        shape=(len(split), *split.shape),
        classes=tuple(
            ClassStatistics(name=name, **_statistics(n, histogram).model_dump())
            for name, n, histogram in zip(classes, counts, histograms, strict=True)
        ),
    )


def _histogram(split: Split, which: Labels) -> NDArray[np.int64]:
    """How often each pixel value occurs in these images of a split: int64 (256,)."""
    counts = np.zeros(256, np.int64)
    for images in split.take(which).chunks() if len(which) else ():
        counts += np.bincount(images.reshape(-1), minlength=256)
    return counts


def _statistics(n: int, counts: NDArray[np.int64]) -> PixelStatistics:
    """The statistics of n images in which the pixel values 0..255 occur `counts` times."""
    values = np.flatnonzero(counts)
    if not values.size:
        return PixelStatistics(n=n, min=None, mean=None, std=None, max=None)
    weights = counts[values]
    mean = float(weights @ values / weights.sum())
    variance = float(weights @ (values - mean) ** 2 / weights.sum())
    return PixelStatistics(n=n, min=int(values[0]), mean=mean, std=variance**0.5, max=int(values[-1]))
