"""What the pictures in plots.py are made of: one style, fonts, pixels, grids and color bars.

Small pictures are pasted as pixels at places of the page, given in inches from its upper left corner; matplotlib
draws the texts and the axes. Colors: Okabe and Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

Array = npt.NDArray[Any]

WIDTH = 5.6  # inches; 1,008 pixels
DPI = 180
PAD = 0.1  # inches around everything
TITLE, BAR = 0.45, 0.72  # inches at the top for the title, and at the bottom for a color bar
LINE = 0.17  # inches for a line of text over a picture
MAX_TILES = 64
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, MUTED, RULE, PALE = "#1f2933", "#52606d", "#cbd2d9", "#e4e7eb"
# Tried in this order for class names in scripts that matplotlib's own font lacks.
FALLBACK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "PingFang SC", "Malgun Gothic", "Arial")


@dataclass(frozen=True, eq=False)
class Page:
    """A matplotlib figure with its title, and small pictures that are laid upon it, each with its place in pixels.

    Places and sizes are inches, counted from the upper left corner.
    """

    figure: Figure
    pasted: list[tuple[Image.Image, tuple[int, int]]] = field(default_factory=list)

    @classmethod
    def new(cls, title: str, width: float, height: float) -> Page:
        from matplotlib.figure import Figure

        page = cls(Figure(figsize=(width, math.ceil(height * DPI) / DPI), dpi=DPI, facecolor="white"))
        page.write(PAD, 0.22, short_label(title, int(width * 11)), 12, fontweight="bold")
        return page

    @property
    def width(self) -> float:
        return float(self.figure.get_figwidth())

    @property
    def height(self) -> float:
        return float(self.figure.get_figheight())

    def axes(self, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
        """Axes at a place; their ticks and labels lie outside it."""
        share = left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height
        return self.figure.add_axes(share, **options)

    def write(self, left: float, line: float, text: str, size: float, align: str = "left", **style: Any) -> None:
        """A text whose last line stands on `line`."""
        x, y = left / self.width, 1 - line / self.height
        self.figure.text(x, y, text, fontsize=size, ha=align, linespacing=1.3, **lettering(), **style)

    def paste(self, pixels: Array, left: float, top: float, width: float, height: float, line: str = RULE) -> None:
        """Pixels, uint8 (h, w, 1, 3 or 4), stretched over a place, in a thin frame; 0 is black.

        Each is a rectangle, unless there are more than the page has: these are averaged.
        """
        columns, rows = (max(1, round(side * DPI)) for side in (width, height))
        fine = pixels.shape[0] > rows or pixels.shape[1] > columns
        image = _image(pixels).resize((columns, rows), Image.Resampling.BOX if fine else Image.Resampling.NEAREST)
        framed = Image.new("RGB", (columns + 2, rows + 2), line)
        framed.paste("white", (1, 1, columns + 1, rows + 1))
        framed.paste(image, (1, 1), image if image.mode == "RGBA" else None)
        self.pasted.append((framed, (round(left * DPI) - 1, round(top * DPI) - 1)))

    def png(self) -> bytes:
        """The page as PNG bytes: the same page gives the same bytes, with no date and no version inside."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas: Any = FigureCanvasAgg(self.figure)
        canvas.draw()
        size = canvas.get_width_height()
        image = Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
        for picture, place in self.pasted:
            image.paste(picture, place)
        buffer = BytesIO()
        image.save(buffer, "PNG", compress_level=4)
        return buffer.getvalue()


def lettering(color: str = INK) -> dict[str, Any]:
    """How texts are written: `$` is a `$` and no mathematics, with fonts for scripts that the first font lacks."""
    return {"color": color, "parse_math": False, "fontfamily": _fonts()}


def widest(texts: Sequence[str], size: float) -> float:
    """The width in inches of the longest of the texts."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer: Any = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]
    font = FontProperties(family=_fonts(), size=size)
    return max(float(renderer.get_text_width_height_descent(text, font, False)[0]) for text in texts) / DPI


def overlaid(under: Array, over: Array) -> Array:
    """Pixels with half transparent ones, uint8 (h, w, 4), of any size, stretched over them: uint8 (..., 4)."""
    size = (max(under.shape[1], over.shape[1]), max(under.shape[0], over.shape[0]))
    layers = [_image(pixels).convert("RGBA").resize(size, Image.Resampling.NEAREST) for pixels in (under, over)]
    return np.asarray(Image.alpha_composite(*layers))


def _image(pixels: Array) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


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


def sentence_page(title: str, sentence: str) -> Page:
    page = Page.new(title, WIDTH, 0.85)
    page.write(PAD, 0.6, sentence, 11)
    return page


def color_map(name: str) -> Colormap:
    import matplotlib

    return matplotlib.colormaps[name]


def fading_colors(negative: str | None, positive: str) -> Colormap:
    """A color map from `negative` (when given) over nothing at all to `positive`."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    clear = [to_rgba(positive, 0.0), to_rgba(positive, 0.9)]
    return LinearSegmentedColormap.from_list("heat", [to_rgba(negative, 0.9), *clear] if negative else clear)


