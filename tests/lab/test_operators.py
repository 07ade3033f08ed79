"""The page runs any graph as ONNX Runtime does: operators, layers, presets, foreign and int8 models."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from convscope.backends.onnx.read import read_model_file
from convscope.backends.onnx.session import open_session
from convscope.backends.pytorch.models import get_weights
from convscope.deploy.int8 import to_int8
from helpers.lab_page import NodePage, PageError
from helpers.model_files import export
from helpers.networks import ALL_CASES, NetworkCase, network_cases, random_images, random_preprocessing, trained_model

Array = NDArray[Any]
MAX_RELATIVE = 1e-4  # of a layer's largest value

random = np.random.default_rng(0)
MAPS = random.normal(size=(2, 4, 7, 6)).astype(np.float32)
ROWS = random.normal(size=(3, 10)).astype(np.float32)
ABS = np.abs(MAPS) + 0.5


def weights(*shape: int) -> Array:
    return random.normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: float) -> Array:
    return np.array(value, np.float32)


CEIL = {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 1]}
COUNTED = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}

# Operator, input, constants, attributes
CASES: dict[str, tuple[str, Array, list[Array], dict[str, Any]]] = {
    "Conv": ("Conv", MAPS, [weights(5, 4, 3, 2), weights(5)], {}),
    "Conv padded": ("Conv", MAPS, [weights(8, 4, 3, 3)], {"pads": [2, 0, 1, 3], "strides": [2, 1]}),
    "Conv dilated": ("Conv", MAPS, [weights(3, 4, 3, 3)], {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "Conv grouped": ("Conv", MAPS, [weights(6, 2, 3, 3), weights(6)], {"group": 2}),
    "Conv depthwise": ("Conv", MAPS, [weights(4, 1, 3, 3), weights(4)], {"group": 4, "auto_pad": "SAME_UPPER"}),
    "Conv same lower": ("Conv", MAPS, [weights(3, 4, 2, 2)], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "Conv valid": ("Conv", MAPS, [weights(3, 4, 2, 2)], {"auto_pad": "VALID"}),
    "Gemm": ("Gemm", ROWS, [weights(7, 10), weights(7)], {"transB": 1}),
    "Gemm scaled": ("Gemm", ROWS, [weights(10, 6), weights(1, 6)], {"alpha": 0.5, "beta": 2.0}),
    "Gemm transposed": ("Gemm", ROWS, [weights(3, 5)], {"transA": 1}),
    "MatMul": ("MatMul", ROWS, [weights(10, 5)], {}),
    "MatMul of maps": ("MatMul", MAPS, [weights(6, 5)], {}),
    "BatchNormalization": ("BatchNormalization", MAPS, [*weights(3, 4), ABS[0, :, 0, 0]], {"epsilon": 0.01}),
    "LayerNormalization": ("LayerNormalization", MAPS, [weights(MAPS.shape[3]), weights(MAPS.shape[3])], {}),
    "LayerNormalization of maps": (
        "LayerNormalization", MAPS, [weights(*MAPS.shape[1:])], {"axis": 1, "epsilon": 0.01},
    ),
    "MaxPool": ("MaxPool", MAPS, [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "MaxPool ceil": ("MaxPool", MAPS, [], CEIL),
    "MaxPool dilated": ("MaxPool", MAPS, [], {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    "MaxPool same": ("MaxPool", MAPS, [], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "AveragePool": ("AveragePool", MAPS, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "AveragePool with padding": ("AveragePool", MAPS, [], COUNTED),
    "GlobalAveragePool": ("GlobalAveragePool", MAPS, [], {}),
    "GlobalMaxPool": ("GlobalMaxPool", MAPS, [], {}),
    "Relu": ("Relu", MAPS, [], {}),
    "LeakyRelu": ("LeakyRelu", MAPS, [], {"alpha": 0.2}),
    "PRelu": ("PRelu", MAPS, [weights(4, 1, 1)], {}),
    "Elu": ("Elu", MAPS, [], {"alpha": 1.5}),
    "Gelu": ("Gelu", 3 * MAPS, [], {}),
    "Gelu tanh": ("Gelu", MAPS, [], {"approximate": "tanh"}),
    "Erf": ("Erf", 2 * MAPS, [], {}),
    "Sigmoid": ("Sigmoid", MAPS, [], {}),
    "HardSigmoid": ("HardSigmoid", 4 * MAPS, [], {"alpha": 0.3, "beta": 0.4}),
    "HardSwish": ("HardSwish", 4 * MAPS, [], {}),
    "Softplus": ("Softplus", MAPS, [], {}),
    "Tanh": ("Tanh", MAPS, [], {}),
    "Exp": ("Exp", MAPS, [], {}),
    "Log": ("Log", ABS, [], {}),
    "Sqrt": ("Sqrt", ABS, [], {}),
    "Abs": ("Abs", MAPS, [], {}),
    "Neg": ("Neg", MAPS, [], {}),
    "Clip": ("Clip", MAPS, [scalar(-0.5), scalar(0.8)], {}),
    "Add": ("Add", MAPS, [weights(4, 1, 1)], {}),
    "Sub": ("Sub", MAPS, [weights(2, 1, 7, 1)], {}),
    "Mul": ("Mul", MAPS, [scalar(2.5)], {}),
    "Div": ("Div", MAPS, [ABS], {}),
    "Pow": ("Pow", ABS, [scalar(1.3)], {}),
    "Max": ("Max", MAPS, [weights(4, 7, 6)], {}),
    "Min": ("Min", MAPS, [weights(6)], {}),
    "ReduceMean": ("ReduceMean", MAPS, [ints(2, 3)], {"keepdims": 0}),
    "ReduceSum": ("ReduceSum", MAPS, [ints(-1)], {}),
    "ReduceMax": ("ReduceMax", MAPS, [ints(1)], {"keepdims": 0}),
    "ReduceMin": ("ReduceMin", MAPS, [ints(0, 2)], {}),
    "ReduceL2": ("ReduceL2", MAPS, [ints(2, 3)], {"keepdims": 0}),
    "ReduceSumSquare": ("ReduceSumSquare", ROWS, [ints(1)], {}),
    "ReduceLogSumExp": ("ReduceLogSumExp", ROWS, [ints(1)], {"keepdims": 1}),
    "Softmax": ("Softmax", ROWS, [], {"axis": 1}),
    "Softmax of maps": ("Softmax", MAPS, [], {"axis": 1}),
    "LogSoftmax": ("LogSoftmax", ROWS, [], {}),
    "Flatten": ("Flatten", MAPS, [], {"axis": 2}),
    "Reshape": ("Reshape", MAPS, [ints(0, -1)], {}),
    "Transpose": ("Transpose", MAPS, [], {"perm": [0, 2, 3, 1]}),
    "Transpose reversed": ("Transpose", MAPS, [], {}),
    "Concat": ("Concat", MAPS, [weights(2, 3, 7, 6)], {"axis": 1}),
    "Squeeze": ("Squeeze", ROWS[None], [ints(0)], {}),
    "Unsqueeze": ("Unsqueeze", ROWS, [ints(-1, 1)], {}),
    "Gather": ("Gather", MAPS, [ints(2, -1, 0)], {"axis": 1}),
    "Slice": ("Slice", MAPS, [ints(1, -1), ints(9, -5), ints(1, 3), ints(2, -2)], {}),
    "Pad": ("Pad", MAPS, [ints(0, 0, 1, 2, 0, 0, 3, 0), scalar(1.5)], {}),
    "Identity": ("Identity", MAPS, [], {}),
    "Dropout": ("Dropout", MAPS, [], {}),
}  # fmt: skip


def single(operator: str, x: Array, constants: list[Array], attributes: dict[str, Any]) -> bytes:
    """A model of one node."""
    names = [f"c{i}" for i in range(len(constants))]
    node = helper.make_node(operator, ["x", *names], ["y"], "node", **attributes)
    graph = helper.make_graph(
        [node], "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in zip(names, constants, strict=True)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def reference_values(content: bytes, images: Array) -> dict[str, Array]:
    """Every float value of a graph, from ONNX Runtime."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(value for value in model.graph.value_info if value.name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def assert_values_agree(node: NodePage, content: bytes, images: Array) -> None:
    """Every value that the page keeps is that of ONNX Runtime."""
    node.load(content)
    found, expected = node.run(images), reference_values(content, images)
    shared = set(found) & set(expected)
    assert {output.name for output in onnx.load_from_string(content).graph.output} <= shared
    for name in shared:
        assert found[name].shape == expected[name].shape, name
        largest = float(np.abs(expected[name]).max(initial=1e-6))
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=MAX_RELATIVE * largest, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_operator_alone_agrees_with_onnx_runtime(node: NodePage, name: str) -> None:
    operator, x, constants, attributes = CASES[name]
    assert_values_agree(node, single(operator, x, constants, attributes), x)


