"""Residual blocks: `residual(...)`, with `shortcut(...)` inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from convscope.network.grammar import Node, fail_at
from convscope.network.layers.base import Layer, Shape, shape_text
from convscope.network.layers.context import Keyword, LayerContext
from convscope.network.layers.convolution import Conv


@dataclass(frozen=True, kw_only=True)
class Residual(Layer):
    """`body(x) + shortcut(x)` (He et al., 2015).

    Attributes:
        body: The layers inside the block.
        shortcut: The layers in `shortcut(...)`; without any, the shortcut is x itself or the projection.
        projection: A 1x1 convolution if the body changes the shape and there is no `shortcut(...)`, else None.
    """

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...]
    projection: Conv | None

    @property
    def children(self) -> tuple[Layer, ...]:
        return tuple(layer for _, layer in self.named_children)

    @property
    def named_children(self) -> list[tuple[str, Layer]]:
        parts = ("body", self.body), ("shortcut", self.shortcut)
        named = [(f"{part}.{layer.name}", layer) for part, layers in parts for layer in layers]
        return [*named, ("projection", self.projection)] if self.projection else named


def _residual(context: LayerContext) -> Residual:
    *nodes, last = context.node.body
    has_shortcut = bool(nodes) and last.keyword.text == SHORTCUT
    body = _layers(context, tuple(nodes) if has_shortcut else context.node.body)
    shape = body[-1].output_shape
    shortcut = _shortcut(context, last, shape) if has_shortcut else ()
    projection = None if has_shortcut or shape == context.input_shape else _projection(context, shape)
    return Residual(**context.fields(shape), body=body, shortcut=shortcut, projection=projection)


def _layers(context: LayerContext, nodes: tuple[Node, ...]) -> tuple[Layer, ...]:
    return context.inference.build_layers(nodes, context.input_shape, context.following)


def _shortcut(context: LayerContext, node: Node, output_shape: Shape) -> tuple[Layer, ...]:
    layers = _layers(context, node.body)
    found = layers[-1].output_shape
    if found != output_shape:
        message = (
            f"expected {shape_text(output_shape)} as from the layers before 'shortcut', got {shape_text(found)}: "
            "use the same number of filters, strides and padding"
        )
        fail_at(context.inference.architecture, node.keyword, node.last_token, message)
    return layers


def _fail_misplaced(context: LayerContext) -> NoReturn:
    context.fail(f"'shortcut' must be the last of several layers in residual(...), as in {SHORTCUT_EXAMPLE!r}")


def _projection(context: LayerContext, output_shape: Shape) -> Conv:
    height, width, _ = context.input_shape
    strides = range(1, max(height, width) + 1)
    stride = next((s for s in strides if (-(-height // s), -(-width // s)) == output_shape[:-1]), None)
    if stride is None:
        context.fail(
            f"no 1x1 projection can turn the block's input of {shape_text(context.input_shape)} into its output of "
            f"{shape_text(output_shape)}: use 'pad same' inside residual(...)"
        )
    filters = output_shape[-1]
    return Conv(
        name=f"{context.name}.projection",
        source=f"conv {filters} 1 stride {stride}",
        input_shape=context.input_shape,
        output_shape=output_shape,
        filters=filters,
        kernel_size=1,
        stride=stride,
        bias=False,
        initialization="glorot",
    )


SHORTCUT, SHORTCUT_EXAMPLE = "shortcut", "residual(conv 16 3 pad same, relu, shortcut(conv 16 1, batchnorm))"

RESIDUAL_KEYWORDS = {
    SHORTCUT: Keyword(example=SHORTCUT_EXAMPLE, has_body=True, build=_fail_misplaced),
    "residual": Keyword(example="residual(conv 16 3 pad same, relu)", has_body=True, input="maps", build=_residual),
}
