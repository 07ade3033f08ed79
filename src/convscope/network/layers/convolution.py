"""Convolutions: `conv` and `whiten`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, cast

from convscope.network.activations import ACTIVATIONS
from convscope.network.grammar import Option
from convscope.network.layers.base import Layer, Shape
from convscope.network.layers.context import Keyword, LayerContext
from convscope.network.layers.window import NO_PADDING, PADDING_OPTION, Padding, padding_of, window_output
from convscope.network.pools import POOLS

Initialization = Literal["he", "glorot", "identity", "whiten"]


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """Cross-correlation with square kernels.

    Attributes:
        filters: Number of output channels.
        kernel_size: Side of the kernels.
        stride: Step between windows, in both directions.
        padding: Zeros added at the (top, bottom, left, right).
        groups: Number of equal parts into which input channels and filters are divided.
        bias: Whether each filter has a bias.
        initialization: Rule for the initial weights; "whiten" takes them from the training images and freezes them.
    """

    filters: int
    kernel_size: int
    stride: int = 1
    padding: Padding = NO_PADDING
    groups: int = 1
    bias: bool = True
    initialization: Initialization

    @property
    def parameters(self) -> int:
        return self._weights_per_filter * self.filters + (self.filters if self.bias else 0)

    @property
    def multiply_adds(self) -> int:
        return self._weights_per_filter * prod(self.output_shape)

    @property
    def tensors(self) -> Mapping[str, Shape]:
        weight = (self.filters, self.input_shape[-1] // self.groups, self.kernel_size, self.kernel_size)
        return {"weight": weight} | ({"bias": (self.filters,)} if self.bias else {})

    @property
    def _weights_per_filter(self) -> int:
        return self.kernel_size**2 * self.input_shape[-1] // self.groups


def initialization_of(context: LayerContext) -> Initialization:
    """The rule for the initial weights: option `init`, else the rule of the activation that follows, else Glorot.

    Layers without weights may come between; the search ends at the next layer with weights and at a block.
    """
    if option := context.node.option("init"):
        return cast("Initialization", option.text)
    for word in context.following_keywords():
        if word in ACTIVATIONS:
            return ACTIVATIONS[word].initialization
        keyword = context.inference.keywords[word]
        if keyword.has_body or "init" in keyword.options:
            break
    return "glorot"


def _conv(context: LayerContext) -> Conv:
    filters, kernel_size = context.value(0), context.value(1)
    stride, groups = context.option("stride"), context.option("groups")
    channels = context.input_shape[-1]
    if channels % groups or filters % groups:
        context.fail(f"groups {groups} must divide both the {channels} input channels and the {filters} filters")
    initialization = initialization_of(context)
    if groups > 1 and initialization == "identity":
        context.fail("'init identity' does not work with groups, which separate the channels: remove one of them")
    padding = padding_of(context, kernel_size, stride)
    output = window_output(context, kernel_size, stride, padding)
    return Conv(
        **context.fields((*output, filters)),
        filters=filters,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        groups=groups,
        bias=not _feeds_batch_norm(context),
        initialization=initialization,
    )


def _feeds_batch_norm(context: LayerContext) -> bool:
    """Whether batch normalization follows, perhaps after pooling: it would subtract a bias again."""
    pools = {pool.keyword for pool in POOLS.values()}
    return next((word for word in context.following_keywords() if word not in pools), "") == "batchnorm"


def _whiten(context: LayerContext) -> Conv:
    if not context.is_first:
        context.fail("'whiten' must be the first layer: its kernels are computed from patches of the images")
    kernel_size = context.value(0)
    filters = 2 * kernel_size**2 * context.input_shape[-1]
    return Conv(
        **context.fields((*window_output(context, kernel_size, 1), filters)),
        filters=filters,
        kernel_size=kernel_size,
        bias=False,
        initialization="whiten",
    )


CONVOLUTION_KEYWORDS = {
    "conv": Keyword(
        example="conv 32 3",
        values=("number of filters", "kernel size"),
        options={
            "stride": Option(minimum=1),
            "pad": PADDING_OPTION,
            "groups": Option(minimum=1),
            "init": Option(("he", "glorot", "identity")),
        },
        input="maps",
        build=_conv,
    ),
    "whiten": Keyword(example="whiten 2", values=("kernel size",), input="maps", build=_whiten),
}
