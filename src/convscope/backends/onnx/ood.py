"""The output `ood_score` of a model file: how unlike the training images an image is (out of distribution).

Two numbers are added. One is the energy of the logits (Liu et al., 2020), -log(sum(exp(logits))). The other is a
Mahalanobis distance (Lee et al., 2018) of low-level statistics: mean and root mean square of each channel of the first
activations, relative to the training images. Their covariance is that of probabilistic PCA (Tipping and Bishop, 1999):
some components and one variance for the rest, so the squared distance is |z|^2 - |z C|^2 for suitable scales of z, the
standardized statistics, and C. `evaluation.ood` measures the constants; dev/LOG.md compares it with other scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import LOGITS, OOD_SCORE
from convscope.network.layers.base import Layer
from convscope.network.layers.elementwise import Activation
from convscope.network.network import Network

MAX_STATISTICS = 256  # two per channel; more let more unlike images pass, see dev/LOG.md
NETWORK_INPUT, STATISTICS = "preprocess.subtract:out", "ood.statistics:out"  # the names of values
WEIGHTS = ("ood.mean", "ood.scale", "ood.components", "ood.energy_scale", "ood.offset")


class Builder(Protocol):
    """What is needed of `graph.GraphBuilder`."""

    weights: Mapping[str, NDArray[Any]]

    def add_node(self, operator: str, name: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node."""

    def add_constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an array."""

    def add_required(self, name: str, expected: type[np.generic]) -> NDArray[Any]:
        """Add one of the weights."""

    def output_of(self, layer: str) -> str:
        """The name of a layer's output."""


def ood_layers(network: Network) -> tuple[Layer, ...]:
    """The first activations of feature maps, as many as have `MAX_STATISTICS` statistics; at least one if there is one.

    Activations inside residual blocks do not count.
    """
    chosen: list[Layer] = []
    for layer in network.layers:
        if isinstance(layer, Activation) and len(layer.output_shape) == 3:
            if chosen and statistics_count([*chosen, layer]) > MAX_STATISTICS:
                break
            chosen.append(layer)
    return tuple(chosen)


def statistics_count(layers: tuple[Layer, ...] | list[Layer]) -> int:
    """The number of statistics of these layers: two per channel."""
    return sum(2 * layer.output_shape[-1] for layer in layers)


def add_statistics(graph: Builder, network: Network) -> None:
    """Add the nodes from the activations to the statistics, float32 (n, d); a network without any has its input's."""
    axes = graph.add_constant("ood.spatial_axes", np.array([2, 3], np.int64))
    values = {layer.name: graph.output_of(layer.name) for layer in ood_layers(network)} or {"input": NETWORK_INPUT}
    parts = []
    for name, value in values.items():
        parts.append(graph.add_node("ReduceMean", f"ood.{name}.mean", [value, axes], keepdims=0))
        parts.append(graph.add_node("ReduceL2", f"ood.{name}.norm", [value, axes], keepdims=0))
    graph.add_node("Concat", "ood.statistics", parts, output=STATISTICS, axis=1)


def add_ood_score(graph: Builder) -> None:
    """Add the nodes from the statistics and the logits to the score, float32 (n, 1); see `WEIGHTS`."""
    last = graph.add_constant("ood.last_axis", np.array([1], np.int64))
    mean, scale, components, energy_scale, offset = WEIGHTS
    for name in WEIGHTS:
        graph.add_required(name, np.float32)
    centered = graph.add_node("Sub", "ood.center", [STATISTICS, mean])
    z = graph.add_node("Mul", "ood.standardize", [centered, scale])
    projected = graph.add_node("MatMul", "ood.project", [z, components])
    norms = [
        graph.add_node("ReduceSumSquare", f"ood.{name}", [value, last], keepdims=1)
        for name, value in {"square": z, "explained": projected}.items()
    ]
    distance = graph.add_node("Sub", "ood.distance", norms)
    evidence = graph.add_node("ReduceLogSumExp", "ood.evidence", [LOGITS, last], keepdims=1)
    energy = graph.add_node("Mul", "ood.energy", [evidence, energy_scale])
    total = graph.add_node("Sub", "ood.sum", [distance, energy])
    graph.add_node("Sub", "ood.score", [total, offset], output=OOD_SCORE)
