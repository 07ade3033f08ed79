"""The output `ood_score` of a model file: how unlike the training images an image is (out of distribution).

It is a Mahalanobis distance (Lee et al., 2018) of statistics of the image from those of the training images. Their
covariance is that of probabilistic PCA (Tipping and Bishop, 1999): some components and one variance for the rest, so
the squared distance is |z|^2 - |z C|^2 for suitable scales of z, the centered statistics, and C, which is stored in
16 bits. A network trained from scratch knows little about what it has not seen, so that its statistics are low-level:
those of its first activations, and the energy of the logits (Liu et al., 2020), -log(sum(exp(logits))), is added. A
backbone has seen many kinds of images: its statistics are its features, divided by their length. `evaluation.ood`
measures the constants; dev/LOG.md compares the score with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import FEATURES, FLOAT, LOGITS, OOD_SCORE, OodStatistics
from convscope.network.layers.base import Layer
from convscope.network.layers.elementwise import Activation
from convscope.network.network import Network

MAX_STATISTICS = 512  # of activations; if there were more, there are only means and norms
PARAMETERS_PER_STATISTIC = 256  # at least, or else the same: the constants of a small network must not outweigh it
MAX_CHANNELS, ROW_STEP = 16, 2  # differences of neighbors are measured in so many channels, and in one row of two
MIN_NORM = 0.01  # is added to norms, so that they have a logarithm
NETWORK_INPUT, STATISTICS = "input.subtract", "ood.statistics"  # the names of values
PREFIX = "ood."  # of the names of its values and constants
MEAN, SCALE, COMPONENTS = "ood.mean", "ood.scale", "ood.components"
ENERGY_SCALE, OFFSET = "ood.energy_scale", "ood.offset"
CHANNEL_AXIS, Y_AXIS, X_AXIS = 1, 2, 3
END = np.iinfo(np.int64).max  # of slices


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


def statistics_count(network: Network, kind: OodStatistics) -> int:
    """How many statistics an image has."""
    if kind == "features":
        return network.layers[-2].input_shape[0]
    height, width, channels = _measured_shape(network)
    with_differences = 3 * channels + 2 * min(channels, MAX_CHANNELS)
    most = min(MAX_STATISTICS, network.parameters // PARAMETERS_PER_STATISTIC)
    return with_differences if min(height, width) > 1 and with_differences <= most else 2 * channels


def add_statistics(graph: Builder, network: Network, kind: OodStatistics) -> None:
    """Add the nodes from the features, or from activations, to the statistics, float32 (n, d).

    The activations are the first ones outside residual blocks; a network without any has its input's statistics. They
    are mean and L2 norm of each channel's map, and the logarithms of these norms and of those of the differences of
    neighbors above each other and side by side.
    """
    least = np.array([MIN_NORM], np.float32)
    if kind == "features":
        last = graph.add_constant("ood.axis", np.array([1], np.int64))
        length = graph.add_node("ReduceL2", "ood.length", [FEATURES, last])
        divisor = graph.add_node("Max", "ood.divisor", [length, graph.add_constant("ood.least", least)])
        graph.add_node("Div", STATISTICS, [FEATURES, divisor])
        return
    layer = _first_activation(network)
    maps = graph.output_of(layer.name) if layer else NETWORK_INPUT
    axes = graph.add_constant("ood.axes", np.array([Y_AXIS, X_AXIS], np.int64))
    parts = [graph.add_node(f"Reduce{name}", f"ood.{name}", [maps, axes], keepdims=0) for name in ("Mean", "L2")]
    if statistics_count(network, kind) > 2 * _measured_shape(network)[-1]:
        norms = [graph.add_node("ReduceL2", f"{x}.L2", [x, axes], keepdims=0) for x in _add_differences(graph, maps)]
        all_norms = graph.add_node("Concat", "ood.norms", [parts[1], *norms], axis=1)
        positive = graph.add_node("Add", "ood.positive", [all_norms, graph.add_constant("ood.least", least)])
        parts.append(graph.add_node("Log", "ood.log", [positive]))
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


def _first_activation(network: Network) -> Layer | None:
    return next((x for x in network.layers if isinstance(x, Activation) and len(x.output_shape) == 3), None)


def _measured_shape(network: Network) -> tuple[int, ...]:
    """Shape of the values whose statistics are measured, (height, width, channels)."""
    layer = _first_activation(network)
    return layer.output_shape if layer else network.input_shape


def _add_differences(graph: Builder, maps: str) -> tuple[str, str]:
    """Add the differences of neighbors above each other, and side by side."""

    def add_slice(name: str, value: str, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> str:
        steps = [ROW_STEP if axis == Y_AXIS else 1 for axis in axes]
        bounds = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
        numbers = [graph.add_constant(f"ood.{name}.{part}", np.array(x, np.int64)) for part, x in bounds.items()]
        return graph.add_node("Slice", f"ood.{name}", [value, *numbers])

    upper = add_slice("upper", maps, (CHANNEL_AXIS, Y_AXIS), (0, 0), (MAX_CHANNELS, -1))
    lower = add_slice("lower", maps, (CHANNEL_AXIS, Y_AXIS), (0, 1), (MAX_CHANNELS, END))
    left = add_slice("left", upper, (X_AXIS,), (0,), (-1,))
    right = add_slice("right", upper, (X_AXIS,), (1,), (END,))
    return graph.add_node("Sub", "ood.y", [lower, upper]), graph.add_node("Sub", "ood.x", [right, left])
