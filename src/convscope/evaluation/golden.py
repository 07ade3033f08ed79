"""Golden inputs: image files with the trained network's answers, by which `convscope verify` tests a model file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import GoldenInput, TemperatureScaling
from convscope.errors import DataError
from convscope.evaluation.calibration import UNCALIBRATED, softmax
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import read_image

DECIMALS = 5  # of stored probabilities: a tenth of the difference that `verify` accepts


def golden_inputs(
    files: Mapping[str, bytes],
    preprocessing: Preprocessing,
    predict_logits: Callable[[NDArray[np.uint8]], NDArray[Any]],
    calibration: TemperatureScaling = UNCALIBRATED,
) -> tuple[GoldenInput, ...]:
    """Answer image files as the trained network does.

    Args:
        files: Encoded image files by name.
        preprocessing: Of the network.
        predict_logits: The trained network: uint8 images (n, height, width, channels) to logits (n, classes).
        calibration: Of the model file.

    Returns:
        One per file, in order; none if the network's logits are not finite, as after a training that diverged.

    Raises:
        DataError: A file cannot be read; the message names it.
    """
    images = np.stack([_read(name, file, preprocessing) for name, file in files.items()])
    logits = predict_logits(images)
    if not np.isfinite(logits).all():
        return ()
    probabilities = softmax(logits, calibration).round(DECIMALS).tolist()
    return tuple(
        GoldenInput(name=name, file=b64encode(file), probabilities=tuple(row))
        for (name, file), row in zip(files.items(), probabilities, strict=True)
    )


def _read(name: str, file: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    try:
        return preprocessing.transform(read_image(file))[0]
    except DataError as error:
        raise DataError(f"{name}: {str(error).removeprefix('image: ')}") from error
