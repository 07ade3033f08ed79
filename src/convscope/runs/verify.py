"""Verification of a run folder, which may come from anyone, against its manifest."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from convscope._files import sha256
from convscope.backends.onnx.read import read_model_file
from convscope.errors import ModelFileError
from convscope.runs.config import (
    BEST_WEIGHTS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    EVALUATION_FILE,
    INITIAL_WEIGHTS_FILE,
    LAST_WEIGHTS_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    TRAINING_IMAGES_FILE,
    WEIGHTS_FILES,
    FileInfo,
    Manifest,
    RunConfig,
)
from convscope.runs.weights import load_weights

ADVICE = "restore it from a copy, or train again"
USED_FILES = (
    CONFIG_FILE, METRICS_FILE, BEST_WEIGHTS_FILE, LAST_WEIGHTS_FILE, MODEL_FILE, TRAINING_IMAGES_FILE,
)  # fmt: skip


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check that the manifest lists every file that convscope uses, and that all listed files are unchanged.

    `README.md` is its owner's to edit.

    Raises:
        ModelFileError: A file is missing, altered, outside the folder or not listed; the message names it.
    """
    used = (*USED_FILES, EVALUATION_FILE) if manifest.status == "complete" else USED_FILES
    for name in used:
        if name not in manifest.files:
            raise ModelFileError(f"{folder / MANIFEST_FILE} does not list {name}: {ADVICE}")
    for name, expected in manifest.files.items():
        if name != CARD_FILE:
            _verify_file(folder, name, expected)


def verify_contents(folder: Path, config: RunConfig, manifest: Manifest) -> None:
    """Check that config, manifest and model file belong together.

    Raises:
        ModelFileError: They do not, or the model file cannot be used.
    """
    if config.initial_epoch and INITIAL_WEIGHTS_FILE not in manifest.files:
        raise ModelFileError(f"{folder / MANIFEST_FILE} does not list {INITIAL_WEIGHTS_FILE}: {ADVICE}")
    model = read_model_file(folder / MODEL_FILE)
    for name in ("classes", "preprocessing", "architecture", "input_shape"):
        if getattr(model.metadata, name) != getattr(config, name):
            raise ModelFileError(f"{folder}: {CONFIG_FILE} and {MODEL_FILE} contradict each other in {name}: {ADVICE}")
    weights_file = WEIGHTS_FILES[manifest.weights]
    weights = load_weights(folder / weights_file)
    for name, array in model.constants.items():
        if name in weights and (weights[name].dtype != array.dtype or not np.array_equal(weights[name], array)):
            raise ModelFileError(f"{folder}: {weights_file} and {MODEL_FILE} contradict each other in {name}: {ADVICE}")


def _verify_file(folder: Path, name: str, expected: FileInfo) -> None:
    file = folder / name
    parts = PurePosixPath(name)
    if "\0" in name or "\\" in name or parts.is_absolute() or ".." in parts.parts:
        raise ModelFileError(f"{folder / MANIFEST_FILE} lists {name}, which is not a file of the folder: {ADVICE}")
    try:
        if not file.is_file():
            raise ModelFileError(f"{file} is missing: {ADVICE}")
        if not file.resolve().is_relative_to(folder.resolve()):
            raise ModelFileError(f"{file} is a link to a file outside {folder}: replace it by a copy of that file")
        altered = file.stat().st_size != expected.bytes or sha256(file) != expected.sha256
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read ({error.strerror}): {ADVICE}") from error
    if altered:
        raise ModelFileError(f"{file} was altered after training: {ADVICE}")
