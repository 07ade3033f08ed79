"""Vectors: `flatten`, `dense`, and the classifier's softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from convscope.network.grammar import Option
from convscope.network.layers.base import Layer, Shape
from convscope.network.layers.context import Keyword, LayerContext
from convscope.network.layers.convolution import Initialization, initialization_of


@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """Feature maps to one vector, in row, column, channel order."""


@dataclass(frozen=True, kw_only=True)
class Dense(Layer):
    """Fully connected layer with a bias.

    Attributes:
        units: Number of outputs.
        initialization: Rule for the initial weights.
    """

    units: int
    initialization: Initialization

    @property
    def parameters(self) -> int:
        return (self.input_shape[0] + 1) * self.units

    @property
    def multiply_adds(self) -> int:
        return self.input_shape[0] * self.units

    @property
    def tensors(self) -> Mapping[str, Shape]:
        return {"weight": (self.units, self.input_shape[0]), "bias": (self.units,)}


@dataclass(frozen=True, kw_only=True)
class Softmax(Layer):
    """Logits to probabilities that sum to 1."""


def _dense(context: LayerContext) -> Dense:
    units = context.value(0)
    return Dense(**context.fields((units,)), units=units, initialization=initialization_of(context))


DENSE_KEYWORDS = {
    "flatten": Keyword(
        example="flatten", input="maps", build=lambda context: Flatten(**context.fields((prod(context.input_shape),)))
    ),
    "dense": Keyword(
        example="dense 100",
        values=("number of units",),
        options={"init": Option(("he", "glorot"))},
        input="vector",
        build=_dense,
    ),
}
