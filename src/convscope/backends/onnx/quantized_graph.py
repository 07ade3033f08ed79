"""The graph of an int8 model file: the same layers, with convolutions, dense layers and sums on 8-bit integers.

What these layers read and write is stored as q = round(value / scale) + zero_point, uint8; the weights are int8 with a
scale per filter, the biases int32. QuantizeLinear and DequantizeLinear stand around the float operators (ONNX's QDQ
form); runtimes replace such groups by integer kernels. A batch normalization right behind a convolution or dense layer
is folded into it. A convolution that reads the image computes in float32, because integer kernels are slow for one to
four channels; only its weights are int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convscope.backends.onnx.graph import GraphBuilder, Weights
from convscope.images.preprocessing import Preprocessing
from convscope.network.folding import is_folded
from convscope.network.layers.base import Layer
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense, Flatten
from convscope.network.layers.elementwise import Activation, Dropout
from convscope.network.layers.pooling import GlobalAvgPool, GlobalMaxPool, Pool
from convscope.network.layers.residual import Residual

CLAMPS = "Relu", "Clip"  # runtimes drop them before a quantization that clips the same values


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
        if is_linear and isinstance(following, Activation) and following.function.onnx_operator in CLAMPS:
            self._before_relu.add(output)
            return output
        return self.quantize(output, self._points[value] if _keeps_values(layer) else "")

    def add_classifier(self, layer: Layer, value: str) -> str:
        """Add the last layer; its output, the logits, stays float."""
        return super().add_layer(layer, self.quantize(value), layer.name)

    def add_linear(self, operator: str, name: str, value: str, **attributes: Any) -> str:
        """Add a convolution or dense layer whose weights are dequantized, and its bias unless it reads the image."""
        weight, scale = self._quantized_weights(name)
        parameters = [scale]
        if operator == "Gemm":  # without zero points ONNX Runtime does not use its integer kernel
            zeros = np.zeros(self.weights[weight].shape[0], np.int8)
            parameters.append(self.add_constant(f"{name}.weight_zero", zeros))
        inputs = [value, self._dequantize(weight, parameters)]
        if value not in self._points:
            inputs += self.add_weights(name, ("bias",))
        elif f"{name}.bias" in self.weights:
            inputs.append(self._quantized_bias(name, self._points[value]))
        return self.add_node(operator, name, inputs, **attributes)

    def output_of(self, layer: str) -> str:
        """The name of a layer's output, dequantized if it is quantized."""
        value = super().output_of(layer)
        return self._quantized.get(value, value)

    def quantize(self, value: str, point: str = "") -> str:
        """Add the nodes that round a value to 8 bits, once.

        Args:
            value: What to round.
            point: The name before `.scale` and `.zero` of the constants that are used; by default the value's.
        """
        if value in self._points:
            return value
        if value not in self._quantized:
            output = self.add_rounding(value, point or value)
            self._quantized[value] = output
            self._points[output] = point or value
        return self._quantized[value]

    def add_rounding(self, value: str, point: str) -> str:
        """Add the nodes of `quantize`; the name of the rounded value."""
        scale, zero = f"{point}.scale", f"{point}.zero"
        if self.add_required(scale, np.float32).shape != () or not self.constants[scale] > 0:
            raise ValueError(f"its constant {scale!r} is not one positive number")
        if self.add_required(zero, np.uint8).shape != ():
            raise ValueError(f"its constant {zero!r} is not one number")
        small = self.add_node("QuantizeLinear", f"{value}.q", [value, scale, zero])
        return self.add_node("DequantizeLinear", f"{value}.dq", [small, scale, zero])

    def _quantized_weights(self, name: str) -> tuple[str, str]:
        """The constants with the weights of a layer, and with their scales."""
        weight = self.add_required(f"{name}.weight", np.int8)
        scale = self.add_required(f"{name}.weight_scale", np.float32)
        if weight.ndim == 0 or scale.shape != weight.shape[:1] or not (scale > 0).all():
            raise ValueError(f"its constant '{name}.weight_scale' is not one positive number per filter")
        return f"{name}.weight", f"{name}.weight_scale"

    def _quantized_bias(self, name: str, point: str) -> str:
        """The dequantized bias of a layer whose input has the scale of `point`."""
        self.add_required(f"{name}.bias", np.int32)
        with np.errstate(over="ignore"):
            scale = self.weights[f"{point}.scale"] * self.weights[f"{name}.weight_scale"]
        return self._dequantize(f"{name}.bias", [self.add_constant(f"{name}.bias_scale", scale)])

    def _dequantize(self, constant: str, parameters: Sequence[str]) -> str:
        return self.add_node("DequantizeLinear", f"{constant}.dq", [constant, *parameters], axis=0)


BUILDERS: dict[str, type[GraphBuilder]] = {"float32": GraphBuilder, "int8": QuantizedGraphBuilder}


def executed(layers: Sequence[Layer]) -> list[Layer]:
    """The layers of a block that have nodes: dropout has none, nor has batch normalization that is folded."""
    found: list[Layer] = []
    for layer in layers:
        if not isinstance(layer, Dropout) and not (found and is_folded(layer, found[-1])):
            found.append(layer)
    return found


def _keeps_values(layer: Layer) -> bool:
    """Whether all outputs of a layer are among its inputs, so that the scale stays."""
    is_average = isinstance(layer, Pool) and layer.function.kind == "average"
    return isinstance(layer, Flatten | GlobalMaxPool | Pool) and not is_average
