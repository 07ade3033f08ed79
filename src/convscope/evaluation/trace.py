"""Run a model on one image and keep every layer's input and output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.backends.pytorch.models import as_batch
from convscope.evaluation.calibration import UNCALIBRATED, softmax
from convscope.network.layers.base import Layer
from convscope.network.layers.residual import Residual
from convscope.network.layers.squeeze_excite import SqueezeExcite
from convscope.network.network import Network

Floats = NDArray[np.float32]
Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer's computation for one image.

    Attributes:
        layer: The record.
        input: float32 (height, width, channels) or (units,).
        output: float32 (height, width, channels) or (units,).
        weights: The layer's tensors by name.
    """

    layer: Layer
    input: Floats
    output: Floats
    weights: Weights


def trace(
    model: nn.Sequential, network: Network, image: Floats, calibration: TemperatureScaling = UNCALIBRATED
) -> dict[str, LayerTrace]:
    """Run a model on one image, layer by layer.

    Args:
        model: In evaluation mode.
        network: Its records.
        image: Preprocessed, float32 (height, width, channels).
        calibration: Of the model file.

    Returns:
        Input, output and weights of every layer by name, in order of execution.
    """
    traces: dict[str, LayerTrace] = {}
    with torch.inference_mode():
        *layers, last = network.layers
        logits = _to_numpy(_trace_layers(layers, model, as_batch(image[None]), traces))
    probabilities = softmax(logits[None], calibration)[0].astype(np.float32)
    weights = {name: np.array(value) for name, value in calibration.model_dump().items()}
    traces[last.name] = LayerTrace(last, logits, probabilities, weights)
    return traces


def _trace_layers(layers: Iterable[Layer], modules: nn.Module, x: Tensor, traces: dict[str, LayerTrace]) -> Tensor:
    """Trace consecutive layers; returns the output of the last one."""
    for layer in layers:
        module = modules.get_submodule(layer.name.split(".")[-1])
        y, weights = module(x), _weights(module)
        if isinstance(layer, Residual):
            weights |= _trace_block(layer, module, x, traces)
        if isinstance(layer, SqueezeExcite):
            weights = {"factors": _to_numpy(_trace_layers(layer.gate, module, x, traces))}
        traces[layer.name] = LayerTrace(layer, _to_numpy(x), _to_numpy(y), weights)
        x = y
    return x


def _trace_block(layer: Residual, module: nn.Module, x: Tensor, traces: dict[str, LayerTrace]) -> Weights:
    """Trace the layers inside a block; returns what the block adds up."""
    _trace_layers(layer.body, module.get_submodule("body"), x, traces)
    shortcut = _to_numpy(_trace_layers(layer.shortcut, module.get_submodule("shortcut"), x, traces))
    if layer.projection:
        shortcut = _to_numpy(_trace_layers([layer.projection], module, x, traces))
    return {"body": traces[layer.body[-1].name].output, "shortcut": shortcut}


def _to_numpy(x: Tensor) -> Floats:
    """Feature maps (1, c, h, w) -> (h, w, c), vectors (1, n) -> (n,)."""
    result: Floats = (x[0].permute(1, 2, 0) if x.dim() == 4 else x[0]).numpy()
    return result


def _weights(module: nn.Module) -> Weights:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}
