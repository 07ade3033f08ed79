"""Pooling: `maxpool`, `minpool`, `avgpool`, `globalavg` and `globalmax`."""

from __future__ import annotations

from dataclasses import dataclass

from convscope.network.grammar import Option
from convscope.network.layers.base import Layer
from convscope.network.layers.context import Keyword, LayerContext
from convscope.network.layers.window import NO_PADDING, PADDING_OPTION, Padding, padding_of, window_output
from convscope.network.pools import POOLS, PoolFunction, PoolKind


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """Reduces each square window to one value per channel.

    Attributes:
        kind: "max", "min" or "average", a key of `POOLS`.
        kernel_size: Side of the windows.
        stride: Step between windows, in both directions.
        padding: Cells added at the (top, bottom, left, right); they are never the result and do not count in a mean.
    """

    kind: PoolKind
    kernel_size: int
    stride: int
    padding: Padding = NO_PADDING

    @property
    def function(self) -> PoolFunction:
        """The row of `POOLS`."""
        return POOLS[self.kind]


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool(Layer):
    """The mean of each feature map."""


@dataclass(frozen=True, kw_only=True)
class GlobalMaxPool(Layer):
    """The largest value of each feature map."""


def _pool(context: LayerContext) -> Pool:
    kernel_size = context.value(0)
    stride = context.option("stride", default=kernel_size)
    kind = next(pool.kind for pool in POOLS.values() if pool.keyword == context.keyword)
    padding = padding_of(context, kernel_size, stride)
    if max(padding) >= kernel_size:
        context.fail(f"expected padding below the window size {kernel_size}, got 'pad {max(padding)}'")
    output = window_output(context, kernel_size, stride, padding)
    fields = context.fields((*output, context.input_shape[-1]))
    return Pool(**fields, kind=kind, kernel_size=kernel_size, stride=stride, padding=padding)


POOLING_KEYWORDS = {
    **{
        pool.keyword: Keyword(
            example=f"{pool.keyword} 2",
            values=("window size",),
            options={"stride": Option(minimum=1), "pad": PADDING_OPTION},
            input="maps",
            build=_pool,
        )
        for pool in POOLS.values()
    },
    "globalavg": Keyword(
        example="globalavg",
        input="maps",
        build=lambda context: GlobalAvgPool(**context.fields(context.input_shape[-1:])),
    ),
    "globalmax": Keyword(
        example="globalmax",
        input="maps",
        build=lambda context: GlobalMaxPool(**context.fields(context.input_shape[-1:])),
    ),
}
