"""The graph of an int8 model file: the same layers, with convolutions, dense layers and sums on 8-bit integers.

What these layers read and write is stored as q = round(value / scale) + zero_point, uint8; the weights are int8 with a
scale per filter, the biases int32. QuantizeLinear and DequantizeLinear stand around the float operators (ONNX's QDQ
form); runtimes replace such groups by integer kernels. A batch normalization right behind a convolution or dense layer
is folded into it. The first convolution stays float32: it has few weights, and integer kernels are slow for the one to
four channels of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convscope.backends.onnx.graph import GraphBuilder, Weights
from convscope.images.preprocessing import Preprocessing
from convscope.network.layers.base import Layer
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense, Flatten
from convscope.network.layers.elementwise import Activation, BatchNorm, Dropout
from convscope.network.layers.pooling import GlobalAvgPool, GlobalMaxPool, Pool
from convscope.network.layers.residual import Residual


class QuantizedGraphBuilder(GraphBuilder):
    """Collects the nodes and constants of an int8 graph.

    Args:
        weights: As `quantize.quantize` makes them.

    Raises:
        ValueError: While nodes are added, if a constant has another type or shape, or a scale is not positive.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self._image = ""
        self._points: dict[str, str] = {}  # a dequantized value -> the name before `.scale` of its scale
        self._quantized: dict[str, str] = {}  # a value -> the dequantized one
        self._before_relu: set[str] = set()  # what integer kernels compute together with the ReLU that follows

    def add_preprocessing(self, record: Preprocessing) -> str:
        """Add the nodes from uint8 images to the input of the first layer."""
        self._image = super().add_preprocessing(record)
        return self._image

    def add_layers(self, layers: Sequence[Layer], value: str, prefix: str) -> str:
        """Add consecutive layers, without those that are folded."""
        return super().add_layers(executed(layers), value, prefix)

    def add_layer(self, layer: Layer, value: str, name: str, following: Layer | None = None) -> str:
        """Add a layer and, if it computes with integers, the quantization of what it reads and writes."""
        is_linear = isinstance(layer, Conv | Dense | Residual)
        if is_linear and (value in self._points or value != self._image):
            value = self.quantize(value)
        output = super().add_layer(layer, value, name, following)
        if value in self._before_relu:
            return self.quantize(output)
        if value not in self._points or not (
            is_linear or isinstance(layer, Flatten | Pool | GlobalAvgPool | GlobalMaxPool)
        ):
            return output
        if is_linear and isinstance(following, Activation) and following.function.onnx_operator == "Relu":
            self._before_relu.add(output)
            return output
        return self.quantize(output, self._points[value] if _keeps_values(layer) else "")

    def add_classifier(self, layer: Layer, value: str) -> str:
        """Add the last layer; its output, the logits, stays float."""
        return super().add_layer(layer, self.quantize(value), layer.name)

    def add_linear(self, operator: str, name: str, value: str, **attributes: Any) -> str:
        """Add a convolution or dense layer with weights and bias that are dequantized, unless it is the first."""
        if value not in self._points:
            return super().add_linear(operator, name, value, **attributes)
        inputs = [value, *self._dequantized(name, self._points[value], with_zeros=operator == "Gemm")]
        return self.add_node(operator, name, inputs, **attributes)

    def output_of(self, layer: str) -> str:
        """The name of a layer's output, dequantized if it is quantized."""
        value = super().output_of(layer)
        return self._quantized.get(value, value)

    def quantize(self, value: str, point: str = "") -> str:
        """Add the nodes that round a value to 8 bits, once.

        Args:
            value: What to round.
            point: The name before `.scale` and `.zero_point` of the constants that are used; by default the value's.
        """
        if value in self._points:
            return value
        if value not in self._quantized:
            name = value.removesuffix(":out")
            output = self.add_rounding(value, name, point or name)
            self._quantized[value] = output
            self._points[output] = point or name
        return self._quantized[value]

    def add_rounding(self, value: str, name: str, point: str) -> str:
        """Add the nodes of `quantize`; the name of the rounded value."""
        scale, zero = f"{point}.scale", f"{point}.zero_point"
        if self.add_required(scale, np.float32).shape != () or not self.constants[scale] > 0:
            raise ValueError(f"its constant {scale!r} is not one positive number")
        if self.add_required(zero, np.uint8).shape != ():
            raise ValueError(f"its constant {zero!r} is not one number")
        small = self.add_node("QuantizeLinear", f"{name}.q", [value, scale, zero], f"{name}:q")
        return self.add_node("DequantizeLinear", f"{name}.dq", [small, scale, zero], f"{name}:dq")

    def _dequantized(self, name: str, point: str, with_zeros: bool) -> list[str]:
        """The weights of a layer, and its bias if it has one.

        Args:
            name: Of the layer.
            point: Whose scale its input has.
            with_zeros: Add zero points, without which ONNX Runtime does not use its integer kernel for Gemm.
        """
        weight = self.add_required(f"{name}.weight", np.int8)
        scale = self.add_required(f"{name}.weight_scale", np.float32)
        if weight.ndim == 0 or scale.shape != weight.shape[:1] or not (scale > 0).all():
            raise ValueError(f"its constant '{name}.weight_scale' is not one positive number per filter")
        parameters = [f"{name}.weight_scale"]
        if with_zeros:
            parameters.append(self.add_constant(f"{name}.weight_zero_point", np.zeros(len(weight), np.int8)))
        found = [self._dequantize(f"{name}.weight", parameters)]
        if f"{name}.bias" in self.weights:
            self.add_required(f"{name}.bias", np.int32)
            with np.errstate(over="ignore"):
                product = self.add_constant(f"{name}.bias_scale", self.weights[f"{point}.scale"] * scale)
            found.append(self._dequantize(f"{name}.bias", [product]))
        return found

    def _dequantize(self, constant: str, parameters: Sequence[str]) -> str:
        return self.add_node("DequantizeLinear", f"{constant}.dq", [constant, *parameters], f"{constant}:dq", axis=0)


BUILDERS: dict[str, type[GraphBuilder]] = {"float32": GraphBuilder, "int8": QuantizedGraphBuilder}


def executed(layers: Sequence[Layer]) -> list[Layer]:
    """The layers of a block that have nodes: dropout has none, nor has batch normalization that is folded."""
    found: list[Layer] = []
    for layer in layers:
        if not isinstance(layer, Dropout) and not (found and is_folded(layer, found[-1])):
            found.append(layer)
    return found


def is_folded(layer: Layer, before: Layer) -> bool:
    """Whether a layer is a batch normalization that becomes part of the layer before it."""
    return isinstance(layer, BatchNorm) and isinstance(before, Conv | Dense)


def _keeps_values(layer: Layer) -> bool:
    """Whether all outputs of a layer are among its inputs, so that the scale stays."""
    is_average = isinstance(layer, Pool) and layer.function.kind == "average"
    return isinstance(layer, Flatten | GlobalMaxPool | Pool) and not is_average
