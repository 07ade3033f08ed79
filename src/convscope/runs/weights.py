"""The safetensors files of a run: weights, and hashes of the training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from convscope._files import open_regular
from convscope.errors import DataError, ModelFileError

HASHES = "blake2b"  # name of the array


def load_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a safetensors file, by name.

    Raises:
        ModelFileError: The file is damaged, or contains numbers that are not finite.
    """
    try:
        with open_regular(path) as file:
            weights = load(file.read())
    except (OSError, DataError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"{path} is not a readable weights file: restore it from a copy, or train again"
        ) from error
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ModelFileError(f"{path}: the weights {name!r} are not all finite numbers: train again")
    return weights


def save_hashes(hashes: NDArray[np.uint64]) -> bytes:
    """The content of a file of hashes, uint64 (n,), which are sorted: it does not tell the order of the images."""
    return save({HASHES: np.unique(hashes)})


def load_hashes(path: Path) -> NDArray[np.uint64]:
    """Read a file of `save_hashes`.

    Raises:
        ModelFileError: The file is damaged.
    """
    hashes = load_weights(path).get(HASHES)
    if hashes is None or hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise ModelFileError(f"{path} has no {HASHES!r} of images: restore it from a copy, or train again")
    return hashes
