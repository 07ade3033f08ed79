"""A look inside a trained network: what every layer made of one image, and the arithmetic of any one cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import erf, exp, sqrt, tanh
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import computed_field
from torch import Tensor, nn

from convscope import reference
from convscope.backends.pytorch.models import as_batch
from convscope.errors import UsageError
from convscope.network.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    Network,
    Pool,
    Residual,
    Softmax,
    shape_text,
)

STEPS = 32  # of the integral, at Gauss's and Legendre's places

Floats = NDArray[np.float32]
Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Step:
    """One layer at work: float32 input and output, (h, w, c) maps or (n,) vectors, and its tensors by name."""

    layer: Layer
    input: Floats
    output: Floats
    weights: Weights


@dataclass(frozen=True)
class Term:
    """One addend: the value that arrived from `source`, and the weight it is multiplied with."""

    source: str
    value: float
    weight: float = 1.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def product(self) -> float:
        return self.value * self.weight


@dataclass(frozen=True)
class Cell:
    """The arithmetic of one output cell, recomputed in float64, beside the float32 that the network computed."""

    layer: str
    place: tuple[int, ...]
    rule: str
    terms: tuple[Term, ...]
    bias: float
    value: float
    network: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def agrees(self) -> bool:
        """Whether both are equal within float32 rounding of the terms' size."""
        size = 1 + sum(abs(term.product) for term in self.terms) + abs(self.bias)
        return abs(self.value - self.network) <= 1e-5 * size


def trace(model: nn.Sequential, network: Network, image: Floats) -> dict[str, Step]:
    """Every layer's input and output for one preprocessed image, float32 (h, w, c), by layer name in order.

    The model must be in evaluation mode, as `Run.model` returns it.
    """
    steps: dict[str, Step] = {}
    with torch.inference_mode():
        _follow(network.layers, model, as_batch(image[None]), steps)
    return steps


def cell(steps: dict[str, Step], layer: str, place: tuple[int, ...]) -> Cell:
    """The arithmetic of the cell at `place`, (row, column, channel) of maps or (index,) of a vector.

    A layer inside a block may be called as in the weights file, `residual1.body.conv2`, or by its own name, `conv2`.
    Raises UsageError for a layer or a place that the network does not have.
    """
    layer = layer.split(".body.")[-1]
    if layer not in steps:
        raise UsageError(f"unknown layer {layer!r}: this network has {', '.join(steps)}")
    step = steps[layer]
    shape = step.output.shape
    if len(place) != len(shape) or any(not 0 <= i < size for i, size in zip(place, shape, strict=True)):
        wanted = "ROW,COLUMN,CHANNEL" if len(shape) == 3 else "INDEX"
        raise UsageError(f"{layer} has {shape_text(shape)} cells, so give {layer},{wanted} within them, counted from 0")
    rule, terms, bias, value = ARITHMETIC[type(step.layer)](step, place)
    return Cell(layer, place, rule, tuple(terms), bias, value, float(step.output[place]))


def attribution(model: nn.Sequential, image: Floats, target: int) -> Floats:
    """How much each pixel spoke for class `target`: float32 (h, w), summed over channels.

    Integrated gradients (Sundararajan et al., 2017) from an input of zeros, which is a black image under plain
    preprocessing and the training images' mean color where they are standardized. The values add up to the
    difference between the two inputs' logits, but for the error of 32 steps.
    """
    pixels = as_batch(image[None])
    places, weights = np.polynomial.legendre.leggauss(STEPS)  # on -1..1
    steps = [torch.from_numpy(values / 2).float().reshape(-1, 1, 1, 1) for values in (places + 1, weights)]
    inputs = (steps[0] * pixels).requires_grad_()
    (gradients,) = torch.autograd.grad(model(inputs)[:, target].sum(), inputs)
    result: Floats = ((steps[1] * gradients).sum(0) * pixels[0]).sum(0).float().numpy()
    return result


def _follow(layers: Iterable[Layer], modules: nn.Module, x: Tensor, steps: dict[str, Step]) -> None:
    for layer in layers:
        if isinstance(layer, Softmax):
            y, module = x.softmax(1), None
        else:
            module = modules.get_submodule(layer.name)
            y = module(x)
        weights = _weights(module)
        if isinstance(layer, Residual) and module is not None:
            _follow(layer.body, module.get_submodule("body"), x, steps)
            shortcut = module.get_submodule("projection")
            weights |= {"block": steps[layer.body[-1].name].output, "around": _plain(shortcut(x))}
            if layer.projection:
                name = layer.projection.name
                steps[name] = Step(layer.projection, _plain(x), weights["around"], _weights(shortcut))
        steps[layer.name] = Step(layer, _plain(x), _plain(y), weights)
        x = y


def _plain(x: Tensor) -> Floats:
    """One image's maps (1, c, h, w) -> (h, w, c), or a vector (1, n) -> (n,)."""
    result: Floats = (x[0].permute(1, 2, 0) if x.dim() == 4 else x[0]).numpy()
    return result


def _weights(module: nn.Module | None) -> Weights:
    """`weight`, `bias`, ... of a layer's own module."""
    state = module.state_dict() if module is not None else {}
    return {name.removeprefix("conv."): tensor.numpy() for name, tensor in state.items()}


Arithmetic = tuple[str, Iterable[Term], float, float]


def _sum(rule: str, terms: list[Term], bias: float = 0.0) -> Arithmetic:
    return rule, terms, bias, sum(term.product for term in terms) + bias


