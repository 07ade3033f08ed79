"""Layers that keep the shape: activations, `batchnorm` and `dropout`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from convscope.network.activations import ACTIVATIONS, ActivationFunction
from convscope.network.grammar import Option
from convscope.network.layers.base import Layer, Shape
from convscope.network.layers.context import Keyword, LayerContext

BATCH_NORM_EPSILON = 1e-5  # PyTorch's default
EPSILON_RANGE = 1e-12, 1.0


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """An elementwise function.

    Attributes:
        kind: A key of `ACTIVATIONS`.
    """

    kind: str

    @property
    def function(self) -> ActivationFunction:
        """The row of `ACTIVATIONS`."""
        return ACTIVATIONS[self.kind]


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Layer):
    """Batch normalization over the channels (Ioffe and Szegedy, 2015), with scale and shift.

    Attributes:
        epsilon: Added to the variance.
    """

    epsilon: float

    @property
    def parameters(self) -> int:
        return 2 * self.input_shape[-1]

    @property
    def multiply_adds(self) -> int:
        return prod(self.input_shape)

    @property
    def tensors(self) -> Mapping[str, Shape]:
        shape = self.input_shape[-1:]
        parts = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), shape)
        return {**parts, "num_batches_tracked": ()}


@dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    """Sets each value to zero with probability `rate` during training (Srivastava et al., 2014)."""

    rate: float


def _dropout(context: LayerContext) -> Dropout:
    (value,) = context.node.values
    rate = float(value.text)
    if not 0 <= rate < 1:
        context.fail_at_value(value, f"expected a dropout rate of at least 0 and below 1, got {value.text}")
    return Dropout(**context.fields(), rate=rate)


def _batch_norm(context: LayerContext) -> BatchNorm:
    option = context.node.option("eps")
    epsilon = BATCH_NORM_EPSILON if option is None else float(option.text)
    low, high = EPSILON_RANGE
    if option and not low <= epsilon <= high:
        context.fail_at_value(option, f"expected a number from {low:g} to {high:g}, got {option.text!r}")
    return BatchNorm(**context.fields(), epsilon=epsilon)


ELEMENTWISE_KEYWORDS = {
    **{
        name: Keyword(example=name, build=lambda context: Activation(**context.fields(), kind=context.keyword))
        for name in ACTIVATIONS
    },
    "batchnorm": Keyword(example="batchnorm", options={"eps": Option(is_decimal=True)}, build=_batch_norm),
    "dropout": Keyword(example="dropout 0.5", values=("rate",), build=_dropout),
}
