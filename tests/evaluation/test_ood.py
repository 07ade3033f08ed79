"""The score for images unlike the training images: NumPy against the graph, and what it accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp  # type: ignore[import-untyped]

from convscope.backends.onnx.export import to_onnx, to_statistics_onnx
from convscope.backends.onnx.metadata import ModelMetadata, Rejection
from convscope.backends.onnx.ood import ood_layers, statistics_count
from convscope.backends.pytorch.models import build_model, get_weights
from convscope.evaluation.ood import OodInputs, fit_ood
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network

NETWORKS = [
    "conv 4 3, relu, maxpool 2, conv 8 3, gelu, flatten, dense 6, relu",
    "flatten, dense 6, relu",  # no feature maps: the statistics of the input
    "conv 4 3, batchnorm, relu, residual(conv 4 3 pad same, batchnorm, relu), relu, globalavg",
]


def random_inputs(n: int, seed: int, shift: float = 0) -> OodInputs:
    random = np.random.default_rng(seed)
    mixed = random.normal(0, 1, (n, 6)) @ np.random.default_rng(9).normal(0, 1, (6, 40))
    statistics = mixed + random.normal(0, 0.1, mixed.shape) + shift
    return OodInputs(statistics.astype(np.float32), random.normal(0, 3, (n, 4)).astype(np.float32))


def run(content: bytes, images: NDArray[np.uint8], *outputs: str) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(list(outputs), {"images": images})
    return found


@pytest.mark.parametrize("architecture", NETWORKS)
def test_ood_score_of_a_model_file_is_energy_plus_mahalanobis_distance(architecture: str) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 10, 10, 3), np.uint8)
    network = parse_network(architecture, (10, 10, 3), 4)
    weights = get_weights(build_model(network, seed=1).eval())
    metadata = ModelMetadata(
        classes=tuple("abcd"), preprocessing=Preprocessing.standardized(images), architecture=network.architecture
    )
    inputs = OodInputs(*run(to_statistics_onnx(network, weights, metadata), images, "ood.statistics", "logits"))
    assert inputs.statistics.shape == (60, statistics_count(ood_layers(network)) or 6)
    fit = fit_ood(inputs, inputs)
    signed = metadata.model_copy(update={"rejection": Rejection(max_ood_score=fit.max_score)})
    (scores,) = run(to_onnx(network, {**weights, **fit.weights}, signed), images, "ood_score")

    w = {name: values.astype(np.float64) for name, values in fit.weights.items()}
    z = (inputs.statistics - w["ood.mean"]) * w["ood.scale"]
    distance = (z**2).sum(1) - ((z @ w["ood.components"]) ** 2).sum(1)
    expected = distance - logsumexp(inputs.logits.astype(np.float64), axis=1) * w["ood.energy_scale"] - w["ood.offset"]
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-3, atol=1e-3)
    assert (scores[:, 0] <= fit.max_score + 1e-3).mean() >= 0.95


def test_fit_ood_distance_is_that_of_the_regularized_covariance() -> None:
    train = random_inputs(500, seed=0)
    fit = fit_ood(train, train)
    w = {name: values.astype(np.float64) for name, values in fit.weights.items()}
    x = train.statistics.astype(np.float64)
    standard = (x - x.mean(0)) / x.std(0)
    values, vectors = np.linalg.eigh(standard.T @ standard / len(x))
    ridge, rest = 0.01 * values.mean(), values[:-20].mean()
    variances = np.r_[np.full(20, rest), values[-20:]] + ridge
    expected = (((standard @ vectors) ** 2) / variances).sum(1)
    z = (x - w["ood.mean"]) * w["ood.scale"]
    found = (z**2).sum(1) - ((z @ w["ood.components"]) ** 2).sum(1)
    assert np.corrcoef(found, expected)[0, 1] > 0.995  # components have 16 bits


def test_fit_ood_accepts_95_of_100_new_images_of_the_same_kind_and_no_others() -> None:
    fit = fit_ood(random_inputs(1000, seed=0), random_inputs(400, seed=1))
    assert (scores(fit.weights, random_inputs(5000, seed=2)) <= fit.max_score).mean() == pytest.approx(0.95, abs=0.03)
    assert (scores(fit.weights, random_inputs(1000, seed=3, shift=1)) <= fit.max_score).mean() < 0.01


def test_fit_ood_with_statistics_that_never_vary_is_finite() -> None:
    train = random_inputs(100, seed=0)
    constant = train._replace(statistics=np.zeros_like(train.statistics), logits=np.zeros_like(train.logits))
    fit = fit_ood(constant, constant)
    assert all(np.isfinite(values).all() for values in fit.weights.values())
    assert (scores(fit.weights, constant) <= fit.max_score + 1e-6).all()


def scores(weights: Mapping[str, NDArray[Any]], inputs: OodInputs) -> NDArray[np.float64]:
    z = (inputs.statistics.astype(np.float64) - weights["ood.mean"]) * weights["ood.scale"]
    distance = (z**2).sum(1) - ((z @ weights["ood.components"]) ** 2).sum(1)
    result: NDArray[np.float64] = distance + inputs.energy * weights["ood.energy_scale"] - weights["ood.offset"]
    return result
