"""Layer records to the nodes and constants of a model file's graph, without the onnx package.

`export` writes the graph; `read` builds it again from a file's metadata and compares, so that a model file is accepted
only if it holds exactly the network that it describes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import (
    FEATURES,
    FLOAT,
    INPUT,
    LOGITS,
    OOD_SCORE,
    PROBABILITIES,
    ModelMetadata,
    TemperatureScaling,
)
from convscope.backends.onnx.ood import add_ood_score, add_statistics
from convscope.images.preprocessing import Preprocessing
from convscope.network.activations import ACTIVATIONS
from convscope.network.layers.base import Layer
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense, Flatten, Softmax
from convscope.network.layers.elementwise import Activation, BatchNorm, Dropout
from convscope.network.layers.pooling import GlobalAvgPool, GlobalMaxPool, Pool
from convscope.network.layers.residual import Residual
from convscope.network.layers.squeeze_excite import SqueezeExcite
from convscope.network.network import Network

NHWC_TO_NCHW = [0, 3, 1, 2]
NCHW_TO_NHWC = [0, 2, 3, 1]

Weights = Mapping[str, NDArray[Any]]


class Node(NamedTuple):
    """An operation: ONNX operator, names of the values it reads and of the one it writes, attributes.

    The node itself has no name: ONNX does not need one, and small files are a quarter names.
    """

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class GraphBuilder:
    """Collects nodes and constants. Every `add_` method returns the name of the value it produces.

    Args:
        weights: Arrays by name.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def add_node(self, operator: str, output: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node."""
        self.nodes.append(Node(operator, tuple(inputs), output, attributes))
        return output

    def add_constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an array."""
        self.constants[name] = values
        return name

    def add_required(self, name: str, expected: type[np.generic]) -> NDArray[Any]:
        """Add one of the weights, and return it. Raises ValueError if it is missing or of another type."""
        if name not in self.weights:
            raise ValueError(f"its weights {name!r} are missing")
        if self.weights[name].dtype != expected:
            raise ValueError(f"its weights {name!r} are {self.weights[name].dtype}, expected {np.dtype(expected)}")
        self.add_constant(name, self.weights[name])
        return self.weights[name]

    def add_weights(self, layer: str, parts: Sequence[str]) -> list[str]:
        """Add the weights of a layer that exist, in this order."""
        names = [f"{layer}.{part}" for part in parts]
        found = [name for name in names if name in self.weights]
        for name in found:
            self.add_required(name, np.float32)
        return found

    def add_preprocessing(self, record: Preprocessing) -> str:
        """Add the nodes from uint8 images to the input of the first layer."""
        per_channel = (record.channels, 1, 1)  # runtimes are slow where the last dimension is broadcast
        scale = self.add_constant("input.scale", np.array(record.scale, np.float32).reshape(per_channel))
        mean = self.add_constant("input.mean", np.array(record.mean, np.float32).reshape(per_channel))
        value = self.add_node("Transpose", "input.transpose", [INPUT], perm=NHWC_TO_NCHW)
        value = self.add_node("Cast", "input.cast", [value], to=FLOAT)
        value = self.add_node("Mul", "input.multiply", [value, scale])
        return self.add_node("Sub", "input.subtract", [value, mean])

    def add_layers(self, layers: Sequence[Layer], value: str, prefix: str) -> str:
        """Add consecutive layers.

        Args:
            layers: Their records.
            value: The input of the first.
            prefix: What comes before their names: the path of the block they are in.
        """
        for layer, following in zip(layers, (*layers, None)[1:], strict=True):
            value = self.add_layer(layer, value, prefix + layer.name, following)
        return value

    def add_layer(self, layer: Layer, value: str, name: str, following: Layer | None = None) -> str:
        """Add a layer.

        Args:
            layer: Its record.
            value: Its input.
            name: Its name, with the path of the block it is in.
            following: The record of the next layer in its block; None for the last.
        """
        del following  # for subclasses
        return LAYER_WRITERS[type(layer)](self, layer, value, name)

    def add_linear(self, operator: str, name: str, value: str, **attributes: Any) -> str:
        """Add the node of a convolution or dense layer with its weights and bias."""
        return self.add_node(operator, name, [value, *self.add_weights(name, ("weight", "bias"))], **attributes)

    def output_of(self, layer: str) -> str:
        """The name of a layer's output."""
        return layer

    def add_classifier(self, layer: Layer, value: str) -> str:
        """Add the last layer before softmax, which reads the output `features`, equal to `value`."""
        del value  # for subclasses
        return self.add_layer(layer, FEATURES, layer.name)


def build_graph(
    network: Network,
    weights: Weights,
    metadata: ModelMetadata,
    builder: Callable[[Weights], GraphBuilder] | None = None,
) -> GraphBuilder:
    """Build the graph from uint8 images to features, logits, probabilities and perhaps the `ood_score`.

    Args:
        network: The layers.
        weights: Arrays by name.
        metadata: Preprocessing of the first nodes, and calibration of the last.
        builder: What writes the nodes of layers; see `quantized_graph.BUILDERS`.

    Raises:
        ValueError: The weights are of another type or shape than the builder expects.
    """
    graph = (builder or GraphBuilder)(weights)
    *body, classifier, _ = network.layers
    features = graph.add_layers(body, graph.add_preprocessing(metadata.preprocessing), prefix="")
    graph.add_node("Identity", FEATURES, [features])
    logits = graph.add_classifier(classifier, features)
    graph.add_node("Identity", LOGITS, [logits])
    if metadata.rejection.max_ood_score is not None:
        add_statistics(graph, network, metadata.rejection.ood_statistics)
        add_ood_score(graph)
    calibrated = _add_calibration(graph, metadata.calibration)
    graph.add_node("Softmax", PROBABILITIES, [calibrated])
    return graph


def _add_calibration(graph: GraphBuilder, calibration: TemperatureScaling) -> str:
    scale = np.array([1 / calibration.temperature], np.float32)
    if calibration.exponent == 1:
        return graph.add_node("Mul", "calibrate", [LOGITS, graph.add_constant("calibrate.scale", scale)])
    axis = graph.add_constant("calibrate.axis", np.array([1], np.int64))
    exponent = graph.add_constant("calibrate.exponent", np.array([calibration.exponent], np.float32))
    largest = graph.add_node("ReduceMax", "calibrate.largest", [LOGITS, axis])
    distance = graph.add_node("Sub", "calibrate.distance", [largest, LOGITS])
    power = graph.add_node("Pow", "calibrate.power", [distance, exponent])
    return graph.add_node("Mul", "calibrate", [power, graph.add_constant("calibrate.scale", -scale)])


def output_sizes(network: Network, metadata: ModelMetadata) -> dict[str, int]:
    """The outputs of a model file, and how many numbers each has for an image."""
    sizes = {FEATURES: network.layers[-2].input_shape[0], LOGITS: network.classes, PROBABILITIES: network.classes}
    return sizes | ({OOD_SCORE: 1} if metadata.rejection.max_ood_score is not None else {})


def _window(layer: Conv | Pool) -> dict[str, Any]:
    """The attributes of a window; those that have their default are left out."""
    top, bottom, left, right = layer.padding
    attributes = {"kernel_shape": [layer.kernel_size] * 2}
    attributes |= {"pads": [top, left, bottom, right]} if any(layer.padding) else {}
    return attributes | ({"strides": [layer.stride] * 2} if layer.stride > 1 else {})


def _conv(graph: GraphBuilder, layer: Conv, value: str, name: str) -> str:
    groups = {"group": layer.groups} if layer.groups > 1 else {}
    return graph.add_linear("Conv", name, value, **_window(layer), **groups)


def _dense(graph: GraphBuilder, _: Dense, value: str, name: str) -> str:
    return graph.add_linear("Gemm", name, value, transB=1)


def _batch_norm(graph: GraphBuilder, layer: BatchNorm, value: str, name: str) -> str:
    inputs = [value, *graph.add_weights(name, ("weight", "bias", "running_mean", "running_var"))]
    return graph.add_node("BatchNormalization", name, inputs, epsilon=layer.epsilon)


def _activation(graph: GraphBuilder, layer: Activation, value: str, name: str) -> str:
    return add_activation(graph, layer.kind, value, name)


def add_activation(graph: GraphBuilder, kind: str, value: str, name: str) -> str:
    """Add the nodes of an activation, a key of `ACTIVATIONS`; its constants are shared by all that are equal."""
    function = ACTIVATIONS[kind]
    constants = [
        graph.add_constant(f"{kind}.{part}", np.array(number, np.float32))
        for part, number in function.onnx_constants.items()
    ]
    inputs = [value, *constants]
    if not function.onnx_gated:
        return graph.add_node(function.onnx_operator, name, inputs, **function.onnx_attributes)
    gate = graph.add_node(function.onnx_operator, f"{name}.gate", inputs, **function.onnx_attributes)
    return graph.add_node("Mul", name, [value, gate])


def _pool(graph: GraphBuilder, layer: Pool, value: str, name: str) -> str:
    operator = layer.function.onnx_operator
    window = _window(layer)
    if not layer.function.onnx_negated:
        return graph.add_node(operator, name, [value], **window)
    value = graph.add_node("Neg", f"{name}.negate", [value])
    value = graph.add_node(operator, f"{name}.pool", [value], **window)
    return graph.add_node("Neg", name, [value])


def _global_average(graph: GraphBuilder, _: GlobalAvgPool, value: str, name: str) -> str:
    value = graph.add_node("GlobalAveragePool", f"{name}.mean", [value])
    return graph.add_node("Flatten", name, [value])


def _global_max(graph: GraphBuilder, _: GlobalMaxPool, value: str, name: str) -> str:
    value = graph.add_node("GlobalMaxPool", f"{name}.max", [value])
    return graph.add_node("Flatten", name, [value])


def _flatten(graph: GraphBuilder, _: Flatten, value: str, name: str) -> str:
    value = graph.add_node("Transpose", f"{name}.transpose", [value], perm=NCHW_TO_NHWC)
    return graph.add_node("Flatten", name, [value])


def _squeeze_excite(graph: GraphBuilder, layer: SqueezeExcite, value: str, name: str) -> str:
    gate = graph.add_layers(layer.gate, value, name.removesuffix(layer.name))
    axes = graph.add_constant("squeeze.axes", np.array([2, 3], np.int64))
    factors = graph.add_node("Unsqueeze", f"{name}.factors", [gate, axes])
    return graph.add_node("Mul", name, [value, factors])


def _residual(graph: GraphBuilder, layer: Residual, value: str, name: str) -> str:
    body = graph.add_layers(layer.body, value, f"{name}.body.")
    shortcut = graph.add_layers(layer.shortcut, value, f"{name}.shortcut.")
    if layer.projection:
        shortcut = graph.add_layer(layer.projection, value, f"{name}.projection")
    return graph.add_node("Add", name, [body, shortcut])


def _unchanged(_: GraphBuilder, __: Layer, value: str, ___: str) -> str:
    return value


# How each layer is written: (graph, record, name of its input, name of the layer) -> name of its output. To add a
# layer, add an entry.
LAYER_WRITERS: dict[type[Layer], Callable[[GraphBuilder, Any, str, str], str]] = {
    Conv: _conv,
    Dense: _dense,
    BatchNorm: _batch_norm,
    Activation: _activation,
    Pool: _pool,
    GlobalAvgPool: _global_average,
    GlobalMaxPool: _global_max,
    Flatten: _flatten,
    Residual: _residual,
    SqueezeExcite: _squeeze_excite,
    Dropout: _unchanged,
    Softmax: _unchanged,  # `to_onnx` adds it after the logits
}
