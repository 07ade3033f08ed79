"""The output `ood_score` of a model file: how unlike the training images an image is (out of distribution).

Two numbers are added. One is the energy of the logits (Liu et al., 2020), -log(sum(exp(logits))). The other is a
Mahalanobis distance (Lee et al., 2018) of low-level statistics: mean and root mean square of each channel of the first
activations, relative to the training images. Their covariance is that of probabilistic PCA (Tipping and Bishop, 1999):
some components and one variance for the rest, so the squared distance is |z|^2 - |z C|^2 for suitable scales of z, the
standardized statistics, and C, which is stored in 16 bits. `evaluation.ood` measures the constants; dev/LOG.md compares
the score with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import FLOAT, LOGITS, OOD_SCORE
from convscope.network.layers.base import Layer
from convscope.network.layers.elementwise import Activation
from convscope.network.network import Network

MAX_STATISTICS = 256  # two per channel; more let more unlike images pass, see dev/LOG.md
PARAMETERS_PER_STATISTIC = 256  # at least: the constants of a small network must not be larger than its weights
NETWORK_INPUT, STATISTICS = "input.subtract", "ood.statistics"  # the names of values
PREFIX = "ood."  # of the names of its values and constants
MEAN, SCALE, COMPONENTS = "ood.mean", "ood.scale", "ood.components"
ENERGY_SCALE, OFFSET = "ood.energy_scale", "ood.offset"


class Builder(Protocol):
    """What is needed of `graph.GraphBuilder`."""

    weights: Mapping[str, NDArray[Any]]

    def add_node(self, operator: str, output: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node."""

    def add_constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an array."""

    def add_required(self, name: str, expected: type[np.generic]) -> NDArray[Any]:
        """Add one of the weights."""

    def output_of(self, layer: str) -> str:
        """The name of a layer's output."""


def ood_layers(network: Network) -> tuple[Layer, ...]:
    """The first activations of feature maps, at least one if there is one.

    They have at most `MAX_STATISTICS` statistics, and `PARAMETERS_PER_STATISTIC` parameters for each. Activations
    inside residual blocks do not count.
    """
    most = min(MAX_STATISTICS, network.parameters // PARAMETERS_PER_STATISTIC)
    chosen: list[Layer] = []
    for layer in network.layers:
        if isinstance(layer, Activation) and len(layer.output_shape) == 3:
            if chosen and statistics_count([*chosen, layer]) > most:
                break
            chosen.append(layer)
    return tuple(chosen)


def statistics_count(layers: tuple[Layer, ...] | list[Layer]) -> int:
    """The number of statistics of these layers: two per channel."""
    return sum(2 * layer.output_shape[-1] for layer in layers)


def add_statistics(graph: Builder, network: Network) -> None:
    """Add the nodes from the activations to the statistics, float32 (n, d); a network without any has its input's."""
    axes = graph.add_constant("ood.axes", np.array([2, 3], np.int64))
    values = {layer.name: graph.output_of(layer.name) for layer in ood_layers(network)} or {"input": NETWORK_INPUT}
    parts = []
    for name, value in values.items():
        parts.append(graph.add_node("ReduceMean", f"ood.{name}.mean", [value, axes], keepdims=0))
        parts.append(graph.add_node("ReduceL2", f"ood.{name}.norm", [value, axes], keepdims=0))
    graph.add_node("Concat", STATISTICS, parts, axis=1)


def add_ood_score(graph: Builder) -> None:
    """Add the nodes from the statistics and the logits to the score, float32 (n, 1)."""
    last = graph.add_constant("ood.axis", np.array([1], np.int64))
    for name in (MEAN, SCALE, ENERGY_SCALE, OFFSET):
        graph.add_required(name, np.float32)
    graph.add_required(COMPONENTS, np.float16)
    centered = graph.add_node("Sub", "ood.center", [STATISTICS, MEAN])
    z = graph.add_node("Mul", "ood.z", [centered, SCALE])
    components = graph.add_node("Cast", "ood.cast", [COMPONENTS], to=FLOAT)
    projected = graph.add_node("MatMul", "ood.project", [z, components])
    square = graph.add_node("ReduceSumSquare", "ood.square", [z, last])
    explained = graph.add_node("ReduceSumSquare", "ood.explained", [projected, last])
    evidence = graph.add_node("ReduceLogSumExp", "ood.evidence", [LOGITS, last])
    scaled = graph.add_node("Mul", "ood.scaled", [evidence, ENERGY_SCALE])
    like = graph.add_node("Sum", "ood.like", [explained, scaled, OFFSET])
    graph.add_node("Sub", OOD_SCORE, [square, like])
