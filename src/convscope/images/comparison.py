"""Whether images look like those that a network was trained on: brightness, contrast, detail, border and color.

What the network sees of each image, its uint8 array, is summarized in five integers. Their usual ranges are measured on
the training images. dev/LOG.md has the rates of false and of missed warnings.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from convscope._records import Record
from convscope._text import percent
from convscope.images.color import to_gray
from convscope.images.statistics import lower_median

Pixels = NDArray[np.uint8]
Features = NDArray[np.int64]  # (n, 5), in 1/16 gray level

SUBLEVELS = 16  # parts of a gray level in which features are measured
MAX_SAMPLE = 5000  # training images
CHUNK_VALUES = 2**22  # pixel values per step, which bounds the temporary arrays
EXTREME, USUAL = 0.005, 0.05  # quantiles of the training images, at both ends
EXTREME_SLACK = 4  # an image is unlike them if it is farther outside the extremes than their distance / 4
MIN_IMAGES = 20  # of a set
UNLIKE_FRACTION = 0.35  # of a set outside the usual range, at one end; of images like the training images it is 5 %

NAMES = ("brightness", "contrast", "detail", "border", "color")
LOWER = ("darker", "lower contrast", "blurred", "plainer border", "less color")
HIGHER = ("brighter", "higher contrast", "more detail", "busier border", "more color")


class FeatureRange(NamedTuple):
    """What a feature is in the training images, in 1/16 gray level.

    Attributes:
        lowest: 0.5 % of the training images are lower.
        low: 5 % of the training images are lower.
        high: 5 % of the training images are higher.
        highest: 0.5 % of the training images are higher.
    """

    lowest: int
    low: int
    high: int
    highest: int


class TypicalImages(Record):
    """The usual ranges of five features of the training images.

    Attributes:
        brightness: mean gray level.
        contrast: mean distance of the gray levels from their mean.
        detail: mean step between neighbors.
        border: mean distance of the border (first and last row and column) from its median.
        color: mean difference of the largest and the smallest channel.
    """

    brightness: FeatureRange
    contrast: FeatureRange
    detail: FeatureRange
    border: FeatureRange
    color: FeatureRange

    @classmethod
    def measure(cls, images: Pixels) -> Self:
        """The ranges of images, uint8 (n, h, w, c)."""
        sample = np.linspace(0, len(images) - 1, min(MAX_SAMPLE, len(images))).astype(int)
        features = image_features(images[sample])
        quantiles = np.quantile(features, (EXTREME, USUAL, 1 - USUAL, 1 - EXTREME), axis=0).astype(int).T.tolist()
        ranges = (
            FeatureRange(lowest=lowest, low=low, high=high, highest=highest) for lowest, low, high, highest in quantiles
        )
        return cls(**dict(zip(NAMES, ranges, strict=True)))

    def warn_each(self, images: Pixels) -> list[tuple[str, ...]]:
        """For each image, uint8 (n, h, w, c), a note if it clearly differs from the training images."""
        lowest, _, _, highest = self._ranges
        slack = (highest - lowest) // EXTREME_SLACK
        features = image_features(images)
        unlike = (features < lowest - slack) | (features > highest + slack)
        warnings: list[tuple[str, ...]] = [()] * len(images)
        for i in np.flatnonzero(unlike.any(axis=1)):
            differences = (
                _difference(int(k), int(features[i, k]), lowest[k], highest[k]) for k in np.flatnonzero(unlike[i])
            )
            warnings[i] = (f"unlike the training images: {', '.join(differences)}",)
        return warnings

    def describe_set(self, features: Features) -> str:
        """How a set of 20 or more images, with these features, clearly differs from the training images; else ""."""
        if len(features) < MIN_IMAGES:
            return ""
        _, low, high, _ = self._ranges
        shares = ((features < low).mean(axis=0), (features > high).mean(axis=0))
        return ", ".join(
            f"{word} ({percent(float(share), 0)} of the images)"
            for words, ends in zip((LOWER, HIGHER), shares, strict=True)
            for word, share in zip(words, ends, strict=True)
            if share > UNLIKE_FRACTION
        )

    @property
    def _ranges(self) -> NDArray[np.int64]:
        """Rows lowest, low, high, highest; one column per feature."""
        ranges = [getattr(self, name) for name in NAMES]
        return np.array([[r.lowest, r.low, r.high, r.highest] for r in ranges]).T


def image_features(images: Pixels) -> Features:
    """The five features of images, uint8 (n, h, w, c), in 1/16 gray level, rounded down: int64 (n, 5)."""
    count = max(1, CHUNK_VALUES // images[0].size)
    return np.concatenate(
        [_features(images[first : first + count]) for first in range(0, len(images), count)]
    )  # fmt: skip


def _features(images: Pixels) -> Features:
    count, height, width, channels = images.shape
    gray = to_gray(images[..., :3].reshape(count * height, width, 3)) if channels > 1 else images
    gray = gray.reshape(count, height, width).astype(np.int16)
    size = height * width
    brightness = SUBLEVELS * gray.sum(axis=(1, 2), dtype=np.int64) // size
    level = (brightness // SUBLEVELS).astype(np.int16)[:, None, None]
    contrast = abs(gray - level).sum(axis=(1, 2), dtype=np.int64)
    steps = sum(abs(np.diff(gray, axis=axis)).sum(axis=(1, 2), dtype=np.int64) for axis in (1, 2))
    edge = np.ones((height, width), bool)
    edge[1:-1, 1:-1] = False
    border = gray[:, edge]
    border_contrast = abs(border - lower_median(border, axis=1)[:, None]).sum(axis=1, dtype=np.int64)
    color = np.zeros(count, np.int64)
    if channels > 1:
        color = np.ptp(images[..., :3], axis=3).sum(axis=(1, 2), dtype=np.int64)
    return np.stack(
        [
            brightness,
            SUBLEVELS * contrast // size,
            SUBLEVELS * steps // (2 * size),
            SUBLEVELS * border_contrast // border.shape[1],
            SUBLEVELS * color // size,
        ],
        axis=1,
    )


def _difference(feature: int, value: int, lowest: int, highest: int) -> str:
    """For example "brighter (mean 180, training images 9 to 71)"."""
    word = (LOWER if value < lowest else HIGHER)[feature]
    numbers = f"{value // SUBLEVELS}, training images {lowest // SUBLEVELS} to {highest // SUBLEVELS}"
    return f"{word} ({NAMES[feature]} {numbers})"