def model_file(case: NetworkCase) -> bytes:
    classes = [f"class {i}" for i in range(case.classes)]
    return export(case.network, get_weights(trained_model(case)), random_preprocessing(case), classes)


@pytest.mark.parametrize("name", ALL_CASES)
def test_every_layer_of_preset_agrees_with_onnx_runtime(node: NodePage, name: str) -> None:
    case = ALL_CASES[name]
    assert_values_agree(node, model_file(case), random_images(case, 1))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=network_cases())
def test_any_network_agrees_with_onnx_runtime(node: NodePage, case: NetworkCase) -> None:
    assert_values_agree(node, model_file(case), random_images(case, 2))


INT8_CASES = {
    name: NetworkCase(architecture, (12, 12, 3), 5)
    for name, architecture in {
        "dense": "conv 4 3, relu, maxpool 2, flatten, dense 9, relu",
        "batchnorm": "conv 4 3, relu, conv 6 3 pad same, batchnorm, relu, avgpool 2, conv 5 2, gelu, globalavg",
        "residual": "conv 4 3, relu, residual(conv 6 3 pad same, batchnorm, relu, conv 6 3 pad same), relu, globalmax",
        "relu6": "conv 4 3, relu6, conv 8 3, relu6, conv 8 1, batchnorm eps 0.1, relu6, globalavg",
        "squeeze": "conv 4 3, relu, residual(conv 4 1, silu, squeeze 2 gate hardsigmoid), squeeze 3, flatten",
        "grouped": "conv 4 3, tanh, conv 8 3 groups 2, relu, minpool 2, flatten",
    }.items()
}


