"""The base of all layer records, and shapes.

A record is frozen and describes one layer at its place in a network. The PyTorch modules, the ONNX graph, the cost
table and the explainer are all derived from records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]  # (height, width, channels) of feature maps, (units,) of a vector
BYTES_PER_FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What all records have in common.

    Attributes:
        name: Unique in the network: keyword and number, such as `conv1`.
        source: The layer as written in the architecture.
        input_shape: Shape for one image.
        output_shape: Shape for one image.
    """

    name: str
    source: str
    input_shape: Shape
    output_shape: Shape

    @property
    def parameters(self) -> int:
        """Number of weights learned from the training images."""
        return sum(layer.parameters for layer in self.children)

    @property
    def multiply_adds(self) -> int:
        """Multiplications, each with its addition, in the forward pass of one image."""
        return sum(layer.multiply_adds for layer in self.children)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the float32 output for one image, and of those inside."""
        return BYTES_PER_FLOAT * prod(self.output_shape) + sum(layer.activation_bytes for layer in self.children)

    @property
    def tensors(self) -> Mapping[str, Shape]:
        """Shapes of its weights and statistics, by name, without those of the records inside this one."""
        return {}

    @property
    def children(self) -> tuple[Layer, ...]:
        """Records inside this one, in order of execution."""
        return ()

    @property
    def named_children(self) -> list[tuple[str, Layer]]:
        """The same by the paths of their modules: `projection` for `residual1.projection`."""
        return [(layer.name.rpartition(".")[2], layer) for layer in self.children]


def shape_text(shape: Shape) -> str:
    """Format a shape for people.

    >>> shape_text((26, 26, 32)), shape_text((100,))
    ('26x26x32', '100')
    """
    return "x".join(map(str, shape))


def walk(layers: Iterable[Layer]) -> Iterator[Layer]:
    """All records; those inside a layer come after it."""
    for layer in layers:
        yield layer
        yield from walk(layer.children)


def walk_paths(layers: Iterable[tuple[str, Layer]]) -> Iterator[tuple[str, Layer]]:
    """All records by the paths of their modules; those inside a layer come after it."""
    for path, layer in layers:
        yield path, layer
        yield from walk_paths((f"{path}.{name}", child) for name, child in layer.named_children)


def inference_bytes(layers: Iterable[Layer]) -> int:
    """Bytes of float32 activations that one image's forward pass holds at once, without gradients.

    They are a layer's input and output; inside a block also the block's input.
    """
    return max(
        (
            BYTES_PER_FLOAT * (prod(layer.input_shape) + prod(layer.output_shape)) + inference_bytes(layer.children)
            for layer in layers
        ),
        default=0,
    )
