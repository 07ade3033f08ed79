"""The model file against the torch model it was written from, operation by operation and as a whole."""

from __future__ import annotations

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
from convscope.backends.onnx.export import to_onnx
from convscope.backends.onnx.metadata import Metadata
from convscope.backends.pytorch.models import as_batch, get_weights
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.layers import Dropout
from helpers.lines import ALL_PRESETS, Line, lines, many, modules_of, noise, record, trained

Floats = NDArray[np.float32]


def model_file(line: Line, seed: int = 0) -> bytes:
    names = [f"class {i}" for i in range(line.classes)]
    return to_onnx(line.network, get_weights(trained(line, seed)), record(line, seed), names)


def answers(content: bytes, images: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Logits and probabilities."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"images": images})
    return logits, probabilities


def assert_same_answers(line: Line, seed: int) -> None:
    """Logits within 1e-4 of the largest of them (or of 1), probabilities within 1e-4: float32 sums in another order."""
    content, images = model_file(line, seed), noise(line, 3, seed)
    with torch.inference_mode():
        expected = trained(line, seed)(as_batch(record(line, seed).normalize(images)))
    logits, probabilities = answers(content, images)
    assert logits.dtype == probabilities.dtype == np.float32
    scale = max(1.0, expected.abs().max().item())
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(probabilities, expected.softmax(1).numpy(), rtol=0, atol=1e-4 * scale)


@many
@given(lines(), st.integers(0, 99))
def test_the_file_of_any_line_answers_as_torch_does(line: Line, seed: int) -> None:
    assert_same_answers(line, seed)


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_the_file_of_every_preset_answers_as_torch_does(name: str) -> None:
    assert_same_answers(ALL_PRESETS[name], seed=1)


@pytest.mark.parametrize("line", [*ALL_PRESETS.values(), Line("conv 2 4 pad same, dropout 0.5, flatten", (3, 3, 3), 2)])
def test_nodes_are_named_after_the_layers_and_the_file_is_valid(line: Line) -> None:
    model = onnx.load_from_string(model_file(line))
    onnx.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    expected = {name for name, layer in modules_of(line.network.layers) if not isinstance(layer, Dropout)}
    parts = {"transpose", "mean", "max", "negate", "pool"}  # operations that take more than one node
    assert {name for name in names if name.split(".")[-1] not in parts and not name.startswith("preprocess.")} == (
        expected | {"logits", "softmax"}
    )
    assert [name for name in names if name.startswith("preprocess.")] == [
        "preprocess.cast", "preprocess.multiply", "preprocess.subtract", "preprocess.transpose",
    ]  # fmt: skip


@pytest.mark.parametrize("line", [*ALL_PRESETS.values(), Line("conv 2 4 pad same, batchnorm, flatten", (3, 3, 3), 2)])
def test_constants_are_the_weights_under_their_layers_names(line: Line) -> None:
    model = onnx.load_from_string(model_file(line))
    found = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    assert found.pop("preprocess.scale") == pytest.approx(record(line).scale)
    assert found.pop("preprocess.mean") == pytest.approx(record(line).mean)
    weights = {name.replace(".conv.", "."): values for name, values in get_weights(trained(line)).items()}
    assert found.keys() == {name for name in weights if not name.endswith("num_batches_tracked")}
    for name, values in found.items():
        np.testing.assert_array_equal(values, weights[name])


def test_the_file_says_what_it_is() -> None:
    line = Line("conv 2 3, relu, flatten", (5, 6, 3), 2)
    model = onnx.load_from_string(model_file(line))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties.keys() == {"convscope"}
    assert json.loads(properties["convscope"]) == {
        "format": 1,
        "classes": ["class 0", "class 1"],
        "preprocessing": record(line).model_dump(mode="json"),
        "architecture": line.text,
    }
    assert Metadata.model_validate_json(properties["convscope"]).preprocessing == record(line)
    assert (model.producer_name, model.ir_version) == ("convscope", 9)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert [shape_of(value) for value in (*model.graph.input, *model.graph.output)] == [
        ("images", onnx.TensorProto.UINT8, ["n", 5, 6, 3]),
        ("logits", onnx.TensorProto.FLOAT, ["n", 2]),
        ("probabilities", onnx.TensorProto.FLOAT, ["n", 2]),
    ]


def shape_of(value: onnx.ValueInfoProto) -> tuple[str, int, list[Any]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [side.dim_param or side.dim_value for side in tensor.shape.dim]


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_the_same_network_gives_the_same_bytes(name: str) -> None:
    one = model_file(ALL_PRESETS[name], seed=1)
    assert model_file(ALL_PRESETS[name], seed=1) == one
    assert model_file(ALL_PRESETS[name], seed=2) != one


def as_it_is(line: str, pixels: NDArray[np.uint8]) -> Floats:
    """What an exported network without preprocessing makes of `pixels` before its classifier, as vectors (n, units)."""
    _, height, width, channels = pixels.shape
    units = parse_network(line, pixels.shape[1:], 2).layers[-3].output_shape[0]
    network = parse_network(line, pixels.shape[1:], units)
    plain = Preprocessing.model_validate(
        {"height": height, "width": width, "channels": channels, "fill": [0] * channels, "polarity": "mixed",
         "scale": [1.0] * channels, "mean": [0.0] * channels}
    )  # fmt: skip
    names = [str(i) for i in range(units)]
    identity = {"classifier.weight": np.eye(units, dtype=np.float32), "classifier.bias": np.zeros(units, np.float32)}
    return answers(to_onnx(network, identity | KERNEL, plain, names), pixels)[0]


def matrix(text: str) -> NDArray[np.uint8]:
    """Rows of digits as one gray image (1, h, w, 1)."""
    return np.array([list(row) for row in text.split("/")]).astype(np.uint8)[None, :, :, None]


KERNEL = {
    "conv1.weight": matrix("101/010/110")[:, None, :, :, 0].astype(np.float32),
    "conv1.bias": np.zeros(1, np.float32),
}


def test_a3_the_article_s_matrix_through_the_model_file() -> None:
    made = as_it_is("conv 1 3, flatten", matrix("11011/10101/11110/00110/11000"))
    assert made.tolist() == [[3, 5, 3, 3, 2, 5, 4, 4, 2]]


@pytest.mark.parametrize(
    ("layer", "expected"), [("maxpool", [5, 6, 4, 5]), ("minpool", [2, 1, 1, 2]), ("avgpool", [3, 4, 3, 4])]
)
def test_a5_the_article_s_matrix_through_the_model_file(layer: str, expected: list[int]) -> None:
    assert as_it_is(f"{layer} 2, flatten", matrix("3541/2256/4425/1354")).tolist() == [expected]


def test_a7_the_model_file_flattens_row_by_row_column_by_column_channel_by_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    np.testing.assert_array_equal(as_it_is("flatten", pixels), reference.flatten(pixels.astype(np.float32)))


def test_the_largest_value_of_each_map_in_the_model_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 3), np.uint8)
    np.testing.assert_array_equal(as_it_is("globalmax", pixels), pixels.max((1, 2)))


