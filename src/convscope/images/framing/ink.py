"""The ink of a gray image: what is written, drawn or printed, apart from its paper, lighting and surroundings.

docs/framing.md specifies every step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope.images.framing.morphology import closing, connected_components, dilation, local_mean, opening
from convscope.images.resize import fit_inside, resize
from convscope.images.statistics import lower_quantile, otsu_threshold

Gray = NDArray[np.uint8]

LARGEST_SIDE = 160  # pixels; larger images are reduced to this before their ink is searched
WINDOW_PARTS = 4  # the radius of a window is the longer side divided by this
MIN_CONTRAST = 16  # gray levels between paper and ink
SPECK_PARTS = 16  # components below this part of the largest one's ink are specks
FAINT_PARTS = 8  # ink begins at this part of the contrast
EDGE_PARTS = 40  # what belongs to ink is at most the longer side divided by this away from it, and at least 2 pixels
MIN_NOISES = 4  # ink exceeds its paper by this many times the paper's noise
NOISE_ROUNDS = 2
MIN_INSIDE = 8  # pixels of each side of what is inside a border of another color


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
    if max(height, width) > LARGEST_SIDE:
        rows, columns = fit_inside(height, width, LARGEST_SIDE, LARGEST_SIDE)
        gray = resize(gray[..., None], rows, columns)[..., 0]
    inside = _inside_border(gray)
    found = _separate(gray[inside]) if inside else None
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


def _main_components(mask: NDArray[np.bool_], is_ink: NDArray[np.bool_], levels: Gray) -> NDArray[np.bool_]:
    """The components of a mask that contain ink and are no specks."""
    components, count = connected_components(mask)
    flat = components.ravel()
    masses = np.bincount(flat, levels.ravel(), count + 1).astype(np.int64)
    masses[np.bincount(flat, is_ink.ravel(), count + 1) == 0] = 0
    masses[0] = 0
    kept: NDArray[np.bool_] = (masses > 0) & (masses * SPECK_PARTS >= masses.max())
    return kept[components]


def _cut_to_box(levels: Gray) -> Gray:
    rows, columns = np.flatnonzero(levels.any(axis=1)), np.flatnonzero(levels.any(axis=0))
    return levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _inside_border(gray: Gray) -> tuple[slice, slice] | None:
    """The rectangle inside a border of another color, such as a table around a sheet of paper; None without one."""
    threshold = otsu_threshold(gray)
    is_dark = gray <= threshold
    thresholds = [threshold, *(otsu_threshold(part) for part in (gray[is_dark], gray[~is_dark]) if part.size)]
    for level in thresholds:
        for border in (gray <= level, gray > level):
            if inside := _inner_rectangle(border):
                return inside
    return None


def _inner_rectangle(border: NDArray[np.bool_]) -> tuple[slice, slice] | None:
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
    if 2 * (bottom - top) * (right - left) < height * width or min(bottom - top, right - left) < MIN_INSIDE:
        return None
    inside = slice(top, bottom), slice(left, right)
    cut = border[inside]
    edges = (cut[0], cut[-1], cut[:, 0], cut[:, -1])
    return None if any(10 * np.count_nonzero(edge) > len(edge) for edge in edges) else inside
