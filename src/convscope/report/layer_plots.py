"""Plots of one image on its way through a network: arrays in, one Canvas out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convscope._text import percent, pluralize
from convscope.report.canvas import (
    BLUE,
    GREEN,
    INK,
    MARGIN,
    MUTED,
    PALE,
    RULE,
    TITLE_HEIGHT,
    VERMILION,
    WIDTH,
    Array,
    Box,
    Canvas,
    short_label,
    text_style,
    text_width,
)
from convscope.report.layout import (
    COLOR_BAR_HEIGHT,
    ColorScale,
    cell_text,
    color_bar,
    color_map,
    hide_ticks,
    image_grid,
    integer_ticks,
    max_magnitude,
    signed_scale,
    style_axes,
    tile_grid,
)
from convscope.report.plots import AXIS_WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

MAX_SCORES = 20
MAX_BARS = 128
MAX_ENTRIES = 10_000  # of a vector
POSITION_COLORS = (BLUE, VERMILION, GREEN)


def filters(kernels: Array) -> Canvas:
    """The filters of a first layer on one scale (A2, A15).

    Three input channels are shown as colors, with zero as middle gray; otherwise the weights of the first input
    channel, with zero in white.

    Args:
        kernels: float (kernel height, kernel width, input channels, filters).
    """
    height, width, channels, count = kernels.shape
    limit = max_magnitude(kernels)
    title = f"{pluralize(count, 'filter')} of the first layer, {height}×{width}"
    if channels == 3:
        pixels = np.rint(127.5 + 127.5 * kernels.transpose(3, 0, 1, 2) / limit).astype(np.uint8)
        return tile_grid(title, pixels, "middle gray is zero; more red, green or blue is a larger weight")
    note = "" if channels == 1 else f"; input channel 1 of {channels}"
    weights = kernels[:, :, 0].transpose(2, 0, 1)
    return tile_grid(title, weights, f"weight, on one scale for all filters{note}", signed_scale(limit))


def feature_maps(title: str, maps: Array) -> Canvas:
    """The output of one layer for one image (A15): up to 64 maps on one color scale, or the entries of a vector.

    Args:
        title: Of the figure.
        maps: float (height, width, channels), or (n,) after flatten or a dense layer.
    """
    limit = max_magnitude(maps)
    signed = bool((maps < 0).any())
    scale = signed_scale(limit) if signed else ColorScale(color_map("viridis"), 0.0, limit)
    if maps.ndim == 1:
        return _bars(title, maps) if len(maps) <= MAX_BARS else _wrapped_vector(title, maps, scale)
    return tile_grid(title, maps.transpose(2, 0, 1), "activation, on one scale for all maps", scale)


def class_scores(title: str, scores: Array, classes: Sequence[str]) -> Canvas:
    """The scores (logits) of the classes for one image, as bars: all, or the 20 highest.

    Args:
        title: Of the figure.
        scores: float (k,).
        classes: k names.
    """
    order = np.arange(len(classes)) if len(classes) <= MAX_SCORES else np.argsort(-scores, kind="stable")[:MAX_SCORES]
    label = "score" if len(order) == len(classes) else f"the {MAX_SCORES} highest of {len(classes)} scores"
    names = [short_label(classes[i], 26) for i in order]
    left = MARGIN + text_width(names, 10) + 0.1
    canvas = Canvas.create(title, WIDTH, TITLE_HEIGHT + 0.27 * len(order) + 0.6)
    axes = canvas.axes(Box(left, TITLE_HEIGHT, WIDTH - MARGIN - left - 0.15, 0.27 * len(order)))
    style_axes(axes)
    axes.grid(axis="x", color=PALE)
    axes.barh(range(len(order)), scores[order], color=np.where(scores[order] < 0, BLUE, VERMILION).tolist(), height=0.7)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(range(len(order)), names, fontsize=10, **text_style())
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel(label, fontsize=10, color=INK)
    return canvas


def flatten_view(maps: Array) -> Canvas:
    """Which cell of the maps each entry of the flattened vector comes from: row, column, channel (A7).

    Above: the corners of the first maps, each cell with its index in the vector, the first three positions framed.
    Below: entries of the vector in the colors of their positions.

    Args:
        maps: float (height, width, channels).
    """
    height, width, channels = maps.shape
    title = f"Flatten: {height}×{width} cells in {pluralize(channels, 'map')}, one vector of {maps.size:,}"
    canvas = Canvas.create(title, WIDTH, 3.9)
    gap = 0.15
    corner_width = (WIDTH - 2 * MARGIN - 2 * gap) / 3
    for channel in range(min(3, channels)):
        box = Box(MARGIN + channel * (corner_width + gap), TITLE_HEIGHT + 0.25, corner_width, 1.25)
        _numbered_corner(canvas.axes(box), maps, channel)
    strip = canvas.axes(Box(MARGIN, TITLE_HEIGHT + 1.7, WIDTH - 2 * MARGIN, 1.2))
    _vector_strip(strip, (height, width, channels), positions=min(3, height * width))
    legend = "The number in a cell is its index in the vector; the shade is its activation."
    rule = f"index = (row × {width} + column) × {channels} + map, all counted from 0"
    canvas.text(WIDTH / 2, canvas.height - 0.14, f"{legend}\n{rule}", 9.5, "center")
    return canvas


def class_probabilities(probabilities: Array, classes: Sequence[str]) -> Canvas:
    """The ten most probable classes of one image, most probable first (A9).

    Args:
        probabilities: float (k,), 0..1.
        classes: k names.

    >>> canvas = class_probabilities(np.array([0.2, 0.7, 0.1]), ["cat", "dog", "owl"])
    >>> [tick.get_text() for tick in canvas.figure.axes[0].get_yticklabels()]
    ['dog', 'cat', 'owl']
    """
    order = np.argsort(-probabilities, kind="stable")[:10]
    title = "Probability of each class" if len(classes) <= 10 else f"The 10 most probable of {len(classes)} classes"
    canvas = Canvas.create(title, WIDTH, TITLE_HEIGHT + MARGIN + 0.33 * len(order))
    names = [short_label(classes[i], 26) for i in order]
    left = MARGIN + text_width(names, 10) + 0.1
    axes = canvas.axes(Box(left, TITLE_HEIGHT, WIDTH - MARGIN - left, canvas.height - TITLE_HEIGHT - MARGIN))
    style_axes(axes)
    colors = [BLUE, *["#8fb8d0"] * (len(order) - 1)]
    bars = axes.barh(range(len(order)), 100 * probabilities[order], color=colors, height=0.7)
    axes.bar_label(bars, [percent(float(probabilities[i]), 0) for i in order], padding=4, fontsize=10, color=INK)
    axes.set_yticks(range(len(order)), names, fontsize=10, **text_style())
    axes.set_xlim(0, 114)  # leaves room for the label of a full bar
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return canvas


def before_after(before: Array, after: Array, titles: Sequence[str]) -> Canvas:
    """Two images next to each other, as of ReLU (A4) or of a filter on a photo (A16).

    Args:
        before: uint8 (height, width, channels), shown as it is, or float (height, width), shown in signed colors on
            one scale for both, with zero in white.
        after: Likewise.
        titles: Of both.
    """
    values = [array for array in (before, after) if array.dtype != np.uint8]
    scale = signed_scale(max_magnitude(*values))
    images = [array if array.dtype == np.uint8 else scale.to_rgba(array) for array in (before, after)]
    labels = [short_label(title, 30) for title in titles]
    canvas = image_grid("Before and after", images, labels, 2, bottom=COLOR_BAR_HEIGHT if values else 0.0)
    if values:
        color_bar(canvas, scale, "value: blue is negative, white zero, red positive")
    return canvas


def _bars(title: str, vector: Array) -> Canvas:
    canvas = Canvas.create(title, WIDTH, 2.8)
    left = AXIS_WIDTH + 0.25
    axes = canvas.axes(Box(left, TITLE_HEIGHT, WIDTH - left - MARGIN, 1.85))
    style_axes(axes)
    axes.grid(axis="y", color=PALE)
    axes.bar(range(len(vector)), vector, color=np.where(vector < 0, BLUE, VERMILION).tolist())
    axes.axhline(0, color=MUTED, linewidth=0.8)
    integer_ticks(axes)
    axes.set_xlabel(f"entry, 0 to {len(vector) - 1}", fontsize=10, color=INK)
    axes.set_ylabel("activation", fontsize=10, color=INK)
    return canvas


def _wrapped_vector(title: str, vector: Array, scale: ColorScale) -> Canvas:
    """A long vector as rows of cells, in reading order."""
    per_row = 100 if len(vector) > 1000 else 50
    shown = vector[:MAX_ENTRIES]
    cells = np.full(math.ceil(len(shown) / per_row) * per_row, np.nan)
    cells[: len(shown)] = shown
    rows = len(cells) // per_row
    width = WIDTH - AXIS_WIDTH - MARGIN
    height = rows * width / per_row
    canvas = Canvas.create(title, WIDTH, TITLE_HEIGHT + height + 0.1 + COLOR_BAR_HEIGHT)
    axes = canvas.axes(Box(AXIS_WIDTH, TITLE_HEIGHT, width, canvas.height - TITLE_HEIGHT - 0.1 - COLOR_BAR_HEIGHT))
    pixels = scale.to_rgba(cells.reshape(rows, per_row))
    axes.imshow(pixels, extent=(0, per_row, len(cells), 0), interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.tick_params(labelsize=9, color=RULE, labelcolor=INK)
    axes.spines[:].set_color(RULE)
    more = f"; {len(vector) - len(shown):,} more are not shown" if len(vector) > len(shown) else ""
    color_bar(canvas, scale, f"activation of {len(vector):,} entries, {per_row} per row{more}")
    return canvas


def _numbered_corner(axes: Axes, maps: Array, channel: int) -> None:
    """The upper left cells of one map, each with its index in the flattened vector."""
    height, width, channels = maps.shape
    corner = maps[:3, :4, channel]
    indices = np.ravel_multi_index(np.indices(corner.shape), (height, width)) * channels + channel
    limit = 2.5 * max_magnitude(maps[:3, :4])  # only the lighter grays, for dark text
    axes.imshow(np.abs(corner), cmap="Greys", vmin=0, vmax=limit, interpolation="nearest")
    for (row, column), index in np.ndenumerate(indices):
        cell_text(axes, (column, row), str(index), 8.5)
    for position, color in enumerate(POSITION_COLORS):
        row, column = divmod(position, width)
        if row < corner.shape[0] and column < corner.shape[1]:
            axes.add_patch(_rectangle((column - 0.46, row - 0.46), (0.92, 0.92), color, linewidth=2.2))
    axes.set_title(f"map {channel}, upper left", fontsize=9.5, color=INK)
    hide_ticks(axes)


class _Entry(NamedTuple):
    """An entry of the vector; without a position, an ellipsis."""

    position: int | None
    channel: int | None


def _vector_strip(axes: Axes, shape: tuple[int, int, int], positions: int) -> None:
    """The vector's first entries in the colors of the positions they come from, and its last one."""
    height, width, channels = shape
    maps = list(range(channels)) if channels <= 3 else [0, 1, None, channels - 1]
    for position in range(positions):
        color = POSITION_COLORS[position]
        start = position * len(maps)
        for slot, channel in enumerate(maps, start):
            _draw_entry(axes, slot, _Entry(None if channel is None else position * channels + channel, channel), color)
        row, column = divmod(position, width)
        origin = f"row {row},{' ' if channels > 1 else chr(10)}column {column}"
        axes.text(start + len(maps) / 2, -0.2, origin, ha="center", color=color, fontsize=9.5)
    end = positions * len(maps)
    if height * width > positions:
        _draw_entry(axes, end, _Entry(None, None), MUTED)
        _draw_entry(axes, end + 1, _Entry(height * width * channels - 1, channels - 1), MUTED)
        axes.text(end + 1, -0.2, "last", ha="center", color=MUTED, fontsize=9.5)
        end += 2
    for y, text in ((0.5, "index"), (1.3, "map")):
        axes.text(-0.1, y, text, ha="right", va="center", fontsize=9, color=MUTED)
    axes.set(xlim=(-0.1 * end, end + 0.05), ylim=(1.6, -0.7))
    axes.axis("off")


def _draw_entry(axes: Axes, slot: int, entry: _Entry, color: str) -> None:
    axes.add_patch(_rectangle((slot + 0.04, 0), (0.92, 1), color, linewidth=1.8, opacity=0.12))
    text = "…" if entry.position is None else str(entry.position)
    size = {4: 8, 5: 7}.get(len(text), 9 if len(text) < 4 else 6)
    cell_text(axes, (slot + 0.5, 0.5), text, size)
    if entry.channel is not None:
        cell_text(axes, (slot + 0.5, 1.3), str(entry.channel), 9)


def _rectangle(
    corner: tuple[float, float], size: tuple[float, float], color: str, linewidth: float, opacity: float = 0.0
) -> Rectangle:
    """A rectangle in data coordinates, filled with its own color at some opacity."""
    from matplotlib.patches import Rectangle

    return Rectangle(corner, *size, facecolor=(color, opacity), edgecolor=color, linewidth=linewidth)
