"""The output `ood_score` of a model file: how unlike the training images an image is (out of distribution).

It is a Mahalanobis distance (Lee et al., 2018) of statistics of the image from those of the training images. Their
covariance is that of probabilistic PCA (Tipping and Bishop, 1999): some components and one variance for the rest, so
the squared distance is |z|^2 - |z C|^2 for suitable scales of z, the centered statistics, and C, which is stored in
16 bits. A network trained from scratch knows little about what it has not seen, so that its statistics are low-level:
those of its first activations, and the energy of the logits (Liu et al., 2020), -log(sum(exp(logits))), is added. A
published backbone has seen many kinds of images: its statistics are its features, divided by their length.
`evaluation.ood` measures the constants; dev/LOG.md compares the score with others.
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

MAX_STATISTICS = 256  # of means and norms, two per channel; more let more unlike images pass, see dev/LOG.md
MAX_TEXTURE_STATISTICS = 512  # with textures
PARAMETERS_PER_STATISTIC = 256  # at least: the constants of a small network must not be larger than its weights
COLOR_CHANNELS = 3  # at least; in gray drawings, textures let more unlike images pass
MAX_CHANNELS, ROW_STEP = 16, 2  # textures are those of the first 16 channels, in every second row
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
    layers = _measured_layers(network)
    channels = sum(layer.output_shape[-1] for layer in layers) or network.input_shape[-1]
    return _with_textures(channels) if _has_textures(network) else 2 * channels


def add_statistics(graph: Builder, network: Network, kind: OodStatistics) -> None:
    """Add the nodes from the features, or from activations, to the statistics, float32 (n, d).

    The activations are the first ones outside residual blocks; a network without any has its input's statistics. They
    are mean and L2 norm of each channel's map. Networks for color images have textures, too: the logarithms of these
    norms and of those of the differences of neighbors above each other and side by side.
    """
    if kind == "features":
        last = graph.add_constant("ood.axis", np.array([1], np.int64))
        length = graph.add_node("ReduceL2", "ood.length", [FEATURES, last])
        divisor = graph.add_node("Max", "ood.divisor", [length, _add_min_norm(graph)])
        graph.add_node("Div", STATISTICS, [FEATURES, divisor])
        return
    axes = graph.add_constant("ood.axes", np.array([Y_AXIS, X_AXIS], np.int64))
    measured = {layer.name: graph.output_of(layer.name) for layer in _measured_layers(network)}
    parts = []
    for name, maps in (measured or {"input": NETWORK_INPUT}).items():
        parts.append(graph.add_node("ReduceMean", f"ood.{name}.mean", [maps, axes], keepdims=0))
        parts.append(graph.add_node("ReduceL2", f"ood.{name}.norm", [maps, axes], keepdims=0))
    if _has_textures(network):
        differences = _add_differences(graph, next(iter(measured.values())))
        norms = [graph.add_node("ReduceL2", f"{name}.norm", [name, axes], keepdims=0) for name in differences]
        all_norms = graph.add_node("Concat", "ood.norms", [parts[1], *norms], axis=1)
        positive = graph.add_node("Add", "ood.positive", [all_norms, _add_min_norm(graph)])
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
    explained = graph.add_node("ReduceSumSquare", "ood.inside", [projected, last])
    evidence = graph.add_node("ReduceLogSumExp", "ood.lse", [LOGITS, last])
    scaled = graph.add_node("Mul", "ood.scaled", [evidence, ENERGY_SCALE])
    like = graph.add_node("Sum", "ood.like", [explained, scaled, OFFSET])
    graph.add_node("Sub", OOD_SCORE, [square, like])


def _activations(network: Network) -> list[Layer]:
    """Of feature maps, outside residual blocks."""
    return [layer for layer in network.layers if isinstance(layer, Activation) and len(layer.output_shape) == 3]


def _with_textures(channels: int) -> int:
    """The number of statistics if there are textures."""
    return 3 * channels + 2 * min(channels, MAX_CHANNELS)


def _has_textures(network: Network) -> bool:
    """Whether textures are measured: in color images, unless there would be too many statistics."""
    activations, most = _activations(network), network.parameters // PARAMETERS_PER_STATISTIC
    if not activations or network.input_shape[-1] < COLOR_CHANNELS:
        return False
    height, width, channels = activations[0].output_shape
    return min(height, width) > 1 and _with_textures(channels) <= min(MAX_TEXTURE_STATISTICS, most)


def _measured_layers(network: Network) -> list[Layer]:
    """The first activation, and without textures as many of the next as there may be statistics for."""
    activations = _activations(network)
    if _has_textures(network):
        return activations[:1]
    most = min(MAX_STATISTICS, network.parameters // PARAMETERS_PER_STATISTIC)
    counts = np.cumsum([2 * layer.output_shape[-1] for layer in activations])
    return activations[: max(1, int(np.searchsorted(counts, most, "right")))]


def _add_min_norm(graph: Builder) -> str:
    """Add `MIN_NORM`."""
    return graph.add_constant("ood.least", np.array([MIN_NORM], np.float32))


def _add_differences(graph: Builder, maps: str) -> tuple[str, str]:
    """Add the differences of neighbors above each other, and of neighbors side by side; return both names."""

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
