"""Folders of pictures for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope.images.read import encode_png

Pixels = NDArray[np.uint8]


def noise(number: int, height: int = 12, width: int = 12, channels: int = 3) -> Pixels:
    """A picture like no other: coarse squares of random colors."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (4, 4, channels), np.uint8)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    return coarse[rows][:, columns]


def write(folder: Path, pictures: Mapping[str, Pixels | bytes]) -> Path:
    """The folder, with a PNG of each picture, and other files as they are."""
    for name, content in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else encode_png(content))
    return folder


def animals(each: int = 6, start: int = 0) -> dict[str, Pixels | bytes]:
    """So many cats and dogs, no two alike."""
    return {
        f"{name}/{i}.png": noise(start + 1000 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(each)
    }
