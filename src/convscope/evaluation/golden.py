"""Golden inputs: image files with the trained network's answers, by which `convscope verify` tests a model file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import GoldenInput
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import read_image

DECIMALS = 5  # of stored probabilities: a tenth of the difference that `verify` accepts


def golden_inputs(
    files: Mapping[str, bytes],
    preprocessing: Preprocessing,
    predict_logits: Callable[[NDArray[np.uint8]], NDArray[Any]],
    temperature: float = 1.0,
) -> tuple[GoldenInput, ...]:
    """Answer image files as the trained network does.

    Args:
        files: Encoded image files by name.
        preprocessing: Of the network.
        predict_logits: The trained network: uint8 images (n, height, width, channels) to logits (n, classes).
        temperature: The logits are divided by it before softmax.

    Returns:
        One per file, in order; none if the network's logits are not finite, as after a training that diverged.

    Raises:
        DataError: A file cannot be read.
    """
    images = np.stack([preprocessing.transform(read_image(file))[0] for file in files.values()])
    scaled = predict_logits(images).astype(np.float64) / temperature
    if not np.isfinite(scaled).all():
        return ()
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).round(DECIMALS).tolist()
    return tuple(
        GoldenInput(name=name, file=b64encode(file), probabilities=tuple(row))
        for (name, file), row in zip(files.items(), probabilities, strict=True)
    )
