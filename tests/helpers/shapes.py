"""Photos of colored shapes: an easy image folder in color."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers.images import Pixels, write_images

SHAPES = ("bar", "cross", "disk", "frame", "pole", "wedge")


def shape(name: str, seed: int, side: int = 64) -> Pixels:
    """A shape in a random place, size and color on a noisy background of another color; (side, side, 3)."""
    random = np.random.default_rng((SHAPES.index(name), seed))
    row, column = random.uniform(0.4, 0.6, 2) * side
    radius = random.uniform(0.25, 0.35) * side
    y, x = (np.mgrid[:side, :side].astype(float) - np.array([row, column])[:, None, None]) / radius
    inside = np.maximum(abs(x), abs(y)) < 1
    mask = {
        "bar": inside & (abs(y) < 0.3),
        "cross": inside & (np.minimum(abs(x), abs(y)) < 0.3),
        "disk": x**2 + y**2 < 1,
        "frame": inside & (np.maximum(abs(x), abs(y)) > 0.6),
        "pole": inside & (abs(x) < 0.3),
        "wedge": inside & (y > 2 * abs(x) - 1),
    }[name]
    paper, ink = random.uniform(0, 100, 3), random.uniform(150, 255, 3)
    image = np.where(mask[..., None], ink, paper) + random.normal(0, 12, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8)


def write_shapes(folder: Path, each: int = 12, names: tuple[str, ...] = SHAPES, side: int = 64) -> Path:
    """Write `each` photos of every class into a folder with one folder per class."""
    images = {f"{name}/{number}.png": shape(name, number, side) for name in names for number in range(each)}
    return write_images(folder, images)