@dataclass(frozen=True)
class Scale:
    """What color stands for which value."""

    colors: Colormap
    low: float
    high: float

    def paint(self, values: Array) -> Array:
        """Values of any shape -> their colors, uint8 (..., 4); nothing is painted where there is no number."""
        share = (np.ma.masked_invalid(values) - self.low) / (self.high - self.low)
        painted: Array = self.colors(share, bytes=True)
        return painted


def signed_scale(limit: float) -> Scale:
    """Blue is negative, white zero and red positive."""
    return Scale(color_map("RdBu_r"), -limit, limit)


def largest(*arrays: Array) -> float:
    """The largest finite magnitude in the arrays, or 1 where all is zero: the end of a color scale."""
    return max((float(np.nan_to_num(np.abs(a), nan=0, posinf=0).max()) for a in arrays), default=0.0) or 1.0


def bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=RULE, linewidth=0.8)


def number(axes: Axes, x: float, y: float, text: str, size: float, color: str = INK) -> None:
    """A short text in the middle of a cell."""
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=color)


def plain_axes(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(labelsize=9, colors=MUTED, labelcolor=INK, length=0)
    axes.set_axisbelow(True)


def whole_number_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def picture_grid(
    title: str, pictures: Sequence[Array], titles: Sequence[str], columns: int, below: float = 0.0
) -> Page:
    """Pictures of one shape, each under its title, with `below` inches left free at the lower edge."""
    rows = math.ceil(len(pictures) / columns)
    lines = max(text.count("\n") + 1 for text in titles)
    gap, over = 0.15, LINE * lines + 0.03
    width = (WIDTH - 2 * PAD - gap * (columns - 1)) / columns
    height = width * min(2.0, pictures[0].shape[0] / pictures[0].shape[1])
    page = Page.new(title, WIDTH, TITLE + rows * (over + height + gap) + max(below, PAD) - gap / 2)
    for i, (picture, text) in enumerate(zip(pictures, titles, strict=True)):
        left, top = PAD + i % columns * (width + gap), TITLE + i // columns * (over + height + gap)
        page.write(left + width / 2, top + over - 0.07, text, 9 if columns > 3 else 10, "center")
        page.paste(picture, left, top + over, width, height)
    return page


def tile_grid(title: str, tiles: Array, caption: str, scale: Scale | None = None) -> Page:
    """Up to 64 small pictures, numbered from 0: uint8 (n, h, w, 3), or of any values (n, h, w) with their scale."""
    count = min(MAX_TILES, len(tiles))
    columns = 8 if count > 16 else 4
    rows = math.ceil(count / columns)
    gap = 0.06
    width = (WIDTH - 2 * PAD - gap * (columns - 1)) / columns
    height = width * min(2.0, tiles.shape[1] / tiles.shape[2])
    if len(tiles) > count:
        caption += f"\n({len(tiles) - count} more are not shown)"
    below = (BAR if scale else 0.35) + LINE * caption.count("\n")
    page = Page.new(title, WIDTH, TITLE + rows * (LINE + height + gap) + below)
    for i, tile in enumerate(scale.paint(tiles[:count]) if scale else tiles[:count]):
        left, top = PAD + i % columns * (width + gap), TITLE + i // columns * (LINE + height + gap)
        page.write(left, top + LINE - 0.04, str(i), 8)
        page.paste(tile, left, top + LINE, width, height)
    if scale:
        color_bar(page, scale, caption)
    else:
        page.write(WIDTH / 2, page.height - 0.14, caption, 9.5, "center")
    return page


def color_bar(page: Page, scale: Scale, label: str) -> None:
    """What the colors mean, at the lower edge of the page."""
    from matplotlib.ticker import MaxNLocator

    top = page.height - BAR - LINE * label.count("\n") + 0.08
    left, width, height = 3 * PAD, page.width - 6 * PAD, 0.13
    ramp = np.linspace(scale.low, scale.high, 256)
    page.paste(scale.paint(ramp[None]), left, top, width, height)
    for value in MaxNLocator(9, steps=[1, 2, 5, 10]).tick_values(scale.low, scale.high):
        share = (value - scale.low) / (scale.high - scale.low)
        if -1e-6 < share < 1 + 1e-6:
            page.paste(np.zeros((1, 1, 1), np.uint8), left + share * width, top + height, 0, 0.03, MUTED)
            page.write(left + share * width, top + height + 0.18, f"{value:g}".replace("-", "−"), 9, "center")
    page.write(page.width / 2, page.height - 0.12, label, 9.5, "center")


def frame(
    x: float, y: float, width: float, height: float, color: str, thickness: float, tint: float = 0.0
) -> Rectangle:
    """A rectangle in data coordinates, filled with its own color at opacity `tint`."""
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, facecolor=(color, tint), edgecolor=color, linewidth=thickness)
