"""What calibration writes into the metadata of a model file, on scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convscope.api.training import calibrate as module
from convscope.api.training.calibrate import Calibrated, calibrate
from convscope.backends.onnx.metadata import ModelMetadata, TemperatureScaling
from convscope.backends.onnx.session import run_session
from convscope.backends.pytorch.models import build_model, get_weights
from convscope.data.load import load_data
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
from convscope.training.recipes import recipe_named
from convscope.training.resolve import TrainData, train_val_split


@pytest.fixture(scope="module")
def data() -> TrainData:
    digits = load_data("digits")
    return TrainData(digits, *train_val_split(digits, recipe_named("default"), seed=0))


def calibrated(data: TrainData, max_error: float | None = None) -> Calibrated:
    """A network trained for three epochs, calibrated."""
    network = parse_network("conv 8 3, relu, maxpool 2, flatten", data.dataset.shape, 10)
    preprocessing = Preprocessing.plain(data.train.images)
    model = build_model(network)
    recipe = recipe_named("default").override(epochs=3)
    result = fit(model, data.train, data.dataset.validation or data.train, TrainConfig(preprocessing, recipe))
    metadata = ModelMetadata(
        classes=data.dataset.classes, preprocessing=preprocessing, architecture=network.architecture
    )
    return calibrate(network, result.weights or get_weights(model), metadata, data, max_error)


def test_calibrate_fits_a_temperature_and_a_limit_on_validation_images(data: TrainData) -> None:
    found = calibrated(data).metadata
    assert found.calibration.temperature != 1
    assert found.rejection.min_probability is None
    assert found.rejection.max_ood_score is not None


def test_calibrate_without_validation_images_stays_uncalibrated(data: TrainData) -> None:
    found = calibrated(replace(data, validation=data.dataset.test), max_error=0.05).metadata
    assert (found.calibration, found.rejection.min_probability) == (TemperatureScaling(), None)
    assert found.rejection.max_ood_score is not None


def test_calibrate_with_few_validation_images_writes_no_limit_for_unlike_images(data: TrainData) -> None:
    found = calibrated(replace(data, validation=data.validation.take(np.arange(19))))
    assert found.metadata.rejection.max_ood_score is None
    assert not any(name.startswith("ood.") for name in found.weights)


@pytest.mark.parametrize(("max_error", "low", "high"), [(0.3, 0.1, 0.9), (1e-6, 1, 1)])
def test_calibrate_max_error_becomes_a_limit_or_certainty(
    data: TrainData, max_error: float, low: float, high: float
) -> None:
    limit = calibrated(data, max_error).metadata.rejection.min_probability
    assert limit is not None
    assert low <= limit <= high


@pytest.mark.parametrize(("cost", "images"), [(None, 1000), (500.5, 500), (10, 300), (5000, 1000)])
def test_calibrate_costly_networks_run_on_fewer_training_images(
    data: TrainData, monkeypatch: pytest.MonkeyPatch, cost: float | None, images: int
) -> None:
    """But on 300 or more; on all validation images in any case."""
    if cost is not None:
        network = parse_network("conv 8 3, relu, maxpool 2, flatten", data.dataset.shape, 10)
        monkeypatch.setattr(module, "MAX_TRAIN_COST", cost * network.multiply_adds)
    counts: list[int] = []

    def counted(session: Any, name: Path, outputs: Sequence[str], batch: Any) -> Any:
        counts.append(len(batch))
        return run_session(session, name, outputs, batch)

    monkeypatch.setattr(module, "run_session", counted)
    calibrated(data)
    assert sum(counts) == images + len(data.validation)
