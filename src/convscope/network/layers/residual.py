"""Residual blocks: `residual(...)`."""

from __future__ import annotations

from dataclasses import dataclass

from convscope.network.layers.base import Layer, Shape, shape_text
from convscope.network.layers.context import Keyword, LayerContext
from convscope.network.layers.convolution import Conv


@dataclass(frozen=True, kw_only=True)
class Residual(Layer):
    """`body(x) + x` (He et al., 2015), or `body(x) + projection(x)`.

    Attributes:
        body: The layers inside the block.
        projection: A 1x1 convolution if the body changes the shape, else None.
    """

    body: tuple[Layer, ...]
    projection: Conv | None

    @property
    def children(self) -> tuple[Layer, ...]:
        return (*self.body, self.projection) if self.projection else self.body

    @property
    def named_children(self) -> list[tuple[str, Layer]]:
        named = super().named_children
        body = [(f"body.{name}", layer) for name, layer in named[: len(self.body)]]
        return body + named[len(self.body) :]


def _residual(context: LayerContext) -> Residual:
    body = context.inference.build_layers(context.node.body, context.input_shape, context.following)
    output_shape = body[-1].output_shape
    projection = None if output_shape == context.input_shape else _projection(context, output_shape)
    return Residual(**context.fields(output_shape), body=body, projection=projection)


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


RESIDUAL_KEYWORDS = {
    "residual": Keyword(example="residual(conv 16 3 pad same, relu)", has_body=True, input="maps", build=_residual),
}
