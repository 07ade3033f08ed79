"""Plots of which parts of an image speak for a class: arrays in, one Canvas out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convscope.report.canvas import BLUE, VERMILION, Array, Canvas, overlay
from convscope.report.layout import (
    COLOR_BAR_HEIGHT,
    ColorScale,
    color_bar,
    fading_color_map,
    image_grid,
    max_magnitude,
)


def attribution(image: Array, heat: Array) -> Canvas:
    """An image, and the pixels that raised (orange) or lowered (blue) the score of a class; stronger color is more.

    Args:
        image: uint8 (height, width, channels).
        heat: float (h, w) of any size; it is stretched over the image.
    """
    scale = _scale(heat)
    images = [image, _heated(image, heat, scale)]
    canvas = image_grid("Influence of the pixels", images, ["image", "attribution"], 2, bottom=COLOR_BAR_HEIGHT)
    color_bar(canvas, scale, "against ← 0 → for the predicted class" if scale.low else "0 → for the predicted class")
    return canvas


def region_maps(title: str, images: Array, heats: Array, titles: Sequence[str]) -> Canvas:
    """Images, each in a row with its maps; every map has its own scale.

    Args:
        title: Of the figure.
        images: uint8 (n, height, width, channels).
        heats: float (n, maps, height, width); positive values are orange, negative ones blue.
        titles: n * (1 + maps), row by row.
    """
    tiles = [
        tile
        for image, maps in zip(images, heats, strict=True)
        for tile in (image, *(_heated(image, heat, _scale(heat)) for heat in maps))
    ]
    canvas = image_grid(title, tiles, titles, columns=1 + heats.shape[1], bottom=0.35)
    canvas.text(canvas.width / 2, canvas.height - 0.12, "orange: for the class, blue: against it", 9.5, "center")
    return canvas


def _scale(heat: Array) -> ColorScale:
    limit = max_magnitude(heat)
    signed = bool((heat < 0).any())
    return ColorScale(fading_color_map(BLUE if signed else None, VERMILION), -limit if signed else 0.0, limit)


def _heated(image: Array, heat: Array, scale: ColorScale) -> Array:
    """A pale image under the colors of a map."""
    pale = np.rint(0.3 * image[..., :3].mean(axis=2, keepdims=True) + 178).astype(np.uint8)
    return overlay(pale, scale.to_rgba(heat))
