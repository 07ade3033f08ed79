"""Weights of an int8 model file from those of float32 and the ranges of the layers' outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.graph import GraphBuilder, Weights
from convscope.backends.onnx.quantized_graph import QuantizedGraphBuilder

# Weights that are multiplied by integers have 7 bits: processors without VNNI add two products of uint8 and int8 in 16
# bits, and 2 * 255 * 127 saturates where 2 * 255 * 63 does not.
MAX_WEIGHT, MAX_WEIGHT_OF_IMAGE, MAX_VALUE, MAX_BIAS = 63, 127, 255, 2**30

Range = tuple[float, float]
Inputs = Mapping[str, str | None]  # see `CalibrationGraphBuilder`


class CalibrationGraphBuilder(QuantizedGraphBuilder):
    """Builds the graph of `QuantizedGraphBuilder` in float32.

    Attributes:
        values: The values to quantize, by the name of the point.
        inputs: The point whose scale its input has, by the name of each convolution and dense layer; None for one that
            reads the image.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.values: dict[str, str] = {}
        self.inputs: dict[str, str | None] = {}

    def add_linear(self, operator: str, name: str, value: str, **attributes: Any) -> str:
        """Add a convolution or dense layer, and note the point of its input."""
        self.inputs[name] = self._points.get(value)
        return GraphBuilder.add_linear(self, operator, name, value, **attributes)

    def add_rounding(self, value: str, point: str) -> str:
        """Note a value that an int8 graph rounds."""
        if value == point:
            self.values[point] = value
        return value


def quantize(
    weights: Weights, inputs: Mapping[str, str | None], ranges: Mapping[str, Range]
) -> dict[str, NDArray[Any]]:
    """Quantize weights: symmetric, with one scale per filter.

    Args:
        weights: Float32, after `folding.fold_batch_norm`; what a model file holds besides weights stays as it is.
        inputs: See `CalibrationGraphBuilder`.
        ranges: Smallest and largest value of each point.

    Returns:
        The constants of `QuantizedGraphBuilder` by name; the weights of other layers are unchanged.
    """
    found = dict(weights)
    for point, (low, high) in ranges.items():
        found[f"{point}.scale"], found[f"{point}.zero"] = _scale(low, high)
    for name, point_of_input in inputs.items():
        weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        most = MAX_WEIGHT if point_of_input else MAX_WEIGHT_OF_IMAGE
        scale = np.abs(weight.reshape(len(weight), -1)).max(axis=1) / most
        if point_of_input and bias is not None:
            scale = np.maximum(scale, np.abs(bias) / (found[f"{point_of_input}.scale"] * MAX_BIAS))
        scale = np.where(scale > np.finfo(np.float32).tiny, scale, 1).astype(np.float32)
        column = scale.reshape(-1, *[1] * (weight.ndim - 1))
        found[f"{name}.weight"] = np.rint(weight / column).astype(np.int8)
        found[f"{name}.weight_scale"] = scale
        if point_of_input and bias is not None:
            found[f"{name}.bias"] = np.rint(bias / (found[f"{point_of_input}.scale"] * scale)).astype(np.int32)
    return found


def _scale(low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point, both of shape (), by which 0 is exact and the range is covered."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / MAX_VALUE) or np.float32(1)
    return np.array(scale, np.float32), np.array(np.clip(np.rint(-low / scale), 0, MAX_VALUE), np.uint8)
