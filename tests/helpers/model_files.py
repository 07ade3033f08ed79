"""Model files of tests, and ones that somebody has changed and signed again: what is left to find is the change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from convscope.backends.onnx.export import to_onnx, to_statistics_onnx
from convscope.backends.onnx.graph import Weights
from convscope.backends.onnx.metadata import (
    DIGEST_KEY,
    LOGITS,
    ModelMetadata,
    OodStatistics,
    Rejection,
    TemperatureScaling,
    digest_entry,
)
from convscope.backends.onnx.ood import STATISTICS
from convscope.backends.onnx.session import open_session, run_session
from convscope.backends.pytorch.models import get_weights
from convscope.evaluation.ood import OodInputs, fit_ood
from convscope.images.preprocessing import Preprocessing
from convscope.network.network import Network
from helpers.networks import NetworkCase, random_preprocessing, trained_model

Edit = Callable[[onnx.ModelProto], Any]


def export(
    network: Network,
    weights: Weights,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    calibration: TemperatureScaling | None = None,
) -> bytes:
    """A model file."""
    metadata = ModelMetadata(
        classes=tuple(classes),
        preprocessing=preprocessing,
        architecture=network.architecture,
        calibration=calibration or TemperatureScaling(),
    )
    return to_onnx(network, weights, metadata)


def with_ood_score(case: NetworkCase, images: NDArray[np.uint8], kind: OodStatistics) -> bytes:
    """The model file of a network with random weights, half of whose images are taken for training images."""
    weights, name = get_weights(trained_model(case)), Path("the network")
    metadata = ModelMetadata(
        classes=tuple(f"class {i}" for i in range(case.classes)),
        preprocessing=random_preprocessing(case),
        architecture=case.architecture,
        rejection=Rejection(ood_statistics=kind),
    )
    session = open_session(to_statistics_onnx(case.network, weights, metadata), name)
    halves = (run_session(session, name, (STATISTICS, LOGITS), part) for part in np.array_split(images, 2))
    train, held_out = (OodInputs(*values) for values in halves)
    fit = fit_ood(train, held_out, kind)
    limits = Rejection(max_ood_score=fit.max_score, ood_statistics=kind)
    return to_onnx(case.network, {**weights, **fit.weights}, metadata.model_copy(update={"rejection": limits}))


def edited(content: bytes, edit: Edit) -> bytes:
    """The file after a change to its protobuf message, with the checksum of the changed one."""
    model = onnx.load_from_string(content)
    (digest,) = (entry for entry in model.metadata_props if entry.key == DIGEST_KEY)
    model.metadata_props.remove(digest)
    edit(model)
    changed: bytes = model.SerializeToString()
    return changed + digest_entry(changed)


def with_metadata(content: bytes, text: str) -> bytes:
    """The file with other metadata."""

    def edit(model: onnx.ModelProto) -> None:
        model.metadata_props[0].value = text

    return edited(content, edit)


def float_file(case: NetworkCase, path: Path) -> Path:
    """Write the model file of a network with random weights; its path."""
    names = [f"class {i}" for i in range(case.classes)]
    path.write_bytes(export(case.network, get_weights(trained_model(case)), random_preprocessing(case), names))
    return path
