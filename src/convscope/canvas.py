"""What the pictures in plots.py are drawn with: one style, fonts, small images, grids and colour bars.

Colours: Okabe and Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

Array = npt.NDArray[Any]

WIDTH = 5.6  # inches; 1,008 pixels
DPI = 180
PAD = 0.1  # inches around everything
MAX_TILES = 64
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, MUTED, RULE, PALE = "#1f2933", "#52606d", "#cbd2d9", "#e4e7eb"
# Tried in this order for class names in scripts that matplotlib's own font lacks.
FALLBACK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "PingFang SC", "Malgun Gothic", "Arial")


def new_figure(title: str, width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(
        short_label(title, int(width * 11)), x=PAD / width, ha="left", fontsize=12, fontweight="bold", color=INK
    )
    return figure


def finished(figure: Figure) -> Figure:
    """No mathematics in class names (`$` is a `$`), and fonts for scripts that the first font lacks."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_fontfamily(_fonts())
    return figure


@lru_cache(maxsize=1)
def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    present = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in present)]


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    """The code points that at least one of the fonts can draw."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset().union(*(get_font(findfont(name)).get_charmap() for name in _fonts()))


def short_label(text: str, limit: int) -> str:
    """At most `limit` characters of `text` on one line, with a box for each that no font can draw."""
    drawn = "".join(c if ord(c) in _characters() else "□" for c in " ".join(text.split()))
    return drawn if len(drawn) <= limit else drawn[: limit - 1].rstrip() + "…"


def percent(share: float) -> str:
    """A probability in whole percent that says 0 % and 100 % only when it is so.

    >>> percent(0.994), percent(0.999), percent(1.0)
    ('99 %', '>99 %', '100 %')
    """
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def sentence_figure(title: str, sentence: str) -> Figure:
    figure = new_figure(title, WIDTH, 1.2)
    figure.text(PAD / WIDTH, 0.35, sentence, fontsize=11, color=INK)
    return finished(figure)


def colour_map(name: str) -> Any:
    import matplotlib

    return matplotlib.colormaps[name]


def fading_colours(negative: str | None, positive: str) -> Any:
    """A colour map from `negative` (when given) over nothing at all to `positive`."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    clear = [to_rgba(positive, 0.0), to_rgba(positive, 0.9)]
    return LinearSegmentedColormap.from_list("heat", [to_rgba(negative, 0.9), *clear] if negative else clear)


def interpolation_of(pixels: Array) -> str:
    """Every pixel a square, unless there are more pixels than the page has."""
    return "nearest" if max(pixels.shape[:2]) <= 256 else "antialiased"


def largest(*arrays: Array) -> float:
    """The largest finite magnitude in the arrays, or 1 where all is zero: the end of a colour scale."""
    return max((float(np.nan_to_num(np.abs(a), nan=0, posinf=0).max()) for a in arrays), default=0.0) or 1.0


def bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=RULE, linewidth=0.8)


def plain_axes(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(labelsize=9, colors=MUTED, labelcolor=INK, length=0)
    axes.set_axisbelow(True)


def whole_number_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def show(axes: Axes, image: Array) -> None:
    """image: uint8 (height, width, 1, 3 or 4); black is 0 and white 255, whatever the image contains."""
    pixels = image[..., 0] if image.shape[2] == 1 else image
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation=interpolation_of(image))
    bare(axes)


def half_width(image: Array) -> float:
    """The height in inches of an image that is half a page wide."""
    height, width = image.shape[:2]
    return float(min(2.0, height / width)) * (WIDTH / 2 - 0.2)


def picture_grid(title: str, images: Array, titles: Sequence[str], columns: int) -> Figure:
    rows = math.ceil(len(images) / columns)
    lines = max(text.count("\n") + 1 for text in titles)
    shape = images.shape[1] / images.shape[2]
    figure = new_figure(title, WIDTH, 0.5 + rows * (min(shape, 2.0) * (WIDTH / columns - 0.15) + 0.1 + 0.17 * lines))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, image, text in zip(panels, images, titles, strict=False):
        show(axes, image)
        axes.set_title(text, fontsize=9 if columns > 3 else 10, color=INK, pad=3)
    for axes in panels[len(images) :]:
        axes.remove()
    return finished(figure)


def colour_bar(figure: Figure, image: ScalarMappable, axes: Any, label: str) -> None:
    width, height = figure.get_size_inches()
    bar = figure.colorbar(image, ax=axes, location="bottom", fraction=0.16 / height, aspect=0.85 * width / 0.13)
    bar.set_label(label, fontsize=9.5, color=INK)
    bar.ax.tick_params(labelsize=9, color=MUTED, labelcolor=INK)
    bar.outline.set_visible(False)


def tile_grid(title: str, tiles: Sequence[Array], caption: str, style: Mapping[str, Any] | None = None) -> Figure:
    """Up to 64 small pictures on one axes, numbered from 0; `style` is their common colour scale."""
    count = min(MAX_TILES, len(tiles))
    columns = 8 if count > 16 else 4
    rows = math.ceil(count / columns)
    height, width = (side / max(tiles[0].shape[:2]) for side in tiles[0].shape[:2])
    gap = 0.035 * columns  # room for the number, the same in inches for 4 and 8 columns
    step_x, step_y = width + gap / 3, height + gap
    shape = (rows * step_y) / (columns * step_x)
    figure = new_figure(title, WIDTH, 1.12 + (WIDTH - 2 * PAD) * shape)
    axes = figure.subplots()
    for i, tile in enumerate(tiles[:count]):
        x, y = (i % columns) * step_x, (i // columns) * step_y
        extent = (x, x + width, y + height, y)
        image = axes.imshow(tile, extent=extent, interpolation=interpolation_of(tile), **(style or {}))
        axes.add_patch(frame(x, y, width, height, RULE, 0.6))
        axes.text(x, y - gap / 7, str(i), ha="left", va="bottom", fontsize=8, color=MUTED)
    axes.set(xlim=(-0.02, columns * step_x - gap / 4), ylim=(rows * step_y - 0.9 * gap, -gap))
    axes.axis("off")
    more = f"\n({len(tiles) - count} more are not shown)" if len(tiles) > count else ""
    if style:
        colour_bar(figure, image, axes, caption + more)
    else:
        figure.supxlabel(caption + more, fontsize=9.5, color=INK)
    return finished(figure)


def frame(
    x: float, y: float, width: float, height: float, colour: str, thickness: float, tint: float = 0.0
) -> Rectangle:
    """A rectangle in data coordinates, filled with its own colour at opacity `tint`."""
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, facecolor=(colour, tint), edgecolor=colour, linewidth=thickness)
