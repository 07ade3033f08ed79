"""What surrounds the paper in an image: a border, bars, or the table under a sheet.

docs/framing.md specifies every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.images.framing.morphology import connected_components, dilation
from convscope.images.resize import fit_inside, resize
from convscope.images.statistics import border_colors, lower_quantile, otsu_threshold

Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

LARGEST_SIDE = 160  # pixels; larger images are reduced to this before ink or surroundings are searched
MIN_INSIDE = 8  # pixels of each side of what is inside
MAX_BORDERS = 3
MIN_INSIDE_PARTS = 8  # the inside is at least the image divided by this
MIN_INK_PARTS, MAX_INK_PARTS = 4, 100  # the ink on a sheet is its area divided by 100 to its area divided by 4
MIN_RECTANGLE_PERCENT = 90  # of a rectangle is sheet
TURN = 16
TURNS = np.arange(-TURN, TURN + 1)[:, None]  # 16 times the tangents of the angles by which a sheet may be turned
SAME_COLOR = 24  # gray levels
BLUR = 2  # pixels around surroundings whose color may be a mixture


def reduce_gray(gray: Gray) -> Gray:
    """The image, uint8 (h, w), to fit inside 160x160."""
    if max(gray.shape) <= LARGEST_SIDE:
        return gray
    rows, columns = fit_inside(gray.shape[0], gray.shape[1], LARGEST_SIDE, LARGEST_SIDE)
    return resize(gray[..., None], rows, columns)[..., 0]


def inside_rectangle(gray: Gray) -> tuple[slice, slice] | None:
    """The rectangle inside a border of another color, of an image, uint8 (h, w); None without one.

    A border may have several parts, such as a margin around a drawn box.
    """
    inside = None
    for _ in range(MAX_BORDERS):
        found = next(filter(None, map(_inner_rectangle, _borders(gray))), None)
        if found is None:
            break
        gray = gray[found]
        inside = found if inside is None else (_part(inside[0], found[0]), _part(inside[1], found[1]))
    return inside


def _part(outer: slice, inner: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)


def find_sheet(gray: Gray) -> Gray | None:
    """A sheet that lies askew or has round corners, cut to its box, its surroundings replaced by its paper.

    Args:
        gray: uint8 (h, w).

    Returns:
        uint8, a part of the image; None if no such sheet is found.
    """
    for border in _borders(gray):
        if (sheet := _sheet(border)) is None:
            continue
        paper = lower_quantile(gray[sheet & ~border], 1, 2)
        filled = np.where(dilation(~sheet, BLUR), np.uint8(paper), gray)
        return filled[_box(sheet)]
    return None


def _borders(gray: Gray) -> Iterator[Mask]:
    """What may be border: the color of the edge, the sides of the image's threshold, and of those of its two sides."""
    yield abs(gray - border_colors(gray[None, ..., None])[0].astype(np.int16)) <= SAME_COLOR
    threshold = otsu_threshold(gray)
    is_dark = gray <= threshold
    thresholds = [threshold, *(otsu_threshold(part) for part in (gray[is_dark], gray[~is_dark]) if part.size)]
    for level in thresholds:
        yield gray <= level
        yield gray > level


def _inner_rectangle(border: Mask) -> tuple[slice, slice] | None:
    """Strip rows and columns that are 90 % border; what remains must be large and have edges that are 10 % border."""
    height, width = border.shape
    rows = np.flatnonzero(10 * np.count_nonzero(border, axis=1) < 9 * width)
    columns = np.flatnonzero(10 * np.count_nonzero(border, axis=0) < 9 * height)
    if not rows.size or not columns.size:
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if (top, bottom, left, right) == (0, height, 0, width):
        return None
    # One pixel more, whose color may be a mixture.
    top, bottom, left, right = top + (top > 0), bottom - (bottom < height), left + (left > 0), right - (right < width)
    area = (bottom - top) * (right - left)
    if MIN_INSIDE_PARTS * area < height * width or min(bottom - top, right - left) < MIN_INSIDE:
        return None
    inside = slice(top, bottom), slice(left, right)
    cut = border[inside]
    edges = (cut[0], cut[-1], cut[:, 0], cut[:, -1])
    return None if any(10 * np.count_nonzero(edge) > len(edge) for edge in edges) else inside


def _sheet(border: Mask) -> Mask | None:
    """The largest part of the image that the border encloses, with all that lies on it; None if it is no sheet."""
    outer = _ring(border)
    if 2 * np.count_nonzero(outer) < outer.size:
        return None
    labels, _ = connected_components(border)
    outside = np.isin(labels, np.unique(_ring(labels)[outer]))
    parts, count = connected_components(~outside)
    if not count:
        return None
    sheet: Mask = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    area, box = np.count_nonzero(sheet), sheet[_box(sheet)]
    if MIN_INSIDE_PARTS * area < sheet.size or min(box.shape) < MIN_INSIDE:
        return None
    ink = np.count_nonzero(sheet & border)
    has_ink = MAX_INK_PARTS * ink >= area >= MIN_INK_PARTS * ink
    return sheet if has_ink and _is_rectangle(box) else None


def _is_rectangle(box: Mask) -> bool:
    """Whether a mask, cut to its box, fills 90 % of the smallest of the rectangles around it, at any angle."""
    rows = np.arange(len(box))
    y = np.concatenate([rows, rows])
    x = np.concatenate([box.argmax(axis=1), box.shape[1] - 1 - box[:, ::-1].argmax(axis=1)])
    across, along = TURNS * y + TURN * x, TURN * y - TURNS * x
    areas = (np.ptp(across, axis=1) + TURN) * (np.ptp(along, axis=1) + TURN) // (TURN**2 + TURNS[:, 0] ** 2)
    return bool(100 * np.count_nonzero(box) >= MIN_RECTANGLE_PERCENT * areas.min())


def _ring(image: NDArray[Any]) -> NDArray[Any]:
    """The first and last row and column of an image (h, w)."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _box(mask: Mask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
