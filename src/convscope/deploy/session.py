"""ONNX Runtime sessions. The only module that imports onnxruntime, with its telemetry switched off."""

from __future__ import annotations

import os
from pathlib import Path

from convscope.errors import ModelFileError

# From version 1.29 on, onnxruntime keeps a device id and a database of events in the user's cache unless this is set
# before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """A session on the CPU for a model file.

    Raises:
        ModelFileError: The file is not a readable ONNX file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as exceptions too; do not print them as well
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise ModelFileError(f"{path} is not a readable ONNX file: restore it from a copy, or train again") from error
