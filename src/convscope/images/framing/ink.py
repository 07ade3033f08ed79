"""The ink of a gray image: what is written, drawn or printed, apart from its paper, lighting and surroundings.

docs/framing.md specifies every step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope.images.framing.morphology import closing, connected_components, dilation, local_mean, opening
from convscope.images.framing.surroundings import find_sheet, inside_rectangle, reduce_gray
from convscope.images.statistics import lower_quantile, otsu_threshold

Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

WINDOW_PARTS = 4  # the radius of a window is the longer side divided by this
MIN_CONTRAST = 8  # gray levels between paper and ink
LINE_PARTS = 8  # lines count as ink if all other components are below this part of the largest one
SPECK_PARTS = 16  # components below this part of the largest one's ink are specks
FAINT_PARTS = 8  # ink begins at this part of the contrast
EDGE_PARTS = 40  # what belongs to ink is at most the longer side divided by this away from it, and at least 2 pixels
MIN_NOISES = 4  # ink exceeds its paper by this many times the paper's noise
NOISE_ROUNDS = 2


class Ink(NamedTuple):
    """The ink of an image.

    Attributes:
        levels: uint8 (h, w), cut to the ink's bounding box: 0 paper, 255 full ink.
        dark: whether the ink is darker than its paper.
        size: height and width of the bounding box, in pixels of the image.
    """

    levels: Gray
    dark: bool
    size: tuple[int, int]


def find_ink(gray: Gray) -> Ink | None:
    """The ink of an image, uint8 (h, w); None if nothing stands out."""
    height, width = gray.shape
    gray = reduce_gray(gray)
    inside = inside_rectangle(gray)
    found = _separate(gray[inside]) if inside else None
    if found is None and (sheet := find_sheet(gray)) is not None:
        found = _separate(sheet)
    found = found or _separate(gray)
    if found is None:
        return None
    levels, dark = found
    rows, columns = levels.shape
    return Ink(levels, dark, (-(-rows * height // gray.shape[0]), -(-columns * width // gray.shape[1])))


def ink_is_dark(gray: Gray) -> int:
    """How clearly the ink of an image, uint8 (h, w), is darker than its paper: -2500 (it is lighter) .. 2500.

    The sum of three signs: rare values far from their surroundings, the side of the border, and narrow parts.
    """
    radius = _radius(gray)
    difference = gray - local_mean(gray, radius)
    cubes = difference**3
    border = np.concatenate([gray[0], gray[-1], gray[1:-1, 0], gray[1:-1, -1]])
    light_border = int((border > otsu_threshold(gray)).sum())
    light = int((gray - opening(gray, radius)).sum(dtype=np.int64))
    dark = int((closing(gray, radius) - gray).sum(dtype=np.int64))
    score = -1000 * int(cubes.sum()) // (int(abs(cubes).sum()) + 1)
    score += 2000 * light_border // len(border) - 1000
    score += 500 * (dark - light) // (dark + light + 1)
    return score


def _radius(gray: Gray) -> int:
    return max(1, int(max(gray.shape)) // WINDOW_PARTS)


def _separate(gray: Gray) -> tuple[Gray, bool] | None:
    """Levels of ink, 0..255, cut to its bounding box, and whether it is dark; None if nothing stands out."""
    dark = ink_is_dark(gray) > 0
    light_ink = 255 - gray if dark else gray
    raised = light_ink - opening(light_ink, _radius(gray))
    threshold, base, noise = _paper(raised)
    is_ink = raised > threshold
    if not is_ink.any():
        return None
    full = lower_quantile(raised[is_ink], 1, 2)
    if full - base < MIN_CONTRAST:
        return None
    faint = base + max((full - base) // FAINT_PARTS, 2 * noise)
    near = dilation(is_ink, max(2, int(max(gray.shape)) // EDGE_PARTS))
    levels = np.clip((raised.astype(np.int64) - base) * 255 // (full - base), 0, 255).astype(np.uint8)
    kept = np.where(_main_components((raised > faint) & near, is_ink, levels), levels, 0)
    return _cut_to_box(kept), dark


def _paper(raised: Gray) -> tuple[int, int, int]:
    """The threshold above which pixels are ink, the level of the paper, and its noise."""
    threshold = otsu_threshold(raised)
    for _ in range(NOISE_ROUNDS):
        paper = raised[raised <= threshold]
        base = lower_quantile(paper, 1, 2)
        noise = base - lower_quantile(paper, 1, 10)
        threshold = max(threshold, base + MIN_NOISES * noise)
    return threshold, base, noise


def _main_components(mask: Mask, is_ink: Mask, levels: Gray) -> Mask:
    """The components of a mask that contain ink, and are neither specks nor lines."""
    components, count = connected_components(mask)
    flat = components.ravel()
    masses = np.bincount(flat, levels.ravel(), count + 1).astype(np.int64)
    masses[np.bincount(flat, is_ink.ravel(), count + 1) == 0] = 0
    masses[0] = 0
    others = np.where(_are_lines(components, count), 0, masses)
    if LINE_PARTS * others.max() >= masses.max():
        masses = others
    kept: Mask = (masses > 0) & (masses * SPECK_PARTS >= masses.max())
    return kept[components]


def _are_lines(components: NDArray[np.int32], count: int) -> Mask:
    """Which components are lines, boxes or grids: they go across the image, and are narrow or avoid its middle.

    Args:
        components: int32 (h, w), 0 to `count`.
        count: of the components.

    Returns:
        bool (count + 1,).
    """
    height, width = components.shape
    rows, columns = (_extents(components if axis == 1 else components.T, count) for axis in (1, 0))
    is_long = (8 * rows >= 7 * height) | (8 * columns >= 7 * width)
    is_narrow = (8 * rows <= height) | (8 * columns <= width)
    middle = components[height // 4 : height - height // 4, width // 4 : width - width // 4]
    in_middle = np.bincount(middle.ravel(), minlength=count + 1) > 0
    lines: Mask = is_long & (is_narrow | ~in_middle)
    return lines


def _extents(components: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """From the first to the last row of each component: int64 (count + 1,)."""
    rows = np.repeat(np.arange(len(components)), components.shape[1])
    first, last = np.full(count + 1, len(components)), np.full(count + 1, -1)
    np.minimum.at(first, components.ravel(), rows)
    np.maximum.at(last, components.ravel(), rows)
    extents: NDArray[np.int64] = last - first + 1
    return extents


def _cut_to_box(levels: Gray) -> Gray:
    rows, columns = np.flatnonzero(levels.any(axis=1)), np.flatnonzero(levels.any(axis=0))
    return levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
