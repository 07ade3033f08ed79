"""The architecture language: one readable line -> layer records.

    line   := item ("," item)*
    item   := NUMBER "*" "(" line ")"  |  "residual" "(" line ")"  |  WORD value* option*

The words are the keys of `KEYWORDS`. The classifier (`dense classes, softmax`) follows by itself. Every error
points at the word that is wrong and says what would be right. docs/architecture-language.md is the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, NoReturn, cast

from convscope.errors import ArchitectureError
from convscope.network.grammar import Node, Parser, Token, fail_at, whole_number, written
from convscope.network.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Function,
    GlobalAvgPool,
    GlobalMaxPool,
    Initialization,
    Layer,
    Network,
    Pool,
    PoolKind,
    Residual,
    Shape,
    Softmax,
    shape_text,
)

POOL_KINDS: dict[str, PoolKind] = {"maxpool": "max", "minpool": "min", "avgpool": "average"}


def parse_network(line: str, input_shape: Shape = (28, 28, 1), classes: int = 10) -> Network:
    """Read one architecture line and place it on images of `input_shape` (height, width, channels).

    Raises ArchitectureError, pointing at the word, for anything that is not a network of this input.

    >>> network = parse_network("conv 32 3, relu, maxpool 2, flatten, dense 100, relu")
    >>> network.parameters
    542230
    >>> [layer.output_shape for layer in network.layers][:4]
    [(26, 26, 32), (26, 26, 32), (13, 13, 32), (5408,)]
    >>> parse_network("conv 32")
    Traceback (most recent call last):
    convscope.errors.ArchitectureError: 'conv 32': kernel size missing, as in 'conv 32 3'
    """
    nodes = Parser(line).line()
    inference = ShapeInference(line)
    layers = inference.sequence(nodes, input_shape, ())
    shape = layers[-1].output_shape
    if len(shape) == 3:
        fail_at(
            line,
            nodes[-1].word,
            nodes[-1].last,
            f"{written(line, nodes[-1])!r} leaves {shape_text(shape)} feature maps, but "
            "the classifier needs a vector: end with flatten, globalavg or globalmax",
        )
    scores = Dense(
        name="classifier",
        source=f"dense {classes}",
        input_shape=shape,
        output_shape=(classes,),
        units=classes,
        initialization="glorot",
    )
    softmax = Softmax(name="softmax", source="softmax", input_shape=(classes,), output_shape=(classes,))
    return Network(line, input_shape, classes, (*layers, scores, softmax))


def resize_network(network: Network, scale: float) -> Network | None:
    """The same network on images of that share of the height and width; None where the weights would not fit it."""
    height, width, channels = network.input_shape
    try:
        small = parse_network(
            network.architecture, (scaled_side(height, scale), scaled_side(width, scale), channels), network.classes
        )
    except ArchitectureError:
        return None
    return small if _kept(small) == _kept(network) else None


def _kept(network: Network) -> list[tuple[object, ...]]:
    """What a model keeps whatever the size of the images: `pad same` and projections may want something else."""
    return [(layer.parameters, getattr(layer, "stride", 1), getattr(layer, "padding", 0)) for layer in network.walk()]


def scaled_side(side: int, share: float) -> int:
    """Pixels of a side at that share of its length."""
    return max(1, round(share * side))


class ShapeInference:
    """Nodes -> layer records: carries shapes along the line and counts the layers of each word for their names."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.counts: dict[str, int] = {}

    def sequence(self, nodes: tuple[Node, ...], shape: Shape, after: tuple[Node, ...]) -> tuple[Layer, ...]:
        layers: list[Layer] = []
        for i, node in enumerate(nodes):
            following = (*nodes[i + 1 :], *after)
            layers.append(self.build_layer(node, shape, following))
            shape = layers[-1].output_shape
        return tuple(layers)

    def build_layer(self, node: Node, shape: Shape, after: tuple[Node, ...]) -> Layer:
        word = node.word.text
        if word in MAPS_ONLY and len(shape) != 3:
            self.fail(node, f"{word!r} needs feature maps, but a vector of {shape[0]} arrives: put it before flatten")
        self.counts[word] = self.counts.get(word, 0) + 1
        base = Layer(
            name=f"{word}{self.counts[word]}", source=written(self.line, node), input_shape=shape, output_shape=shape
        )
        return BUILDERS[word](self, node, base, after)

    def number(self, token: Token | None, low: int = 1, *, default: int = 1) -> int:
        return default if token is None else whole_number(self.line, token, low)

    def fail(self, node: Node, message: str) -> NoReturn:
        fail_at(self.line, node.word, node.last, message)

    def initialization(self, node: Node, after: tuple[Node, ...]) -> Initialization:
        """He before ReLU and GELU, Glorot else, unless the line says which."""
        option = node.option("init")
        if option is not None:
            return cast("Initialization", option.text)
        for later in after:
            if later.word.text in ("relu", "gelu"):
                return "he"
            if later.word.text in ("tanh", "conv", "dense", "residual"):
                break
        return "glorot"

    def conv(self, node: Node, base: Layer, after: tuple[Node, ...]) -> Layer:
        filters, kernel = (self.number(token) for token in node.values)
        stride, groups = self.number(node.option("stride")), self.number(node.option("groups"))
        height, width, channels = base.input_shape
        if channels % groups or filters % groups:
            self.fail(
                node, f"groups {groups} must divide both the {channels} incoming channels and the {filters} filters"
            )
        if groups > 1 and self.initialization(node, after) == "identity":
            self.fail(node, "init identity copies incoming channels, which groups keep apart: leave one of both away")
        pad = node.option("pad")
        (top, bottom), (left, right) = (self.padding(pad, size, kernel, stride) for size in (height, width))
        rows, columns = height + top + bottom - kernel, width + left + right - kernel
        if min(rows, columns) < 0:
            self.too_small(node, base.input_shape, kernel - top - bottom)
        following = next((later.word.text for later in after if later.word.text not in POOL_KINDS), "")
        bias = following != "batchnorm"  # which would subtract it again
        return Conv(
            **_common(base, (rows // stride + 1, columns // stride + 1, filters)),
            filters=filters,
            kernel=kernel,
            stride=stride,
            padding=(top, bottom, left, right),
            groups=groups,
            bias=bias,
            initialization=self.initialization(node, after),
        )

    def whiten(self, node: Node, base: Layer, _: tuple[Node, ...]) -> Layer:
        if self.counts != {"whiten": 1}:
            self.fail(node, "'whiten' must come first: its kernels are made for the patches of the images")
        kernel = self.number(node.values[0])
        height, width, channels = base.input_shape
        if min(height, width) < kernel:
            self.too_small(node, base.input_shape, kernel)
        filters = 2 * kernel * kernel * channels
        return Conv(
            **_common(base, (height - kernel + 1, width - kernel + 1, filters)),
            filters=filters,
            kernel=kernel,
            stride=1,
            padding=(0, 0, 0, 0),
            groups=1,
            bias=False,
            initialization="whiten",
        )

    def padding(self, pad: Token | None, size: int, kernel: int, stride: int) -> tuple[int, int]:
        """Cells before and after; `same` keeps ceil(size / stride), the odd cell at the end (ONNX SAME_UPPER)."""
        if pad is None or pad.text == "valid":
            return 0, 0
        if pad.text == "same":
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            return total // 2, total - total // 2
        return self.number(pad, 0), self.number(pad, 0)

    def too_small(self, node: Node, shape: Shape, window: int) -> NoReturn:
        self.fail(
            node,
            f"{written(self.line, node)!r} needs at least {window}x{window} cells, but {shape_text(shape[:2])} arrive: "
            "the network is too deep for this image, so remove a layer before it or use larger images",
        )

    def pool(self, node: Node, base: Layer, _: tuple[Node, ...]) -> Layer:
        size = self.number(node.values[0])
        stride = self.number(node.option("stride"), default=size)
        height, width, channels = base.input_shape
        if min(height, width) < size:
            self.too_small(node, base.input_shape, size)
        output = ((height - size) // stride + 1, (width - size) // stride + 1, channels)
        kind = POOL_KINDS[node.word.text]
        return Pool(**_common(base, output), kind=kind, size=size, stride=stride)

    def dense(self, node: Node, base: Layer, after: tuple[Node, ...]) -> Layer:
        if len(base.input_shape) == 3:
            self.fail(
                node,
                f"'dense' needs a vector, but {shape_text(base.input_shape)} feature maps arrive: "
                "write flatten, globalavg or globalmax before it",
            )
        units = self.number(node.values[0])
        return Dense(**_common(base, (units,)), units=units, initialization=self.initialization(node, after))

    def dropout(self, node: Node, base: Layer, _: tuple[Node, ...]) -> Layer:
        value = node.values[0]
        rate = float(value.text)
        if not 0 <= rate < 1:
            fail_at(self.line, value, value, f"dropout rate must be at least 0 and below 1, not {value.text}")
        return Dropout(**_common(base, base.input_shape), rate=rate)

    def residual(self, node: Node, base: Layer, after: tuple[Node, ...]) -> Layer:
        body = self.sequence(node.body, base.input_shape, after)
        output = body[-1].output_shape
        projection = None if output == base.input_shape else self.projection(node, base, output)
        return Residual(**_common(base, output), body=body, projection=projection)

    def projection(self, node: Node, base: Layer, output: Shape) -> Conv:
        height, width, _ = base.input_shape
        strides = range(1, max(height, width) + 1)
        stride = next((s for s in strides if (-(-height // s), -(-width // s)) == output[:-1]), None)
        if stride is None:
            self.fail(
                node,
                f"the block turns {shape_text(base.input_shape)} into {shape_text(output)}, which no 1x1 projection "
                "can follow: use pad same inside residual(...)",
            )
        return Conv(
            name=f"{base.name}.projection",
            source=f"conv {output[2]} 1 stride {stride}",
            input_shape=base.input_shape,
            output_shape=output,
            filters=output[2],
            kernel=1,
            stride=stride,
            padding=(0, 0, 0, 0),
            groups=1,
            bias=False,
            initialization="glorot",
        )


def _common(base: Layer, output: Shape) -> dict[str, Any]:
    return vars(replace(base, output_shape=output))


def _activation(_: ShapeInference, node: Node, base: Layer, __: tuple[Node, ...]) -> Layer:
    return Activation(**_common(base, base.input_shape), function=ACTIVATIONS[node.word.text])


LayerBuilder = Callable[[ShapeInference, Node, Layer, tuple[Node, ...]], Layer]
BUILDERS: dict[str, LayerBuilder] = {
    "conv": ShapeInference.conv,
    "whiten": ShapeInference.whiten,
    "batchnorm": lambda _, __, base, ___: BatchNorm(**_common(base, base.input_shape)),
    "relu": _activation,
    "gelu": _activation,
    "tanh": _activation,
    "dropout": ShapeInference.dropout,
    "maxpool": ShapeInference.pool,
    "minpool": ShapeInference.pool,
    "avgpool": ShapeInference.pool,
    "globalavg": lambda _, __, base, ___: GlobalAvgPool(**_common(base, base.input_shape[-1:])),
    "globalmax": lambda _, __, base, ___: GlobalMaxPool(**_common(base, base.input_shape[-1:])),
    "flatten": lambda _, __, base, ___: Flatten(**_common(base, (prod(base.input_shape),))),
    "dense": ShapeInference.dense,
    "residual": ShapeInference.residual,
}
ACTIVATIONS: dict[str, Function] = {"relu": "relu", "gelu": "gelu", "tanh": "tanh"}
MAPS_ONLY = {"conv", "whiten", "maxpool", "minpool", "avgpool", "globalavg", "globalmax", "flatten", "residual"}
