"""The frame that all training images share, as those of MNIST do, and how other images are brought into it.

MNIST's digits are scaled until the longer side of their ink is 20 pixels, and placed with their center of mass in the
center of 28x28 pixels. docs/framing.md specifies how it is measured and applied.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convscope._records import Record
from convscope.images.framing.background import extents
from convscope.images.framing.ink import Ink
from convscope.images.framing.strokes import SUBPIXELS, scale_strokes, stroke_width

Gray = NDArray[np.uint8]

THRESHOLDS = (0, 16, 32, 48)  # gray levels from the background; the first that shows a frame is used
SAMPLE = 1000  # images that rule most data sets out
MIN_FRAMED_PERCENT = 99  # of the training images must be in the frame
MAX_OFFSET = SUBPIXELS * 3 // 4  # of a center of mass
SLACK = SUBPIXELS // 16  # beyond the offsets of the training images
CHUNK = 1000  # images per step, which bounds the temporary arrays

Byte = Annotated[int, Field(ge=0, le=255)]


class Measures(NamedTuple):
    """Per image: the longer side of the ink's bounding box, its center of mass in 1/256 pixel, its highest level."""

    sides: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    peaks: NDArray[np.int64]


class Frame(Record):
    """Where all training images show their ink, and how large.

    Attributes:
        side: longer side of the ink's bounding box, in pixels.
        row: center of mass, in 1/256 pixel from the center of the first row.
        column: center of mass, in 1/256 pixel from the center of the first column.
        offset: the largest distance of a training image's center of mass from `row` and `column`, in 1/256 pixel.
        threshold: a pixel is ink if it differs from black, or from white if the polarity is light, by more than this.
        stroke: the usual width of strokes, in 1/256 pixel; see `stroke_width`.
        ink: the usual level of the strongest ink, as a difference from black or white.
        faintest: the lowest such level among the training images.

    >>> images = np.zeros((200, 28, 28), np.uint8)
    >>> images[:100, 4:24, 12:16] = 255
    >>> images[100:, 12:16, 4:24] = 255
    >>> frame = Frame.measure(images)
    >>> frame.side, frame.row / 256, frame.column / 256, frame.ink
    (20, 13.5, 13.5, 255)
    """

    side: Annotated[int, Field(ge=1)]
    row: Annotated[int, Field(ge=0)]
    column: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    threshold: Byte
    stroke: Annotated[int, Field(ge=1)]
    ink: Annotated[int, Field(ge=1, le=255)]
    faintest: Byte

    @classmethod
    def measure(cls, images: Gray) -> Self | None:
        """The frame of images, uint8 (n, h, w), light ink on black; None if they do not share one."""
        sample = images[np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int)]
        for threshold in THRESHOLDS:
            if _common_place(_measure(sample, threshold), images.shape) is None:
                continue
            measures = _measure(images, threshold)
            if (common := _common_place(measures, images.shape)) is None:
                return None
            side, row, column, framed = common
            offsets = np.maximum(abs(measures.rows - row), abs(measures.columns - column))[framed]
            peaks = measures.peaks[framed]
            return cls(
                side=side,
                row=row,
                column=column,
                offset=int(offsets.max()) + SLACK,
                threshold=threshold,
                stroke=int(np.median([stroke_width(np.where(image > threshold, image, 0)) for image in sample])),
                ink=int(np.median(peaks)),
                faintest=int(peaks.min()),
            )
        return None

    def contains(self, image: Gray) -> bool:
        """Whether an image of the network's size, uint8 (h, w), light ink on black, is in the frame already."""
        return bool(self.contains_each(image[None])[0])

    def contains_each(self, images: Gray) -> NDArray[np.bool_]:
        """`contains` for images, uint8 (n, h, w): bool (n,)."""
        sides, rows, columns, peaks = _measure(images, self.threshold)
        is_centered = (abs(rows - self.row) <= self.offset) & (abs(columns - self.column) <= self.offset)
        contained: NDArray[np.bool_] = (
            (self.side - 1 <= sides) & (sides <= self.side) & is_centered & (peaks >= self.faintest)
        )
        return contained

    def place(self, ink: Ink, height: int, width: int) -> Gray:
        """Draw ink in the frame: uint8 (height, width), light ink on black."""
        scaled = scale_strokes(ink.levels, min(self.side, height), min(self.side, width), self.stroke)
        rows, columns = scaled.shape
        mass, *moments = _moments(scaled)
        top, left = (
            min(max(0, (2 * (target * mass - SUBPIXELS * moment) + SUBPIXELS * mass) // (2 * SUBPIXELS * mass)), free)
            for target, moment, free in zip(
                (self.row, self.column), moments, (height - rows, width - columns), strict=True
            )
        )
        image = np.zeros((height, width), np.uint8)
        image[top : top + rows, left : left + columns] = scaled.astype(np.int64) * self.ink // 255
        return image


def _common_place(measures: Measures, shape: tuple[int, ...]) -> tuple[int, int, int, NDArray[np.bool_]] | None:
    """The side and center that nearly all images share, and which images these are; None without a margin."""
    side = int(np.bincount(measures.sides).argmax())
    row, column = int(np.median(measures.rows)), int(np.median(measures.columns))
    offsets = np.maximum(abs(measures.rows - row), abs(measures.columns - column))
    framed = (measures.sides <= side) & (measures.sides >= side - 1) & (offsets <= MAX_OFFSET)
    if side < 2 or 10 * side > 9 * max(shape[1:]) or 100 * framed.sum() < MIN_FRAMED_PERCENT * len(framed):
        return None
    return side, row, column, framed


def _moments(levels: Gray) -> tuple[int, int, int]:
    """The sums of the levels (at least 1), of row * level and of column * level."""
    by_row, by_column = levels.sum(axis=1, dtype=np.int64), levels.sum(axis=0, dtype=np.int64)
    row_moment = int(by_row @ np.arange(len(by_row)))
    return max(1, int(by_row.sum())), row_moment, int(by_column @ np.arange(len(by_column)))


def _measure(images: Gray, threshold: int) -> Measures:
    """The measures of images, uint8 (n, h, w)."""
    parts = [_measure_chunk(images[first : first + CHUNK], threshold) for first in range(0, len(images), CHUNK)]
    return Measures(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _measure_chunk(images: Gray, threshold: int) -> Measures:
    is_ink = images > threshold
    sides = np.maximum(extents(np.any(is_ink, axis=2)), extents(np.any(is_ink, axis=1)))
    ink = np.where(is_ink, images, 0) if threshold else images
    by_row, by_column = ink.sum(axis=2, dtype=np.int64), ink.sum(axis=1, dtype=np.int64)
    mass = np.maximum(1, by_row.sum(axis=1))
    rows, columns = (SUBPIXELS * (sums @ np.arange(sums.shape[1])) // mass for sums in (by_row, by_column))
    return Measures(sides, rows, columns, images.max(axis=(1, 2)).astype(np.int64))
