"""The arithmetic of any single value that a layer computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import sqrt

import numpy as np
from pydantic import ConfigDict, computed_field

from convscope import reference
from convscope._records import Record
from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.errors import UsageError
from convscope.evaluation.trace import LayerTrace
from convscope.network.layers.base import Layer, shape_text
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense, Flatten, Softmax
from convscope.network.layers.elementwise import Activation, BatchNorm, Dropout
from convscope.network.layers.pooling import GlobalAvgPool, GlobalMaxPool, Pool
from convscope.network.layers.residual import Residual
from convscope.network.layers.squeeze_excite import SqueezeExcite

FLOAT32_TOLERANCE = 1e-5  # of a recomputed value, relative to the sizes of its terms

Index = tuple[int, ...]  # (row, column, channel) of feature maps, (index,) of a vector


class Term(Record):
    """One addend of a value.

    Attributes:
        source: Where it comes from, such as the index `[3,4,0]` of the layer's input.
        value: The number found there.
        weight: The factor it is multiplied by.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    source: str
    value: float
    weight: float = 1.0

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented use
    @property
    def product(self) -> float:
        """value * weight."""
        return self.value * self.weight


class CellExplanation(Record):
    """How one output value of a layer is computed.

    Attributes:
        layer: Name of the layer.
        index: (row, column, channel) of feature maps, (index,) of a vector.
        rule: The computation in words.
        terms: Its addends; empty if the layer's arithmetic is not known here.
        bias: Added to the sum of the terms.
        value: The result, recomputed in float64.
        model_value: The float32 result of the model.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    layer: str
    index: Index
    rule: str
    terms: tuple[Term, ...]
    bias: float
    value: float
    model_value: float

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented use
    @property
    def agrees(self) -> bool:
        """Whether both results are equal within float32 rounding."""
        size = 1 + sum(abs(term.product) for term in self.terms) + abs(self.bias)
        return abs(self.value - self.model_value) <= FLOAT32_TOLERANCE * size


def explain_cell(traces: dict[str, LayerTrace], layer: str, index: Index) -> CellExplanation:
    """Recompute one output value from the layer's input, term by term.

    Args:
        traces: As returned by `trace`.
        layer: Name of a layer; one inside a block may be given with its path, `residual1.body.conv2`.
        index: (row, column, channel) of feature maps, (index,) of a vector.

    Raises:
        UsageError: If the network has no such layer or the layer no such index.
    """
    layer = re.split(r"\.(?:body|shortcut)\.", layer)[-1]
    if layer not in traces:
        raise UsageError(f"unknown layer {layer!r}: layers are {', '.join(traces)}")
    traced = traces[layer]
    shape = traced.output.shape
    if len(index) != len(shape) or any(not 0 <= i < size for i, size in zip(index, shape, strict=True)):
        wanted = "ROW,COLUMN,CHANNEL" if len(shape) == 3 else "INDEX"
        given = ",".join(map(str, index))
        raise UsageError(f"expected {layer},{wanted} within {shape_text(shape)}, counted from 0, got {layer},{given}")
    rule, terms, bias, value = LAYER_ARITHMETIC.get(type(traced.layer), _unknown)(traced, index)
    return CellExplanation(
        layer=layer,
        index=index,
        rule=rule,
        terms=tuple(terms),
        bias=bias,
        value=value,
        model_value=float(traced.output[index]),
    )


Arithmetic = tuple[str, Iterable[Term], float, float]  # rule, terms, bias, value


def _sum(rule: str, terms: list[Term], bias: float = 0.0) -> Arithmetic:
    return rule, terms, bias, sum(term.product for term in terms) + bias


def _term(source: Iterable[int] | str, value: float, weight: float = 1.0) -> Term:
    text = source if isinstance(source, str) else f"[{','.join(map(str, source))}]"
    return Term(source=text, value=float(value), weight=float(weight))


def _unknown(traced: LayerTrace, index: Index) -> Arithmetic:
    """For layers without an entry in `LAYER_ARITHMETIC`."""
    return "the result of the model; its arithmetic is not available", [], 0.0, float(traced.output[index])


def _conv(traced: LayerTrace, index: Index) -> Arithmetic:
    layer = traced.layer
    assert isinstance(layer, Conv)
    pad = layer.padding[0] if len(set(layer.padding)) == 1 else "same"
    kernel = traced.weights["weight"].transpose(2, 3, 1, 0)
    row, column, filter_ = index
    found, _, bias = reference.cell_terms(
        traced.input, kernel, (row, column, filter_), traced.weights.get("bias"), layer.stride, pad, layer.groups
    )
    terms = [_term((t.row, t.column, t.channel), t.pixel, t.weight) for t in found]
    return _sum("the sum of input x weight, plus bias", terms, bias)


def _dense(traced: LayerTrace, index: Index) -> Arithmetic:
    weights = traced.weights["weight"][index[0]]
    terms = [_term((i,), x, w) for i, (x, w) in enumerate(zip(traced.input, weights, strict=True))]
    return _sum("the sum of input x weight, plus bias", terms, float(traced.weights["bias"][index[0]]))


def _batch_norm(traced: LayerTrace, index: Index) -> Arithmetic:
    layer = traced.layer
    assert isinstance(layer, BatchNorm)
    channel = {name: float(array[index[-1]]) for name, array in traced.weights.items() if array.ndim}
    scale = channel["weight"] / sqrt(channel["running_var"] + layer.epsilon)
    shift = channel["bias"] - channel["running_mean"] * scale
    rule = (
        f"(input - mean {channel['running_mean']:.6g}) / sqrt(variance {channel['running_var']:.6g} + "
        f"{layer.epsilon:g}) x weight {channel['weight']:.6g} + bias {channel['bias']:.6g}, written as one "
        "product and one sum"
    )
    return _sum(rule, [_term(index, traced.input[index], scale)], shift)


def _activation(traced: LayerTrace, index: Index) -> Arithmetic:
    layer = traced.layer
    assert isinstance(layer, Activation)
    x = np.float64(traced.input[index])
    return layer.function.rule, [_term(index, x)], 0.0, float(layer.function.forward(np.array(x)))


def _pool(traced: LayerTrace, index: Index) -> Arithmetic:
    layer = traced.layer
    assert isinstance(layer, Pool)
    height, width, _ = traced.input.shape
    top, left = index[0] * layer.stride - layer.padding[0], index[1] * layer.stride - layer.padding[2]
    rows = range(max(top, 0), min(top + layer.kernel_size, height))
    columns = range(max(left, 0), min(left + layer.kernel_size, width))
    window = [(row, column, index[2]) for row in rows for column in columns]
    return _reduce(traced, window, layer.kind, layer.function.rule)


def _reduce(traced: LayerTrace, cells: Sequence[Index], kind: str, rule: str) -> Arithmetic:
    """The average, maximum or minimum of some input values."""
    if kind == "average":
        return _sum(rule, [_term(cell, traced.input[cell], 1 / len(cells)) for cell in cells])
    terms = [_term(cell, traced.input[cell]) for cell in cells]
    return rule, terms, 0.0, float(reference.POOL_FUNCTIONS[kind]([term.value for term in terms]))


def _map(traced: LayerTrace, channel: int) -> list[Index]:
    return [(row, column, channel) for row, column in np.ndindex(traced.input.shape[:2])]


def _global_average(traced: LayerTrace, index: Index) -> Arithmetic:
    return _reduce(traced, _map(traced, index[0]), "average", "the mean of the feature map")


def _global_max(traced: LayerTrace, index: Index) -> Arithmetic:
    return _reduce(traced, _map(traced, index[0]), "max", "the largest value of the feature map")


def _flatten(traced: LayerTrace, index: Index) -> Arithmetic:
    height, width, channels = traced.input.shape
    source = reference.flatten_source(index[0], (height, width, channels))
    return _sum("the same value, in row, column, channel order", [_term(source, traced.input[source])])


def _dropout(traced: LayerTrace, index: Index) -> Arithmetic:
    return _sum("the same value: dropout acts only during training", [_term(index, traced.input[index])])


def _softmax(traced: LayerTrace, index: Index) -> Arithmetic:
    calibration = TemperatureScaling(**{name: float(value) for name, value in traced.weights.items()})
    temperature, exponent = calibration.temperature, calibration.exponent
    divided = "" if temperature == 1 else f" / {temperature:.6g}"
    scaled, largest = calibration.scale(traced.input[None])[0], float(traced.input.max())
    if exponent == 1:
        sources = [f"exp([{i}]{divided} - {largest / temperature:.6g})" for i in range(len(scaled))]
    else:
        sources = [f"exp(-({largest:.6g} - [{i}])**{exponent:.6g}{divided})" for i in range(len(scaled))]
    terms = [_term(source, value) for source, value in zip(sources, np.exp(scaled), strict=True)]
    rule = f"exp of its own logit, {terms[index[0]].value:.6g}, divided by the sum of all"
    return rule, terms, 0.0, float(reference.softmax(scaled)[index])


def _residual(traced: LayerTrace, index: Index) -> Arithmetic:
    at = f"[{','.join(map(str, index))}]"
    terms = [_term(f"{part} {at}", traced.weights[part][index]) for part in ("body", "shortcut")]
    return _sum("the output of the body, plus the shortcut", terms)


def _squeeze_excite(traced: LayerTrace, index: Index) -> Arithmetic:
    factor = float(traced.weights["factors"][index[-1]])
    return _sum("the input x the factor of its map", [_term(index, traced.input[index], factor)])


# The arithmetic of each layer. An entry is optional: a layer without one shows only its result.
LAYER_ARITHMETIC: dict[type[Layer], Callable[[LayerTrace, Index], Arithmetic]] = {
    Conv: _conv,
    Dense: _dense,
    BatchNorm: _batch_norm,
    Activation: _activation,
    Dropout: _dropout,
    Pool: _pool,
    GlobalAvgPool: _global_average,
    GlobalMaxPool: _global_max,
    Flatten: _flatten,
    Softmax: _softmax,
    Residual: _residual,
    SqueezeExcite: _squeeze_excite,
}
