"""Folders of images for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope.images.read import encode_png

Pixels = NDArray[np.uint8]


def noise(seed: int, height: int = 12, width: int = 12, channels: int = 3) -> Pixels:
    """An image of coarse squares in random colors; every seed gives a different one."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 4, channels), np.uint8)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    return coarse[rows][:, columns]


def write_images(folder: Path, images: Mapping[str, Pixels | bytes]) -> Path:
    """Write a PNG of each image, and bytes as they are, into a folder."""
    for name, content in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else encode_png(content))
    return folder


def animals(each: int = 6, start: int = 0) -> dict[str, Pixels | bytes]:
    """Different images of a class cat and a class dog, `each` of both."""
    return {
        f"{name}/{i}.png": noise(start + 1000 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(each)
    }
