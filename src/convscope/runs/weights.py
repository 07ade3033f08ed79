"""Reading the weights files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from convscope._files import open_regular
from convscope.errors import DataError, ModelFileError


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
