"""The background of gray images that share no frame: what surrounds the subject is cut off, gray paper becomes black.

docs/framing.md specifies every step.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convscope._records import Record
from convscope.images.framing.surroundings import inside_rectangle, reduce_gray
from convscope.images.statistics import border_colors, lower_quantile

Gray = NDArray[np.uint8]
Box = tuple[slice, slice]

SLACK = 16  # gray levels beyond the backgrounds of the training images
INK = 16  # a pixel belongs to the subject of a training image if it exceeds black by more than this
MIN_FILLED_PERCENT = 99  # of the training images
MIN_CONTRAST = 8  # gray levels between background and subject
SUBJECT_PARTS = 8  # the subject begins at this part of the largest difference from the background


class Subject(NamedTuple):
    """What is kept of an image.

    Attributes:
        box: Its rows and columns.
        around: The part whose margin was cut, reduced, uint8 (h, w), which tells the background; None if no margin was.
    """

    box: Box
    around: Gray | None


class Background(Record):
    """What surrounds the subjects of all training images, light on black.

    Attributes:
        level: 99 % of the training images have a background (median of their border) that is 16 levels darker.
        fills: whether the longer side of the subject is at least 7/8 of the image's in 99 % of the training images.
    """

    level: Annotated[int, Field(ge=0, le=255)]
    fills: bool

    @classmethod
    def measure(cls, images: Gray) -> Self:
        """The background of images, uint8 (n, h, w), light on black."""
        is_subject = images > INK
        longer = np.maximum(extents(np.any(is_subject, axis=2)), extents(np.any(is_subject, axis=1)))
        filled = int(np.count_nonzero(8 * longer >= 7 * max(images.shape[1:])))
        return cls(
            level=min(255, lower_quantile(border_colors(images[..., None])[:, 0], 99, 100) + SLACK),
            fills=bool(100 * filled >= MIN_FILLED_PERCENT * len(images)),
        )

    def crop(self, gray: Gray) -> Subject | None:
        """The part of an image, uint8 (h, w), without a border of another color, and without a margin; None if all."""
        reduced = reduce_gray(gray)
        inside = inside_rectangle(reduced)
        if inside is None or not _has_subject(reduced, inside):
            inside = slice(0, reduced.shape[0]), slice(0, reduced.shape[1])
        around = inside
        if self.fills:
            inside = _without_margin(reduced, inside)
        if reduced[inside].shape == reduced.shape:
            return None
        rows, columns = (
            slice(part.start * side // small, max(part.start * side // small + 1, part.stop * side // small))
            for part, side, small in zip(inside, gray.shape, reduced.shape, strict=True)
        )
        return Subject((rows, columns), None if inside == around else reduced[around])

    def stretch_contrast(self, gray: Gray, around: Gray) -> Gray | None:
        """Make a background lighter than those of the training images black; None if it is not, or not uniform.

        Args:
            gray: uint8 (h, w), light on black.
            around: What has the background as its border, likewise; see `Subject`, else `gray`.
        """
        background = int(border_colors(around[None, ..., None])[0, 0])
        if background <= self.level or 2 * lower_quantile(gray.ravel(), 1, 20) < background:
            return None
        contrast = lower_quantile(gray.ravel(), 99, 100) - background
        if contrast < MIN_CONTRAST:
            return None
        stretched: Gray = np.clip((gray.astype(np.int64) - background) * 255 // contrast, 0, 255).astype(np.uint8)
        return stretched


def _has_subject(gray: Gray, inside: Box) -> bool:
    """Whether the inside of a border has a quarter of its contrast, unlike a subject that its background surrounds."""
    part = gray[inside]
    contrast = lower_quantile(part.ravel(), 19, 20) - lower_quantile(part.ravel(), 1, 20)
    border, edge = (int(border_colors(image[None, ..., None])[0, 0]) for image in (gray, part))
    return 4 * contrast >= abs(border - edge)


def _without_margin(gray: Gray, inside: Box) -> Box:
    """The box of the subject inside a part of an image; that part, if the subject is not clearly smaller."""
    part = gray[inside]
    distance = abs(part.astype(np.int64) - int(border_colors(part[None, ..., None])[0, 0]))
    is_subject = distance > max(INK, int(distance.max()) // SUBJECT_PARTS)
    rows, columns = np.flatnonzero(is_subject.any(axis=1)), np.flatnonzero(is_subject.any(axis=0))
    if not rows.size:
        return inside
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    if 8 * max(height, width) >= 7 * max(part.shape):
        return inside
    top, left = inside[0].start + int(rows[0]), inside[1].start + int(columns[0])
    return slice(top, top + height), slice(left, left + width)


def extents(occupied: NDArray[np.bool_]) -> NDArray[np.int64]:
    """From the first to the last occupied position: bool (n, positions) -> int64 (n,); 0 if there is none."""
    last = occupied.shape[1] - occupied[:, ::-1].argmax(axis=1)
    extents: NDArray[np.int64] = np.where(occupied.any(axis=1), last - occupied.argmax(axis=1), 0)
    return extents
