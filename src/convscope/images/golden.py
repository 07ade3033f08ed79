"""Small synthetic image files that exercise every step of preprocessing, for testing model files."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

ORIENTATION, ROTATED = 274, 6  # EXIF's tag, and its value for an image that has to be turned clockwise
Color = int | tuple[int, ...]


def golden_files(channels: int) -> dict[str, bytes]:
    """Encoded image files by name: none is of a network's size, and each decodes in another way.

    Args:
        channels: Of the network. JPEG is gray for 1, since a color one needs twice the bytes.

    >>> {name: len(file) < 1000 for name, file in golden_files(1).items()}
    {'dark.png': True, 'rotated.jpg': True, 'transparent.png': True, 'deep.png': True}
    """
    paper, ink = ((242,), (38,)) if channels == 1 else ((250, 240, 225), (20, 40, 90))
    rotated = Image.Exif()
    rotated[ORIENTATION] = ROTATED
    turned = _drawing("L" if channels == 1 else "RGB", (12, 16), paper, ink)
    deep = np.asarray(_drawing("L", (14, 14), 20, 230)).astype(np.uint16) * 200
    return {
        "dark.png": _encode(_drawing("L", (20, 15), 0, 255), "PNG"),
        "rotated.jpg": _encode(turned, "JPEG", exif=rotated, quality=30),
        "transparent.png": _encode(_drawing("RGBA", (12, 12), (0, 0, 0, 0), (200, 30, 30, 180)), "PNG"),
        "deep.png": _encode(Image.fromarray(deep), "PNG"),
    }


def _drawing(mode: str, size: tuple[int, int], paper: Color, ink: Color) -> Image.Image:
    """A ring with a stroke at its right side; neither symmetric nor centered."""
    image = Image.new(mode, size, paper)
    draw = ImageDraw.Draw(image)
    width, height = size
    pen = width // 10
    draw.ellipse((width // 5, height // 7, 7 * width // 10, 6 * height // 10), outline=ink, width=pen)
    draw.line((7 * width // 10, height // 5, 6 * width // 10, 9 * height // 10), fill=ink, width=pen)
    return image


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()
