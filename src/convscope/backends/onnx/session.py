"""ONNX Runtime sessions. The only module that imports onnxruntime, with its telemetry switched off."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convscope._text import reason_of
from convscope.backends.onnx.metadata import INPUT
from convscope.errors import ModelFileError

# From version 1.29 on, onnxruntime keeps a device id and a database of events in the user's cache unless this is set
# before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

# It moves roundings to 8 bits in front of max pooling, whose integer kernel is ten times as slow as the one for floats.
DISABLED_OPTIMIZERS = ["QDQPropagationTransformer"]
RUNTIME_VERSION: str = onnxruntime.__version__
LOG_FATAL = 4  # errors are raised as exceptions too; do not print them as well
onnxruntime.set_default_logger_severity(LOG_FATAL)


class Session(Protocol):
    """What runs a model."""

    def run(self, outputs: list[str], inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Arrays by the names of outputs, for arrays by the names of inputs."""


def open_session(content: bytes, path: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU for a verified model file.

    Args:
        content: The file; see `backends.onnx.read.read_model_file`.
        path: Where it is, for messages.
        threads: How many compute; by default one per core.

    Raises:
        ModelFileError: Its weights do not fit its layers.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_FATAL
    options.intra_op_num_threads = threads or 0
    # Threads that wait would spin, and take the processor's time from decoding the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED_OPTIMIZERS
        )
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise _unusable(path, error) from error


def run_session(
    session: Session, path: Path, outputs: Sequence[str], images: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Some outputs for a batch of images.

    Args:
        session: See `open_session`.
        path: The model file, for messages.
        outputs: Their names.
        images: uint8 (n, height, width, channels).

    Returns:
        One array per output, float32 (n, ...), all finite.

    Raises:
        ModelFileError: The weights do not fit the layers, or are so large that the output is not finite.
    """
    try:
        values = session.run(list(outputs), {INPUT: images})
    except ModelFileError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise _unusable(path, error) from error
    if not all(np.isfinite(array).all() for array in values):
        raise ModelFileError(
            f"{path} computes values that are not finite, as after a training that diverged: train again"
        )
    return [np.asarray(array) for array in values]


def _unusable(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{path} cannot be run by onnxruntime ({reason_of(error)}): restore it from a copy, or train again"
    )
