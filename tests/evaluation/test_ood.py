"""The score for images unlike the training images: NumPy against the graph, and what it accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from convscope.backends.onnx.export import to_onnx, to_statistics_onnx
from convscope.backends.onnx.metadata import ModelMetadata, OodStatistics, Rejection
from convscope.backends.pytorch.models import build_model, get_weights
from convscope.evaluation.ood import OodInputs, fit_ood
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.network import Network

MEASURED = {  # and the value whose statistics it has
    "conv 4 3, relu, maxpool 2, conv 8 3, gelu, flatten, dense 600, relu": "relu1",
    "conv 4 3, batchnorm, residual(conv 4 3 pad same, batchnorm, relu), gelu, flatten, dense 600": "gelu1",
    "conv 20 3, relu, flatten, dense 30": "relu1",  # more than 16 channels
}


IMAGES = np.random.default_rng(0).integers(0, 256, (60, 10, 10, 3), np.uint8)


def random_inputs(n: int, seed: int, shift: float = 0) -> OodInputs:
    random = np.random.default_rng(seed)
    mixed = random.normal(0, 1, (n, 6)) @ np.random.default_rng(9).normal(0, 1, (6, 40))
    statistics = mixed + random.normal(0, 0.1, mixed.shape) + shift
    return OodInputs(statistics.astype(np.float32), random.normal(0, 3, (n, 4)).astype(np.float32))


def run(content: bytes, images: NDArray[np.uint8], *outputs: str) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(list(outputs), {"images": images})
    return found


def model(architecture: str, channels: int = 3) -> tuple[Network, dict[str, NDArray[Any]], ModelMetadata]:
    network = parse_network(architecture, (10, 10, channels), 4)
    preprocessing = Preprocessing.standardized(IMAGES[..., :channels])
    metadata = ModelMetadata(classes=tuple("abcd"), preprocessing=preprocessing, architecture=network.architecture)
    return network, get_weights(build_model(network, seed=1).eval()), metadata


def measured(architecture: str, kind: OodStatistics, *outputs: str, channels: int = 3) -> list[NDArray[np.float32]]:
    """The statistics of the images, and other values of the graph."""
    network, weights, metadata = model(architecture, channels)
    rejection = Rejection(ood_statistics=kind)
    content = to_statistics_onnx(network, weights, metadata.model_copy(update={"rejection": rejection}))
    return run(with_outputs(content, *outputs), IMAGES[..., :channels], "ood.statistics", *outputs)


def with_outputs(content: bytes, *names: str) -> bytes:
    graph = onnx.load_from_string(content)
    known = {output.name for output in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return bytes(graph.SerializeToString())


@pytest.mark.parametrize(("architecture", "value"), MEASURED.items())
def test_statistics_of_color_images_are_means_norms_and_textures_of_the_first_activation(
    architecture: str, value: str
) -> None:
    statistics, maps = measured(architecture, "activations", value)

    def norms(maps: NDArray[np.float32]) -> Any:
        return np.sqrt(np.square(maps).sum((2, 3)))

    upper, lower = maps[:, :16, :-1:2], maps[:, :16, 1::2]
    sizes = [norms(maps), norms(lower - upper), norms(np.diff(upper, axis=3))]
    expected = [maps.mean((2, 3)), sizes[0], *(np.log(size + 0.01) for size in sizes)]
    np.testing.assert_allclose(statistics, np.concatenate(expected, 1), rtol=1e-4, atol=1e-5)


PLAIN = [  # channels of the images, architecture, and the values whose means and norms are the statistics
    (1, "conv 4 3, relu, maxpool 2, conv 8 3, gelu, flatten, dense 600, relu", ["relu1", "gelu1"]),
    (1, "conv 100 3, relu, conv 40 3, gelu, flatten", ["relu1"]),  # more than 256 statistics with the next
    (3, "conv 171 3, relu, flatten, dense 99", ["relu1"]),  # more than 512 with textures
    (3, "conv 9 3, relu, globalavg", ["relu1"]),  # with more than one per 256 parameters
    (3, "flatten, dense 6, relu", ["input.subtract"]),  # no feature maps
    (3, "conv 4 10, relu, flatten, dense 900", ["relu1"]),  # maps of one value
]


@pytest.mark.parametrize(("channels", "architecture", "values"), PLAIN)
def test_statistics_of_gray_images_or_small_networks_are_only_means_and_norms(
    channels: int, architecture: str, values: list[str]
) -> None:
    statistics, *maps = measured(architecture, "activations", *values, channels=channels)
    expected = [part for one in maps for part in (one.mean((2, 3)), np.sqrt(np.square(one).sum((2, 3))))]
    np.testing.assert_allclose(statistics, np.concatenate(expected, 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 0])
def test_statistics_of_features_are_features_of_length_one_unless_all_are_zero(scale: float) -> None:
    network, weights, metadata = model("conv 3 3, relu, flatten, dense 60, relu")
    weights = {name: scale * values for name, values in weights.items()}
    kind = metadata.model_copy(update={"rejection": Rejection(ood_statistics="features")})
    content = to_statistics_onnx(network, weights, kind)
    statistics, features = run(with_outputs(content, "features"), IMAGES, "ood.statistics", "features")
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(statistics, features / np.maximum(lengths, 0.01), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(statistics, axis=1), scale, rtol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [*((a, "activations") for a in MEASURED), ("conv 171 3, relu, flatten, dense 99", "features")],
)
def test_ood_score_of_a_model_file_is_mahalanobis_distance_plus_energy(architecture: str, kind: OodStatistics) -> None:
    inputs = OodInputs(*measured(architecture, kind, "logits"))
    train, held_out = (OodInputs(*(values[part] for values in inputs)) for part in (slice(20), slice(20, None)))
    fit = fit_ood(train, held_out, kind)
    network, weights, metadata = model(architecture)
    rejection = Rejection(max_ood_score=fit.max_score, ood_statistics=kind)
    signed = metadata.model_copy(update={"rejection": rejection})
    (found,) = run(to_onnx(network, {**weights, **fit.weights}, signed), IMAGES, "ood_score")

    np.testing.assert_allclose(found[:, 0], scores(fit.weights, inputs), rtol=1e-3, atol=1e-3)
    assert (found[20:, 0] <= fit.max_score + 1e-3).mean() >= 0.95
    assert (fit.weights["ood.energy_scale"] > 0) == (kind == "activations")


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


def test_fit_ood_features_have_a_common_scale() -> None:
    train = random_inputs(500, seed=0)
    assert len(set(fit_ood(train, train, "features").weights["ood.scale"])) == 1
    assert len(set(fit_ood(train, train).weights["ood.scale"])) == 40


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
