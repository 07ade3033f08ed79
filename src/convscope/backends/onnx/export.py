"""Layer records and weights -> one ONNX file that needs nothing else.

The graph takes uint8 images (n, height, width, channels) and gives `logits` and `probabilities`, both float32
(n, classes). Cast, scale, mean and transpose lie inside it. Every node is named after its layer record; the metadata
carries the classes and the preprocessing record. docs/run-folder.md specifies it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convscope.backends.onnx.metadata import INPUT, LOGITS, METADATA_KEY, PROBABILITIES, Metadata
from convscope.images.preprocessing import Preprocessing
from convscope.network.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    Network,
    Pool,
    Residual,
    Softmax,
)

OPSET = 20  # the first with Gelu
IR_VERSION = 9
BATCH_NORM_EPSILON = 1e-5  # torch's default

Weights = Mapping[str, NDArray[Any]]


def to_onnx(network: Network, weights: Weights, preprocessing: Preprocessing, classes: Sequence[str]) -> bytes:
    """The model file, as bytes, of weights named as `models.get_weights` names them."""
    graph = Graph(weights)
    images = graph.preprocess(preprocessing)
    logits = graph.sequence(network.layers, images, "")
    graph.node("Identity", "logits", [logits], output=LOGITS)
    graph.node("Softmax", "softmax", [LOGITS], output=PROBABILITIES, axis=1)
    proto = helper.make_graph(
        graph.nodes,
        "convscope",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", *network.input_shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", network.classes])
            for name in (LOGITS, PROBABILITIES)
        ],
        graph.constants,
    )
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="convscope"
    )
    metadata = Metadata(classes=tuple(classes), preprocessing=preprocessing, architecture=network.architecture)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata.model_dump(mode="json"))})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class Graph:
    """ONNX nodes and constants in the making. Every method returns the name of the value it made."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operation: str, name: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{name}:out"
        self.nodes.append(helper.make_node(operation, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def preprocess(self, record: Preprocessing) -> str:
        scale = self.constant("preprocess.scale", np.array(record.scale, np.float32))
        mean = self.constant("preprocess.mean", np.array(record.mean, np.float32))
        value = self.node("Cast", "preprocess.cast", [INPUT], to=TensorProto.FLOAT)
        value = self.node("Mul", "preprocess.multiply", [value, scale])
        value = self.node("Sub", "preprocess.subtract", [value, mean])
        return self.node("Transpose", "preprocess.transpose", [value], perm=[0, 3, 1, 2])

    def sequence(self, layers: Sequence[Layer], value: str, prefix: str) -> str:
        for layer in layers:
            value = WRITERS[type(layer)](self, layer, value, prefix)
        return value

    def conv(self, layer: Conv, value: str, prefix: str) -> str:
        name = prefix + layer.name
        stored = f"{name}.conv" if f"{name}.conv.weight" in self.weights else name
        parts = [part for part in ("weight", "bias") if f"{stored}.{part}" in self.weights]
        inputs = [self.constant(f"{name}.{part}", self.weights[f"{stored}.{part}"]) for part in parts]
        top, bottom, left, right = layer.padding
        return self.node("Conv", name, [value, *inputs], group=layer.groups, kernel_shape=[layer.kernel] * 2,
                         pads=[top, left, bottom, right], strides=[layer.stride] * 2)  # fmt: skip

    def dense(self, layer: Dense, value: str, prefix: str) -> str:
        name = prefix + layer.name
        inputs = [self.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.node("Gemm", name, [value, *inputs], transB=1)

    def batch_norm(self, layer: BatchNorm, value: str, prefix: str) -> str:
        name = prefix + layer.name
        parts = ("weight", "bias", "running_mean", "running_var")
        inputs = [self.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in parts]
        return self.node("BatchNormalization", name, [value, *inputs], epsilon=BATCH_NORM_EPSILON)

    def activation(self, layer: Activation, value: str, prefix: str) -> str:
        operation = {"relu": "Relu", "gelu": "Gelu", "tanh": "Tanh"}[layer.function]
        return self.node(operation, prefix + layer.name, [value])

    def pool(self, layer: Pool, value: str, prefix: str) -> str:
        name = prefix + layer.name
        window: dict[str, Any] = {"kernel_shape": [layer.size] * 2, "strides": [layer.stride] * 2}
        if layer.kind != "min":
            return self.node({"max": "MaxPool", "average": "AveragePool"}[layer.kind], name, [value], **window)
        value = self.node("Neg", f"{name}.negate", [value])
        value = self.node("MaxPool", f"{name}.pool", [value], **window)
        return self.node("Neg", name, [value])

    def global_average(self, layer: GlobalAvgPool, value: str, prefix: str) -> str:
        value = self.node("GlobalAveragePool", f"{prefix}{layer.name}.mean", [value])
        return self.node("Flatten", prefix + layer.name, [value])

    def global_max(self, layer: GlobalMaxPool, value: str, prefix: str) -> str:
        value = self.node("GlobalMaxPool", f"{prefix}{layer.name}.max", [value])
        return self.node("Flatten", prefix + layer.name, [value])

    def flatten(self, layer: Flatten, value: str, prefix: str) -> str:
        value = self.node("Transpose", f"{prefix}{layer.name}.transpose", [value], perm=[0, 2, 3, 1])
        return self.node("Flatten", prefix + layer.name, [value])

    def residual(self, layer: Residual, value: str, prefix: str) -> str:
        name = prefix + layer.name
        body = self.sequence(layer.body, value, f"{name}.body.")
        shortcut = self.conv(layer.projection, value, prefix) if layer.projection else value
        return self.node("Add", name, [body, shortcut])


WRITERS: dict[type[Layer], Callable[[Graph, Any, str, str], str]] = {
    Conv: Graph.conv,
    Dense: Graph.dense,
    BatchNorm: Graph.batch_norm,
    Activation: Graph.activation,
    Pool: Graph.pool,
    GlobalAvgPool: Graph.global_average,
    GlobalMaxPool: Graph.global_max,
    Flatten: Graph.flatten,
    Residual: Graph.residual,
    Dropout: lambda _, __, value, ___: value,
    Softmax: lambda _, __, value, ___: value,  # written once, after the logits
}
