"""MNIST's test digits redrawn as other people's images: other sizes, margins, papers and lighting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Levels = NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """How digits are redrawn.

    Attributes:
        width: of the image, in pixels.
        height: of the image, in pixels.
        paper: gray level of the background.
        ink: gray level of the strokes.
        fill: smallest and largest side of the digit, as a fraction of the largest one that fits.
        noise: standard deviation of the paper's texture, in gray levels.
        shadow: how much darker the far corner is, as a fraction.
        frame: width of a dark frame, as a fraction of the shorter side.
        jpeg: quality to which the image is compressed; 0 for none.
    """

    width: int
    height: int
    paper: int
    ink: int
    fill: tuple[float, float] = (0.5, 0.9)
    noise: float = 0
    shadow: float = 0
    frame: float = 0
    jpeg: int = 0


def redraw(digits: Pixels, drawing: Drawing, seed: int = 0) -> Iterator[Pixels]:
    """Cut each digit, uint8 (n, h, w) light on dark, to its ink, and draw it elsewhere: uint8 (height, width, 1)."""
    rng = np.random.default_rng(seed)
    for digit in digits:
        yield _photographed(_drawn(_cut(digit), drawing, rng), drawing, rng)[..., None]


def _cut(digit: Pixels) -> Pixels:
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _drawn(digit: Pixels, drawing: Drawing, rng: np.random.Generator) -> Levels:
    """The digit at a random size and place, as float64 (height, width)."""
    margin = round(drawing.frame * min(drawing.width, drawing.height))
    width, height = drawing.width - 2 * margin, drawing.height - 2 * margin
    scale = min(width / digit.shape[1], height / digit.shape[0]) * rng.uniform(*drawing.fill)
    size = (max(1, round(digit.shape[1] * scale)), max(1, round(digit.shape[0] * scale)))
    small = np.asarray(Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC), np.float64) / 255
    opacity = np.zeros((drawing.height, drawing.width))
    top, left = (margin + rng.integers(0, side - part + 1) for side, part in ((height, size[1]), (width, size[0])))
    opacity[top : top + size[1], left : left + size[0]] = small
    image: Levels = drawing.paper + (drawing.ink - drawing.paper) * opacity
    return image


def _photographed(image: Levels, drawing: Drawing, rng: np.random.Generator) -> Pixels:
    """With frame, shadow, texture and compression, as uint8."""
    margin = round(drawing.frame * min(image.shape))
    if margin:
        inside = image[margin:-margin, margin:-margin]
        image = np.full_like(image, 20)
        image[margin:-margin, margin:-margin] = inside
    if drawing.shadow:
        rows, columns = (np.linspace(0, 1, side) for side in image.shape)
        image = image * (1 - drawing.shadow * (rows[:, None] + columns) / 2)
    if drawing.noise:
        image = image + rng.normal(0, drawing.noise, image.shape)
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if not drawing.jpeg:
        return pixels
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=drawing.jpeg)
    return np.asarray(Image.open(stream))
