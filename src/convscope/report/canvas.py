"""A canvas for figures: a matplotlib figure for texts and axes, with small images pasted on it pixel by pixel.

Positions and sizes are inches, measured from the upper left corner. Colors: Okabe and Ito, "Color Universal Design"
(2008).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

WIDTH = 5.6  # inches; 1,008 pixels
DPI = 180
MARGIN = 0.1  # inches on every side
TITLE_HEIGHT = 0.45  # inches
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, MUTED, RULE, PALE = "#1f2933", "#52606d", "#cbd2d9", "#e4e7eb"
logging.getLogger("matplotlib").setLevel(
    logging.ERROR
)  # its caches may be impossible to write: figures do not need them

# Tried in this order for characters that matplotlib's own font lacks.
FALLBACK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "PingFang SC", "Malgun Gothic", "Arial")


class Box(NamedTuple):
    """A rectangle on a canvas, in inches from its upper left corner."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Canvas:
    """A matplotlib figure with a title, and images with their positions in pixels."""

    figure: Figure
    images: list[tuple[Image.Image, tuple[int, int]]] = field(default_factory=list)

    @classmethod
    def create(cls, title: str, width: float, height: float) -> Canvas:
        """An empty canvas with a title; width and height in inches."""
        from matplotlib.figure import Figure

        canvas = cls(Figure(figsize=(width, math.ceil(height * DPI) / DPI), dpi=DPI, facecolor="white"))
        canvas.text(MARGIN, 0.22, short_label(title, int(width * 11)), 12, fontweight="bold")
        return canvas

    @property
    def width(self) -> float:
        """Inches."""
        return float(self.figure.get_figwidth())

    @property
    def height(self) -> float:
        """Inches."""
        return float(self.figure.get_figheight())

    def axes(self, box: Box, **options: Any) -> Axes:
        """Add axes in a box; their ticks and labels are outside it."""
        left, bottom = box.left / self.width, 1 - (box.top + box.height) / self.height
        return self.figure.add_axes((left, bottom, box.width / self.width, box.height / self.height), **options)

    def text(self, left: float, baseline: float, text: str, size: float, align: str = "left", **style: Any) -> None:
        """Add a text whose last line stands on `baseline`; `left` is the position that `align` refers to."""
        x, y = left / self.width, 1 - baseline / self.height
        self.figure.text(x, y, text, fontsize=size, ha=align, linespacing=1.3, **text_style(), **style)

    def image(self, pixels: Array, box: Box, frame: str = RULE) -> None:
        """Stretch an image over a box, in a thin frame.

        Each pixel becomes a rectangle. An image with more pixels than the box is averaged.

        Args:
            pixels: uint8 (h, w, 1, 3 or 4).
            box: Where to.
            frame: Its color.
        """
        columns, rows = (max(1, round(side * DPI)) for side in (box.width, box.height))
        large = pixels.shape[0] > rows or pixels.shape[1] > columns
        image = _to_image(pixels).resize((columns, rows), Image.Resampling.BOX if large else Image.Resampling.NEAREST)
        framed = Image.new("RGB", (columns + 2, rows + 2), frame)
        framed.paste("white", (1, 1, columns + 1, rows + 1))
        framed.paste(image, (1, 1), image if image.mode == "RGBA" else None)
        self.images.append((framed, (round(box.left * DPI) - 1, round(box.top * DPI) - 1)))

    def png(self) -> bytes:
        """The canvas as a PNG file without date and version: equal canvases give equal bytes."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        agg: Any = FigureCanvasAgg(self.figure)
        agg.draw()
        size = agg.get_width_height()
        result = Image.frombuffer("RGBA", size, agg.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
        for image, position in self.images:
            result.paste(image, position)
        buffer = BytesIO()
        result.save(buffer, "PNG", compress_level=4)
        return buffer.getvalue()


def text_canvas(title: str, sentence: str) -> Canvas:
    """A canvas with one sentence."""
    canvas = Canvas.create(title, WIDTH, 0.85)
    canvas.text(MARGIN, 0.6, sentence, 11)
    return canvas


def text_style(color: str = INK) -> dict[str, Any]:
    """Options for texts: `$` does not start a formula, and there are fonts for scripts that the first font lacks."""
    return {"color": color, "parse_math": False, "fontfamily": _fonts()}


def text_width(texts: Sequence[str], size: float) -> float:
    """Width in inches of the longest text."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer: Any = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]
    font = FontProperties(family=_fonts(), size=size)
    return max(float(renderer.get_text_width_height_descent(text, font, False)[0]) for text in texts) / DPI


def short_label(text: str, limit: int) -> str:
    """The text on one line of at most `limit` characters, with a box for each character that no font has."""
    label = "".join(c if ord(c) in _characters() else "□" for c in " ".join(text.split()))
    return label if len(label) <= limit else label[: limit - 1].rstrip() + "…"


def overlay(lower: Array, upper: Array) -> Array:
    """Lay translucent pixels over others, both stretched to the larger size: uint8 (h, w, 4).

    Args:
        lower: uint8 (h, w, 1, 3 or 4).
        upper: uint8 (h, w, 4).
    """
    size = (max(lower.shape[1], upper.shape[1]), max(lower.shape[0], upper.shape[0]))
    layers = [_to_image(pixels).convert("RGBA").resize(size, Image.Resampling.NEAREST) for pixels in (lower, upper)]
    return np.asarray(Image.alpha_composite(*layers))


def _to_image(pixels: Array) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


@lru_cache(maxsize=1)
def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    """The code points that at least one of the fonts has."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset().union(*(get_font(findfont(name)).get_charmap() for name in _fonts()))
