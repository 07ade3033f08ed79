"""What several figures share: color scales, grids of images, color bars and the style of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convscope.report.canvas import INK, MARGIN, MUTED, RULE, TITLE_HEIGHT, WIDTH, Array, Box, Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

COLOR_BAR_HEIGHT = 0.72  # inches at the lower edge
LINE_HEIGHT = 0.17  # inches of a line of text above an image
MAX_TILES = 64


@dataclass(frozen=True)
class ColorScale:
    """Colors for the values from `low` to `high`."""

    colors: Colormap
    low: float
    high: float

    def to_rgba(self, values: Array) -> Array:
        """Colors of values of any shape, uint8 (..., 4); transparent for NaN and infinity."""
        fraction = (np.ma.masked_invalid(values) - self.low) / (self.high - self.low)
        rgba: Array = self.colors(fraction, bytes=True)
        return rgba


def color_map(name: str) -> Colormap:
    """A color map of matplotlib."""
    import matplotlib

    return matplotlib.colormaps[name]


def fading_color_map(negative: str | None, positive: str) -> Colormap:
    """A color map from `negative`, if there is one, over transparent to `positive`."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    colors = [to_rgba(positive, 0.0), to_rgba(positive, 0.9)]
    return LinearSegmentedColormap.from_list("heat", [to_rgba(negative, 0.9), *colors] if negative else colors)


def signed_scale(limit: float) -> ColorScale:
    """Blue for negative values, white for zero, red for positive ones."""
    return ColorScale(color_map("RdBu_r"), -limit, limit)


def max_magnitude(*arrays: Array) -> float:
    """The largest finite absolute value, or 1 if all are zero: the end of a color scale."""
    return max((float(np.nan_to_num(np.abs(a), nan=0, posinf=0).max()) for a in arrays), default=0.0) or 1.0


def image_grid(title: str, images: Sequence[Array], titles: Sequence[str], columns: int, bottom: float = 0.0) -> Canvas:
    """Images of one shape in a grid, each below its title.

    Args:
        title: Of the figure.
        images: Each uint8 (h, w, 1, 3 or 4).
        titles: One per image.
        columns: Of the grid.
        bottom: Inches left free at the lower edge.
    """
    rows = math.ceil(len(images) / columns)
    lines = max(text.count("\n") + 1 for text in titles)
    gap, text_height = 0.15, LINE_HEIGHT * lines + 0.03
    width = (WIDTH - 2 * MARGIN - gap * (columns - 1)) / columns
    height = width * min(2.0, images[0].shape[0] / images[0].shape[1])
    total = TITLE_HEIGHT + rows * (text_height + height + gap) + max(bottom, MARGIN) - gap / 2
    canvas = Canvas.create(title, WIDTH, total)
    for i, (image, text) in enumerate(zip(images, titles, strict=True)):
        left = MARGIN + i % columns * (width + gap)
        top = TITLE_HEIGHT + i // columns * (text_height + height + gap) + text_height
        canvas.text(left + width / 2, top - 0.07, text, 9 if columns > 3 else 10, "center")
        canvas.image(image, Box(left, top, width, height))
    return canvas


def tile_grid(title: str, tiles: Array, caption: str, scale: ColorScale | None = None) -> Canvas:
    """Up to 64 small images in a grid, numbered from 0.

    Args:
        title: Of the figure.
        tiles: uint8 (n, h, w, 3), or values (n, h, w) if there is a scale.
        caption: At the lower edge.
        scale: The colors of the values.
    """
    count = min(MAX_TILES, len(tiles))
    columns = 8 if count > 16 else 4
    rows = math.ceil(count / columns)
    gap = 0.06
    width = (WIDTH - 2 * MARGIN - gap * (columns - 1)) / columns
    height = width * min(2.0, tiles.shape[1] / tiles.shape[2])
    if len(tiles) > count:
        caption += f"\n({len(tiles) - count} more are not shown)"
    bottom = (COLOR_BAR_HEIGHT if scale else 0.35) + LINE_HEIGHT * caption.count("\n")
    canvas = Canvas.create(title, WIDTH, TITLE_HEIGHT + rows * (LINE_HEIGHT + height + gap) + bottom)
    for i, tile in enumerate(scale.to_rgba(tiles[:count]) if scale else tiles[:count]):
        left, top = MARGIN + i % columns * (width + gap), TITLE_HEIGHT + i // columns * (LINE_HEIGHT + height + gap)
        canvas.text(left, top + LINE_HEIGHT - 0.04, str(i), 8)
        canvas.image(tile, Box(left, top + LINE_HEIGHT, width, height))
    if scale:
        color_bar(canvas, scale, caption)
    else:
        canvas.text(WIDTH / 2, canvas.height - 0.14, caption, 9.5, "center")
    return canvas


def color_bar(canvas: Canvas, scale: ColorScale, label: str) -> None:
    """Add a color bar with round numbers at the lower edge."""
    from matplotlib.ticker import MaxNLocator

    top = canvas.height - COLOR_BAR_HEIGHT - LINE_HEIGHT * label.count("\n") + 0.08
    left, width, height = 3 * MARGIN, canvas.width - 6 * MARGIN, 0.13
    ramp = np.linspace(scale.low, scale.high, 256)
    canvas.image(scale.to_rgba(ramp[None]), Box(left, top, width, height))
    for value in MaxNLocator(9, steps=[1, 2, 5, 10]).tick_values(scale.low, scale.high):
        fraction = (value - scale.low) / (scale.high - scale.low)
        if -1e-6 < fraction < 1 + 1e-6:
            x = left + fraction * width
            canvas.image(np.zeros((1, 1, 1), np.uint8), Box(x, top + height, 0, 0.03), MUTED)
            canvas.text(x, top + height + 0.18, f"{value:g}".replace("-", "−"), 9, "center")
    canvas.text(canvas.width / 2, canvas.height - 0.12, label, 9.5, "center")


def hide_ticks(axes: Axes) -> None:
    """Leave only a thin frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=RULE, linewidth=0.8)


def style_axes(axes: Axes) -> None:
    """Leave only the lower axis, with small labels."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(labelsize=9, colors=MUTED, labelcolor=INK, length=0)
    axes.set_axisbelow(True)


def integer_ticks(axes: Axes) -> None:
    """Put ticks of the horizontal axis at integers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def cell_text(axes: Axes, center: tuple[float, float], text: str, size: float, color: str = INK) -> None:
    """Write a short text in the middle of a cell."""
    axes.text(*center, text, ha="center", va="center", fontsize=size, color=color)
