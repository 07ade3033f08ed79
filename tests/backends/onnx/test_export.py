"""Model files run by ONNX Runtime against the PyTorch model."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from convscope import reference
from convscope.backends.onnx.metadata import ModelMetadata, TemperatureScaling
from convscope.backends.pytorch.models import as_batch, get_weights
from convscope.images.preprocessing import Preprocessing
from convscope.network.activations import ACTIVATIONS
from convscope.network.backbones import BACKBONES
from convscope.network.build import parse_network
from convscope.network.layers.elementwise import Dropout
from helpers.model_files import export
from helpers.networks import (
    ALL_CASES,
    PADDED_POOL_CASES,
    PRESET_CASES,
    NetworkCase,
    many_examples,
    module_records,
    network_cases,
    random_images,
    random_preprocessing,
    trained_model,
)

Floats = NDArray[np.float32]
ASYMMETRIC = NetworkCase("conv 2 4 pad same, batchnorm, dropout 0.5, flatten", (3, 3, 3), 2)
CASES = [*ALL_CASES.values(), ASYMMETRIC]


def model_file(case: NetworkCase, seed: int = 0) -> bytes:
    names = [f"class {i}" for i in range(case.classes)]
    return export(case.network, get_weights(trained_model(case, seed)), random_preprocessing(case, seed), names)


def run_onnx(content: bytes, images: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Logits and probabilities."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"images": images})
    return logits, probabilities


def assert_equals_torch(case: NetworkCase, seed: int) -> None:
    """The tolerance is 1e-4 of the largest logit, at least of 1: float32 sums are in another order."""
    content, images = model_file(case, seed), random_images(case, 3, seed)
    with torch.inference_mode():
        expected = trained_model(case, seed)(as_batch(random_preprocessing(case, seed).normalize(images)))
    logits, probabilities = run_onnx(content, images)
    assert logits.dtype == probabilities.dtype == np.float32
    scale = max(1.0, expected.abs().max().item())
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(probabilities, expected.softmax(1).numpy(), rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_export_activation_from_minus_8_to_8_equals_numpy(kind: str) -> None:
    """The values of small random networks are too small for ReLU6 to cut them off."""
    case = NetworkCase(f"{kind}, flatten", (16, 16, 1), 3)
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    preprocessing = Preprocessing.plain(images).model_copy(update={"scale": (1 / 16,), "mean": (8.0,)})
    content = export(case.network, get_weights(trained_model(case)), preprocessing, ["a", "b", "c"])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {"images": images})
    expected = ACTIVATIONS[kind].forward(preprocessing.normalize(images))
    np.testing.assert_allclose(features, expected.reshape(1, 256), rtol=0, atol=1e-5)


@pytest.mark.slow
@many_examples
@given(network_cases(), st.integers(0, 99))
def test_export_any_network_equals_torch(case: NetworkCase, seed: int) -> None:
    assert_equals_torch(case, seed)


@pytest.mark.parametrize("name", ALL_CASES)
def test_export_every_layer_and_preset_equals_torch(name: str) -> None:
    assert_equals_torch(ALL_CASES[name], seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_export_backbone_equals_torch(name: str) -> None:
    assert_equals_torch(NetworkCase(BACKBONES[name].architecture, (65, 65, 3), 5), seed=1)


@pytest.mark.parametrize("case", PADDED_POOL_CASES, ids=lambda case: case.architecture)
def test_export_padded_pool_equals_torch(case: NetworkCase) -> None:
    assert_equals_torch(case, seed=1)


@pytest.mark.parametrize("case", CASES)
def test_export_is_valid_and_names_values_after_layers(case: NetworkCase) -> None:
    model = onnx.load_from_string(model_file(case))
    onnx.checker.check_model(model, full_check=True)
    names = [node.output[0] for node in model.graph.node]
    assert len(set(names)) == len(names)
    expected = {name for name, layer in module_records(case.network.layers) if not isinstance(layer, Dropout)}
    parts = {
        "transpose",
        "mean",
        "max",
        "negate",
        "pool",
        "gate",
        "factors",
    }  # suffixes of layers with more than one node
    assert {name for name in names if name.split(".")[-1] not in parts and not name.startswith("input.")} == (
        expected | {"features", "logits", "calibrate", "probabilities"}
    )
    assert [name for name in names if name.startswith("input.")] == [
        "input.transpose", "input.cast", "input.multiply", "input.subtract",
    ]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_export_constants_are_the_weights_under_their_names(case: NetworkCase) -> None:
    model = onnx.load_from_string(model_file(case))
    found = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    assert found.pop("input.scale")[:, 0, 0] == pytest.approx(random_preprocessing(case).scale)
    assert found.pop("input.mean")[:, 0, 0] == pytest.approx(random_preprocessing(case).mean)
    assert found.pop("calibrate.scale").tolist() == [1.0]
    assert found.pop("squeeze.axes", np.array([2, 3])).tolist() == [2, 3]
    for kind, function in ACTIVATIONS.items():
        for name, number in function.onnx_constants.items():
            assert found.pop(f"{kind}.{name}", number) == number
    weights = get_weights(trained_model(case))
    assert found.keys() == {name for name in weights if not name.endswith("num_batches_tracked")}
    for name, values in found.items():
        np.testing.assert_array_equal(values, weights[name])


def test_export_metadata_and_interface() -> None:
    case = NetworkCase("conv 2 3, relu, flatten", (5, 6, 3), 2)
    model = onnx.load_from_string(model_file(case))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties.keys() == {"convscope", "convscope.sha256"}
    assert properties["convscope.sha256"] == hashlib.sha256(model_file(case)[:-86]).hexdigest()
    assert json.loads(properties["convscope"]) == {
        "format": 1,
        "task": "single-label",
        "classes": ["class 0", "class 1"],
        "preprocessing": random_preprocessing(case).model_dump(mode="json"),
        "architecture": case.architecture,
        "precision": "float32",
        "calibration": {"temperature": 1.0, "exponent": 1.0},
        "rejection": {"min_probability": None, "max_ood_score": None, "ood_statistics": "activations"},
        "training": None,
        "test": None,
        "golden": [],
    }
    assert ModelMetadata.model_validate_json(properties["convscope"]).preprocessing == random_preprocessing(case)
    assert (model.producer_name, model.ir_version) == ("convscope", 9)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert [shape_of(value) for value in (*model.graph.input, *model.graph.output)] == [
        ("images", onnx.TensorProto.UINT8, ["n", 5, 6, 3]),
        ("features", onnx.TensorProto.FLOAT, ["n", 24]),
        ("logits", onnx.TensorProto.FLOAT, ["n", 2]),
        ("probabilities", onnx.TensorProto.FLOAT, ["n", 2]),
    ]


def shape_of(value: onnx.ValueInfoProto) -> tuple[str, int, list[Any]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [side.dim_param or side.dim_value for side in tensor.shape.dim]


@pytest.mark.parametrize("name", PRESET_CASES)
def test_export_equal_arguments_give_equal_bytes(name: str) -> None:
    one = model_file(PRESET_CASES[name], seed=1)
    assert model_file(PRESET_CASES[name], seed=1) == one
    assert model_file(PRESET_CASES[name], seed=2) != one


def export_output(architecture: str, pixels: NDArray[np.uint8]) -> Floats:
    """The input of the classifier (n, units) in an exported network without preprocessing."""
    _, height, width, channels = pixels.shape
    units = parse_network(architecture, pixels.shape[1:], 2).layers[-3].output_shape[0]
    network = parse_network(architecture, pixels.shape[1:], units)
    plain = Preprocessing.model_validate(
        {"height": height, "width": width, "channels": channels, "fill": [0] * channels, "polarity": "mixed",
         "scale": [1.0] * channels, "mean": [0.0] * channels}
    )  # fmt: skip
    names = [str(i) for i in range(units)]
    identity = {"classifier.weight": np.eye(units, dtype=np.float32), "classifier.bias": np.zeros(units, np.float32)}
    return run_onnx(export(network, identity | KERNEL, plain, names), pixels)[0]


def matrix(text: str) -> NDArray[np.uint8]:
    """Rows of digits as one gray image (1, height, width, 1)."""
    return np.array([list(row) for row in text.split("/")]).astype(np.uint8)[None, :, :, None]


KERNEL = {
    "conv1.weight": matrix("101/010/110")[:, None, :, :, 0].astype(np.float32),
    "conv1.bias": np.zeros(1, np.float32),
}


def test_a3_exported_conv_matrix_of_the_article() -> None:
    made = export_output("conv 1 3, flatten", matrix("11011/10101/11110/00110/11000"))
    assert made.tolist() == [[3, 5, 3, 3, 2, 5, 4, 4, 2]]


@pytest.mark.parametrize(
    ("layer", "expected"), [("maxpool", [5, 6, 4, 5]), ("minpool", [2, 1, 1, 2]), ("avgpool", [3, 4, 3, 4])]
)
def test_a5_exported_pool_matrix_of_the_article(layer: str, expected: list[int]) -> None:
    assert export_output(f"{layer} 2, flatten", matrix("3541/2256/4425/1354")).tolist() == [expected]


def test_a7_exported_flatten_order_is_row_column_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    np.testing.assert_array_equal(export_output("flatten", pixels), reference.flatten(pixels.astype(np.float32)))


def test_exported_globalmax_equals_numpy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 3), np.uint8)
    np.testing.assert_array_equal(export_output("globalmax", pixels), pixels.max((1, 2)))


def test_a4_exported_relu_sets_negative_values_to_0() -> None:
    case = NetworkCase("relu, flatten", (1, 3, 1), 3)
    weights = {"classifier.weight": np.eye(3, dtype=np.float32), "classifier.bias": np.zeros(3, np.float32)}
    shifted = random_preprocessing(case).model_copy(update={"scale": (1.0,), "mean": (2.0,)})
    pixels = np.array([0, 2, 5], np.uint8).reshape(1, 1, 3, 1)
    logits, _ = run_onnx(export(case.network, weights, shifted, "abc"), pixels)
    assert logits.tolist() == [[0, 0, 3]]


def test_a9_exported_softmax_large_logits_sums_to_1() -> None:
    case = NetworkCase("flatten", (1, 1, 3), 3)
    weights = {"classifier.weight": 100 * np.eye(3, dtype=np.float32), "classifier.bias": np.zeros(3, np.float32)}
    content = export(case.network, weights, random_preprocessing(case), "abc")
    pixels = random_images(case, 50)
    logits, probabilities = run_onnx(content, pixels)
    assert np.ptp(logits, axis=1).max() > 100
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(probabilities, reference.softmax(logits), rtol=0, atol=1e-6)


def test_exported_features_are_the_input_of_the_classifier() -> None:
    case = NetworkCase("conv 2 3, relu, globalavg, dense 5, tanh", (6, 5, 3), 4)
    weights, images = get_weights(trained_model(case)), random_images(case, 7)
    session = onnxruntime.InferenceSession(model_file(case), providers=["CPUExecutionProvider"])
    features, logits = session.run(["features", "logits"], {"images": images})
    assert features.shape == (7, 5)
    expected = features @ weights["classifier.weight"].T + weights["classifier.bias"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("exponent", [1, 0.8, 1.3])
def test_exported_probabilities_are_the_softmax_of_calibrated_logits(exponent: float) -> None:
    case = NetworkCase("flatten", (2, 3, 1), 4)
    weights = get_weights(trained_model(case))
    calibration = TemperatureScaling(temperature=2.5, exponent=exponent)
    content = export(case.network, weights, random_preprocessing(case), "abcd", calibration)
    logits, probabilities = run_onnx(content, random_images(case, 20))
    largest = logits.max(1, keepdims=True)
    expected = reference.softmax(-((largest - logits) ** exponent) / 2.5)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)
    assert (probabilities.argmax(1) == logits.argmax(1)).all()


def test_a11_exported_preprocessing_divides_by_255() -> None:
    case = NetworkCase("flatten", (1, 2, 1), 2)
    plain = Preprocessing.plain(np.array([[[[0], [255]]]], np.uint8))
    weights = {"classifier.weight": np.eye(2, dtype=np.float32), "classifier.bias": np.zeros(2, np.float32)}
    logits, _ = run_onnx(export(case.network, weights, plain, "ab"), np.array([[[[255], [51]]]], np.uint8))
    np.testing.assert_allclose(logits, [[1, 0.2]], rtol=1e-6)
