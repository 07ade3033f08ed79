"""The scale of the values of images: which become black and white, and whether other images have the same scale."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.data.formats.arrays import scale_to_uint8

MIN_CONTRAST = 1 / 8  # of the range of levels: less leaves fewer than 32 of 256
SAME_SCALE = 0.6  # smallest ratio of the contrasts of images that have the same scale
MARGIN = 0.12  # of the range: values so far outside it are on another scale
MIN_SHARE = 0.1  # of the images must be on another scale for a warning
MIN_IMAGES = 3  # that are on another scale; all of them, if they are fewer
TAIL = 0.02  # of an image's pixels, at each end, may be wild: its contrast is that of the others
MIN_PIXELS = 16  # an image of fewer has no tails
LARGEST = float(np.finfo(np.float64).max) / 4  # contrast: two can be added up

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PixelScale:
    """The scale of the training images. An image's contrast is the span of its values without the tails.

    Attributes:
        low: the value of level 0.
        high: the value of level 255.
        min_contrast: the 1st percentile of the contrasts of the images.
        max_contrast: the largest contrast.
        min_ink: the 1st percentile of the images' `_ink`.
    """

    low: float
    high: float
    min_contrast: float
    max_contrast: float
    min_ink: float

    @classmethod
    def of(cls, rows: Array, stacklevel: int) -> PixelScale:
        """Measure the rows of pixels (n, features); warn if a few wild values leave the others few levels.

        Args:
            rows: the training images.
            stacklevel: of the warning, as seen by the caller.
        """
        low, high = _range_of(rows)
        darkest, brightest = _inner_range(rows)
        contrasts = _difference(brightest, darkest)
        shown = contrasts > 0
        if shown.any() and np.median(contrasts[shown]) < MIN_CONTRAST * high - MIN_CONTRAST * low:
            warnings.warn(
                f"X ranges from {low:g} to {high:g}, but half of the images span less than {MIN_CONTRAST:.1%} of that, "
                f"typically {np.median(darkest[shown]):g} to {np.median(brightest[shown]):g}: remove wild values, or "
                "rescale X",
                stacklevel=stacklevel + 1,
            )
        least_contrast, least_ink = (float(np.quantile(values, 0.01)) for values in (contrasts, _ink(rows)))
        return cls(low, high, least_contrast, float(contrasts.max()), least_ink)

    def to_levels(self, rows: Array) -> NDArray[np.uint8]:
        """The values as levels 0..255; those outside the range become 0 or 255."""
        low, high = self.low, self.high
        if rows.dtype.kind == "f":
            rows = np.clip(rows, low, high)  # what is far outside would overflow
            if high - low > float(np.finfo(rows.dtype).max):
                rows, low, high = rows.astype(np.float64) / 4, low / 4, high / 4
        return scale_to_uint8(rows, low, high)

    def check(self, rows: Array, stacklevel: int) -> None:
        """Warn if a tenth of the images or more are on another scale.

        Args:
            rows: images to predict, (n, features).
            stacklevel: of the warning, as seen by the caller.
        """
        darkest, brightest = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
        margin = MARGIN * self.high - MARGIN * self.low
        outside = (darkest < self.low - margin) | (brightest > self.high + margin)
        inner_darkest, inner_brightest = _inner_range(rows)
        contrast = _difference(inner_brightest, inner_darkest)
        faint = (contrast > 0) & (contrast < SAME_SCALE * self.min_contrast)
        faint &= _ink(rows) >= self.min_ink / 2  # else it is nearly blank
        off = outside | faint | (contrast > self.max_contrast / SAME_SCALE)
        count = np.count_nonzero(off)
        if not count or count < max(MIN_SHARE * len(rows), min(len(rows), MIN_IMAGES)):
            return
        if outside.any():
            least, largest = darkest[outside].min(), brightest[outside].max()
        else:
            least, largest = np.median(inner_darkest[off]), np.median(inner_brightest[off])
        warnings.warn(
            f"{count:,} of {len(rows):,} images are on another scale than the training images: {least:g} to "
            f"{largest:g} instead of {self.low:g} to {self.high:g}; give both the same scale",
            stacklevel=stacklevel + 1,
        )


def _range_of(values: Array) -> tuple[float, float]:
    """Return the values of black and white: the range of uint8, 0 to 1, or the smallest and the largest value.

    >>> _range_of(np.array([0.2, 0.9])), _range_of(np.array([-3, 2])), _range_of(np.array([9.0]))
    ((0.0, 1.0), (-3.0, 2.0), (9.0, 10.0))
    """
    if values.dtype == np.uint8:
        return 0.0, 255.0
    least, largest = float(values.min()), float(values.max())
    if least >= 0 and largest <= 1:
        return 0.0, 1.0
    return least, largest if largest > least else least + 1


def _inner_range(rows: Array) -> tuple[Floats, Floats]:
    """The smallest and the largest value of each image without its tails, float64 (n,)."""
    pixels = rows.shape[1]
    tail = max(1, int(TAIL * pixels)) if pixels >= MIN_PIXELS else 0
    ends = np.partition(rows, [tail, pixels - 1 - tail], axis=1)[:, [tail, pixels - 1 - tail]].astype(np.float64)
    return ends[:, 0], ends[:, 1]


def _ink(rows: Array) -> Floats:
    """How much of each image stands out: 0 if it is blank, at most 0.5; the same at every scale."""
    low, high = (values[:, None] for values in _inner_range(rows))
    with np.errstate(all="ignore"):
        mean = np.clip(rows, low, high).mean(axis=1, dtype=np.float64)
        share = (mean - low[:, 0]) / (high - low)[:, 0]
    ink: Floats = np.clip(np.nan_to_num(np.minimum(share, 1 - share)), 0, 0.5)
    return ink


def _difference(larger: Floats, smaller: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.minimum(larger - smaller, LARGEST)