def _at(place: Iterable[int]) -> str:
    return f"[{','.join(map(str, place))}]"


def _conv(step: Step, place: tuple[int, ...]) -> Arithmetic:
    layer = step.layer
    assert isinstance(layer, Conv)
    pad = layer.padding[0] if len(set(layer.padding)) == 1 else "same"
    kernel = step.weights["weight"].transpose(2, 3, 1, 0)
    row, column, filter_ = place
    found, _, bias = reference.cell_terms(
        step.input, kernel, (row, column, filter_), step.weights.get("bias"), layer.stride, pad, layer.groups
    )
    terms = [Term(_at((t.row, t.column, t.channel)), t.pixel, t.weight) for t in found]
    return _sum("the sum of input x weight, plus bias", terms, bias)


def _dense(step: Step, place: tuple[int, ...]) -> Arithmetic:
    weights = step.weights["weight"][place[0]]
    terms = [Term(_at((i,)), float(x), float(w)) for i, (x, w) in enumerate(zip(step.input, weights, strict=True))]
    return _sum("the sum of input x weight, plus bias", terms, float(step.weights["bias"][place[0]]))


def _batch_norm(step: Step, place: tuple[int, ...]) -> Arithmetic:
    part = {name: float(array[place[-1]]) for name, array in step.weights.items() if array.ndim}
    scale = part["weight"] / sqrt(part["running_var"] + 1e-5)
    shift = part["bias"] - part["running_mean"] * scale
    return _sum(
        f"(input - mean {part['running_mean']:.6g}) / sqrt(variance {part['running_var']:.6g} + 1e-05) x weight "
        f"{part['weight']:.6g} + bias {part['bias']:.6g}, which is one product and one sum",
        [Term(_at(place), float(step.input[place]), scale)],
        shift,
    )


def _activation(step: Step, place: tuple[int, ...]) -> Arithmetic:
    layer, x = step.layer, float(step.input[place])
    assert isinstance(layer, Activation)
    rule, function = FUNCTIONS[layer.function]
    return rule, [Term(_at(place), x)], 0.0, function(x)


def _pool(step: Step, place: tuple[int, ...]) -> Arithmetic:
    layer = step.layer
    assert isinstance(layer, Pool)
    top, left, channel = place[0] * layer.stride, place[1] * layer.stride, place[2]
    places = [(top + i, left + j, channel) for i in range(layer.size) for j in range(layer.size)]
    if layer.kind == "average":
        return _sum("the mean of the window", [Term(_at(p), float(step.input[p]), 1 / len(places)) for p in places])
    terms = [Term(_at(p), float(step.input[p])) for p in places]
    choose: Callable[[Iterable[float]], float] = max if layer.kind == "max" else min
    word = "largest" if layer.kind == "max" else "smallest"
    return f"the {word} value of the window", terms, 0.0, choose(term.value for term in terms)


def _global_average(step: Step, place: tuple[int, ...]) -> Arithmetic:
    channel = step.input[:, :, place[0]]
    return _sum(
        "the mean of the map",
        [Term(_at((*p, place[0])), float(x), 1 / channel.size) for p, x in np.ndenumerate(channel)],
    )


def _global_max(step: Step, place: tuple[int, ...]) -> Arithmetic:
    terms = [Term(_at((*p, place[0])), float(x)) for p, x in np.ndenumerate(step.input[:, :, place[0]])]
    return "the largest value of the map", terms, 0.0, max(term.value for term in terms)


def _flatten(step: Step, place: tuple[int, ...]) -> Arithmetic:
    height, width, channels = step.input.shape
    source = reference.flatten_source(place[0], (height, width, channels))
    return _sum("the same value, in the order row, column, channel", [Term(_at(source), float(step.input[source]))])


def _same(step: Step, place: tuple[int, ...]) -> Arithmetic:
    return _sum("the same value: dropout acts only while training", [Term(_at(place), float(step.input[place]))])


def _softmax(step: Step, place: tuple[int, ...]) -> Arithmetic:
    largest = float(step.input.max())
    terms = [Term(f"exp({_at((i,))} - {largest:.6g})", exp(float(x) - largest)) for i, x in enumerate(step.input)]
    share = terms[place[0]].value / sum(term.value for term in terms)
    return f"exp of its own score, {terms[place[0]].value:.6g}, divided by the sum of all", terms, 0.0, share


def _residual(step: Step, place: tuple[int, ...]) -> Arithmetic:
    terms = [Term(f"{part} {_at(place)}", float(step.weights[part][place])) for part in ("block", "around")]
    return _sum("what the block made, plus what went around it", terms)


FUNCTIONS: dict[str, tuple[str, Callable[[float], float]]] = {
    "relu": ("the larger of 0 and the input", lambda x: max(0.0, x)),
    "gelu": ("x times the normal distribution at x", lambda x: x * 0.5 * (1 + erf(x / sqrt(2)))),
    "tanh": ("the hyperbolic tangent of the input", tanh),
}
ARITHMETIC: dict[type[Layer], Callable[[Step, tuple[int, ...]], Arithmetic]] = {
    Conv: _conv,
    Dense: _dense,
    BatchNorm: _batch_norm,
    Activation: _activation,
    Dropout: _same,
    Pool: _pool,
    GlobalAvgPool: _global_average,
    GlobalMaxPool: _global_max,
    Flatten: _flatten,
    Softmax: _softmax,
    Residual: _residual,
}