def test_a4_relu_in_the_model_file() -> None:
    line = Line("relu, flatten", (1, 3, 1), 3)
    weights = {"classifier.weight": np.eye(3, dtype=np.float32), "classifier.bias": np.zeros(3, np.float32)}
    shifted = record(line).model_copy(update={"scale": (1.0,), "mean": (2.0,)})
    pixels = np.array([0, 2, 5], np.uint8).reshape(1, 1, 3, 1)
    logits, _ = answers(to_onnx(line.network, weights, shifted, "abc"), pixels)
    assert logits.tolist() == [[0, 0, 3]]


def test_a9_softmax_in_the_model_file_sums_to_one_and_cannot_overflow() -> None:
    line = Line("flatten", (1, 1, 3), 3)
    weights = {"classifier.weight": 100 * np.eye(3, dtype=np.float32), "classifier.bias": np.zeros(3, np.float32)}
    content = to_onnx(line.network, weights, record(line), "abc")
    pixels = noise(line, 50)
    logits, probabilities = answers(content, pixels)
    assert np.ptp(logits, axis=1).max() > 100
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(probabilities, reference.softmax(logits), rtol=0, atol=1e-6)


def test_a11_preprocessing_lies_inside_the_file() -> None:
    """Divide by 255, as the article does: white is 1."""
    line = Line("flatten", (1, 2, 1), 2)
    plain = Preprocessing.plain(np.array([[[[0], [255]]]], np.uint8))
    weights = {"classifier.weight": np.eye(2, dtype=np.float32), "classifier.bias": np.zeros(2, np.float32)}
    logits, _ = answers(to_onnx(line.network, weights, plain, "ab"), np.array([[[[255], [51]]]], np.uint8))
    np.testing.assert_allclose(logits, [[1, 0.2]], rtol=1e-6)