@pytest.mark.parametrize("name", INT8_CASES)
def test_int8_file_gives_the_integers_of_onnx_runtime(node: NodePage, name: str, tmp_path: Path) -> None:
    case = INT8_CASES[name]
    images = random_images(case, 64)
    (tmp_path / "model.onnx").write_bytes(model_file(case))
    content = to_int8(read_model_file(tmp_path / "model.onnx"), images)
    node.load(content)
    found = node.run(images)
    session = open_session(content, Path("int8.onnx"))
    features, logits = session.run(["features", "logits"], {"images": images})
    np.testing.assert_array_equal(found["logits"], logits)
    np.testing.assert_allclose(
        found["features"], features, rtol=1e-5, atol=1e-6
    )  # float32, after an activation as GELU


class Grouped(nn.Module):
    """A residual block of grouped convolutions, as in MobileNet, with a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.block = nn.Sequential(
            nn.Conv2d(16, 32, 1), nn.GELU(), nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.Hardswish(), nn.Conv2d(32, 16, 1)
        )
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.head = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.ReLU6(), nn.Flatten(), nn.LazyLinear(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.block(x)
        result: torch.Tensor = self.head(x * self.gate(x))
        return result


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_model_exported_by_torch_agrees_with_onnx_runtime(node: NodePage, tmp_path: Path, opset: int) -> None:
    torch.manual_seed(0)
    network, images = Grouped().eval(), torch.rand(1, 3, 20, 28)
    network(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (images,), str(tmp_path / "m.onnx"), dynamo=False, opset_version=opset)
    assert_values_agree(node, (tmp_path / "m.onnx").read_bytes(), images.numpy())


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_rounding_to_8_bits_takes_the_even_neighbor_and_saturates(
    node: NodePage, kind: type[np.uint8 | np.int8]
) -> None:
    values = np.arange(-300, 300, 0.25, dtype=np.float32)[None] / 2
    constants = [("scale", np.float32(0.5)), ("zero", np.array(3, kind))]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape) for name in "xy"]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "graph", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    node.load(model.SerializeToString())
    expected = reference_values(model.SerializeToString(), values)["y"]
    np.testing.assert_array_equal(node.run(values)["y"], expected)


# Refusals


def test_weights_of_another_size_are_refused(node: NodePage) -> None:
    model = onnx.load_from_string(single("Add", MAPS, [weights(4, 1, 1)], {}))
    model.graph.initializer[0].raw_data += b"1234"
    with pytest.raises(PageError, match="damaged: expected 4 numbers in 'c0', got 5"):
        node.load(model.SerializeToString())


def test_unknown_operator_is_named(node: NodePage) -> None:
    with pytest.raises(PageError, match="does not know the operator LSTM") as refused:
        node.load(single("LSTM", MAPS, [], {}))
    assert refused.value.args[1] == "ModelError"


def test_weights_that_do_not_fit_are_named(node: NodePage) -> None:
    node.load(single("Conv", MAPS, [weights(3, 5, 3, 3)], {}))
    with pytest.raises(PageError, match=r"the node 'node' \(Conv\) cannot be computed: weights of shape"):
        node.run(MAPS)


def test_other_file_is_refused(node: NodePage) -> None:
    for content in (b"", b"GIF89a and so on", b"\x08"):
        with pytest.raises(PageError) as refused:
            node.load(content)
        assert refused.value.args[1] == "ModelError", refused.value.args


@pytest.mark.slow
def test_damaged_file_is_refused_or_noticed(node: NodePage) -> None:
    """Whatever byte is changed: a clear refusal, or the checksum is wrong."""
    content = model_file(ALL_CASES["layer conv"])
    for position in range(0, len(content), max(1, len(content) // 400)):
        damaged = bytearray(content)
        damaged[position] ^= 0x5A
        for file in (bytes(damaged), content[:position]):
            try:
                assert not node.load(file)["intact"] or file == content
            except PageError as error:
                assert error.args[1] == "ModelError", error.args
