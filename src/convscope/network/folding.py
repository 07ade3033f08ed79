"""Batch normalization of a trained network, multiplied into the convolution or dense layer right before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.network.build import parse_network
from convscope.network.layers.base import Layer, Shape, walk_paths
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense
from convscope.network.layers.elementwise import BatchNorm, Dropout
from convscope.network.layers.residual import Residual
from convscope.network.network import Network

Weights = Mapping[str, NDArray[Any]]


def is_folded(layer: Layer, before: Layer) -> bool:
    """Whether a layer is a batch normalization that becomes part of the layer before it."""
    return isinstance(layer, BatchNorm) and isinstance(before, Conv | Dense)


def fold_batch_norm(network: Network, weights: Weights) -> dict[str, NDArray[Any]]:
    """Multiply batch normalization into the convolution or dense layer right before it.

    Args:
        network: The layers.
        weights: By name, float32.

    Returns:
        The weights without those of the batch normalizations that are folded.
    """
    found = dict(weights)
    for linear, norm, epsilon in _folds(network.layers, ""):
        gamma, beta, mean, variance = (
            found.pop(f"{norm}.{part}").astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        found.pop(f"{norm}.num_batches_tracked", None)
        factor = gamma / np.sqrt(variance + epsilon)
        weight, bias = found[f"{linear}.weight"], found.get(f"{linear}.bias", np.zeros(1))
        found[f"{linear}.weight"] = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
        found[f"{linear}.bias"] = ((bias - mean) * factor + beta).astype(np.float32)
    return found


def fold_features(network: Network, weights: Weights) -> tuple[str, dict[str, NDArray[Any]]]:
    """The layers before the classifier as a network without batch normalization, and its weights.

    Dropout at the end goes, too. A network that would then need a bias where the language has none (it has batch
    normalization before a pool and again behind it) keeps all other layers.

    Args:
        network: The layers.
        weights: By name; counts of batches may be missing.

    Returns:
        The architecture, and weights with the names and shapes of its `feature_tensors`.
    """
    layers = list(network.layers[:-2])
    while isinstance(layers[-1], Dropout):
        layers.pop()
    folded = {norm for _, norm, _ in _folds(layers, "")}
    line, found = _without(layers, folded, network, fold_batch_norm(network, weights))
    if {name: array.shape for name, array in found.items()} != feature_tensors(line, network.input_shape):
        return _without(layers, set(), network, weights)
    return line, found


def feature_tensors(architecture: str, input_shape: Shape) -> dict[str, Shape]:
    """Shapes of all weights and statistics before the classifier, by name."""
    tensors = parse_network(architecture, input_shape).tensors
    return {name: shape for name, shape in tensors.items() if not name.startswith("classifier.")}


def _folds(layers: Sequence[Layer], prefix: str) -> Iterator[tuple[str, str, float]]:
    """The names of each convolution or dense layer and the batch normalization folded into it, and its epsilon."""
    before: Layer | None = None
    for layer in layers:
        if isinstance(layer, Dropout):
            continue
        if isinstance(layer, Residual):
            yield from _folds(layer.body, f"{prefix}{layer.name}.body.")
            yield from _folds(layer.shortcut, f"{prefix}{layer.name}.shortcut.")
        if before is not None and isinstance(layer, BatchNorm) and is_folded(layer, before):
            yield prefix + before.name, prefix + layer.name, layer.epsilon
        else:
            before = layer


def _line(layers: Iterable[Layer], prefix: str, left_out: set[str]) -> str:
    """The architecture of layers, without those whose paths are left out."""
    sources = []
    for layer in layers:
        path = prefix + layer.name
        if isinstance(layer, Residual):
            body = _line(layer.body, f"{path}.body.", left_out)
            shortcut = _line(layer.shortcut, f"{path}.shortcut.", left_out)
            sources.append(f"residual({body}{f', shortcut({shortcut})' if shortcut else ''})")
        elif path not in left_out:
            sources.append(layer.source)
    return ", ".join(sources)


def _without(
    layers: Sequence[Layer], left_out: set[str], network: Network, weights: Weights
) -> tuple[str, dict[str, NDArray[Any]]]:
    """Layers as an architecture without some of them, and the weights of the others by their new names."""
    line = _line(layers, "", left_out)
    expected = feature_tensors(line, network.input_shape)
    named = walk_paths((layer.name, layer) for layer in layers)
    old = [path for path, layer in named if layer.tensors and path not in left_out]
    new = dict(zip(old, dict.fromkeys(map(_layer_of, expected)), strict=True))
    found = {name: np.zeros((), np.int64) for name in expected if name.endswith(".num_batches_tracked")}
    for name, array in weights.items():
        if _layer_of(name) in new:
            found[name.replace(_layer_of(name), new[_layer_of(name)], 1)] = array
    return line, found


def _layer_of(name: str) -> str:
    """The layer that a tensor belongs to."""
    return name.rpartition(".")[0]
