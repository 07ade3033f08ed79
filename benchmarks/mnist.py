"""MNIST from its IDX files with NumPy alone, so that every peer environment reads the same bytes."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (n, 28, 28, 1) and labels uint8 (n,) of "train" or "t10k", from $CONVSCOPE_DATA/mnist."""
    if "CONVSCOPE_DATA" not in os.environ:
        raise SystemExit("set CONVSCOPE_DATA to a folder that contains mnist/ with its four IDX files")
    folder = Path(os.environ["CONVSCOPE_DATA"], "mnist")
    images = _bytes(folder / f"{part}-images-idx3-ubyte.gz", header=16)
    labels = _bytes(folder / f"{part}-labels-idx1-ubyte.gz", header=8)
    return images.reshape(-1, 28, 28, 1), labels


def _bytes(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def prepared(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images float32 (n, 28, 28, 1) in 0..1 and one-hot labels float32 (n, 10), as the article does."""
    images, labels = load(part)
    return images.astype(np.float32) / np.float32(255), np.eye(10, dtype=np.float32)[labels]
