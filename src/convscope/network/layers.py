"""Layer records: frozen facts about one layer in its place, from which everything else is made.

torch modules (`models`), the cost table (`Network.table`) and the ONNX graph (`export`) all read these
records. Shapes are `(height, width, channels)` for feature maps and `(units,)` for vectors; costs are for
one image. A multiply-add is one multiplication with its addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from math import prod
from typing import Literal

Shape = tuple[int, ...]
Initialization = Literal["he", "glorot", "identity", "whiten"]
PoolKind = Literal["max", "min", "average"]
Function = Literal["relu", "gelu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What every record knows: a unique name, its source text in the architecture line, and its shapes."""

    name: str
    source: str
    input_shape: Shape
    output_shape: Shape

    @property
    def parameters(self) -> int:
        """Numbers that are learned from the training images."""
        return 0

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the forward pass for one image."""
        return 0

    @property
    def activation_bytes(self) -> int:
        """Bytes of this layer's float32 output for one image."""
        return 4 * prod(self.output_shape)


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """Cross-correlation with `filters` kernels of `kernel` x `kernel`.

    `padding` counts the zero cells added at (top, bottom, left, right). Kernels that `whiten` come from the training
    images and stay as they are.
    """

    filters: int
    kernel: int
    stride: int
    padding: tuple[int, int, int, int]
    groups: int
    bias: bool
    initialization: Initialization

    @property
    def parameters(self) -> int:
        return self._weights_per_filter * self.filters + (self.filters if self.bias else 0)

    @property
    def multiply_adds(self) -> int:
        return self._weights_per_filter * prod(self.output_shape)

    @property
    def _weights_per_filter(self) -> int:
        return self.kernel**2 * self.input_shape[-1] // self.groups


@dataclass(frozen=True, kw_only=True)
class Dense(Layer):
    """Every input times every weight, plus a bias, for each unit."""

    units: int
    initialization: Initialization

    @property
    def parameters(self) -> int:
        return (self.input_shape[0] + 1) * self.units

    @property
    def multiply_adds(self) -> int:
        return self.input_shape[0] * self.units


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Layer):
    """Batch normalization over the channels (Ioffe and Szegedy, 2015), with scale and shift."""

    @property
    def parameters(self) -> int:
        return 2 * self.input_shape[-1]

    @property
    def multiply_adds(self) -> int:
        return prod(self.input_shape)


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """ReLU, GELU (exact, Hendrycks and Gimpel, 2016) or tanh, cell by cell."""

    function: Function


@dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    """Sets each value to zero with probability `rate` while training (Srivastava et al., 2014)."""

    rate: float


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """The largest, smallest or mean value of each `size` x `size` window."""

    kind: PoolKind
    size: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool(Layer):
    """The mean of every feature map: one number per channel."""


@dataclass(frozen=True, kw_only=True)
class GlobalMaxPool(Layer):
    """The largest value of every feature map: one number per channel."""


@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """Feature maps to one vector, in the order row, column, channel."""


@dataclass(frozen=True, kw_only=True)
class Softmax(Layer):
    """Scores to probabilities that sum to one."""


@dataclass(frozen=True, kw_only=True)
class Residual(Layer):
    """`body(x) + x` (He et al., 2015); a 1x1 `projection` of x where the body changes the shape."""

    body: tuple[Layer, ...]
    projection: Conv | None

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self._inside)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self._inside)

    @property
    def activation_bytes(self) -> int:
        return super().activation_bytes + sum(layer.activation_bytes for layer in self._inside)

    @property
    def _inside(self) -> tuple[Layer, ...]:
        return (*self.body, self.projection) if self.projection else self.body


@dataclass(frozen=True)
class Network:
    """An architecture line placed on an input: the records in order, classifier included."""

    architecture: str
    input_shape: Shape
    classes: int
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        """Numbers that are learned from the training images."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward pass."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layers' float32 outputs for one image."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def totals(self) -> dict[str, int]:
        """Parameters, and multiply-adds and activation bytes of one image."""
        return {
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes,
        }

    def walk(self) -> Iterator[Layer]:
        """Every record, those inside residual blocks after their block."""
        yield from _walk(self.layers)

    def table(self) -> list[dict[str, object]]:
        """One row per record: name, source, output shape, parameters, multiply-adds, activation bytes."""
        return [
            {
                "name": layer.name,
                "source": layer.source,
                "output": list(layer.output_shape),
                "parameters": layer.parameters,
                "multiply_adds": layer.multiply_adds,
                "activation_bytes": layer.activation_bytes,
            }
            for layer in self.layers
        ]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{layer.name}</td><td>{escape(layer.source)}</td><td>{shape_text(layer.output_shape)}</td>"
            f"<td>{layer.parameters:,}</td><td>{layer.multiply_adds:,}</td></tr>"
            for layer in self.layers
        )
        return (
            f"<p>{self.parameters:,} parameters, {self.multiply_adds:,} multiply-adds per image</p><table><tr>"
            "<th>layer</th><th>source</th><th>output</th><th>parameters</th><th>multiply-adds</th></tr>"
            f"{rows}</table>"
        )


def shape_text(shape: Shape) -> str:
    """A shape as people write it.

    >>> shape_text((26, 26, 32)), shape_text((100,))
    ('26x26x32', '100')
    """
    return "x".join(map(str, shape))


def _walk(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        if isinstance(layer, Residual):
            yield from _walk(layer.body)
            if layer.projection:
                yield layer.projection
