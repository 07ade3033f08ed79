"""What is on a canvas."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.text import Text

from convscope.report.canvas import Canvas


def texts(canvas: Canvas) -> list[str]:
    return [text.get_text() for text in canvas.figure.findobj(Text) if isinstance(text, Text)]


def own_texts(canvas: Canvas) -> list[str]:
    """The texts outside the axes, the title first."""
    return [text.get_text() for text in canvas.figure.texts]


def panels(canvas: Canvas) -> list[Any]:
    return list(canvas.figure.axes)


def images_of(canvas: Canvas, height: int, width: int) -> list[np.ndarray[Any, Any]]:
    """The images on the canvas, sampled at the centers of their height x width pixels: uint8 RGB."""
    found = []
    for image, _ in canvas.images:
        pixels = np.asarray(image)[1:-1, 1:-1]  # without its frame
        rows = (np.arange(height) + 0.5) * pixels.shape[0] / height
        columns = (np.arange(width) + 0.5) * pixels.shape[1] / width
        found.append(pixels[rows.astype(int)[:, None], columns.astype(int)])
    return found


def gray(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8 (h, w, 1, 3 or 4), opaque, as RGB."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]
