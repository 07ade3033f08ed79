"""A network: the records of its layers, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from convscope.network.layers.base import Layer, Shape, shape_text, walk, walk_paths


@dataclass(frozen=True)
class Network:
    """An architecture applied to one input shape.

    Attributes:
        architecture: The text, without the classifier.
        input_shape: (height, width, channels) of the images.
        classes: Number of classes.
        layers: The records in order of execution; the last two are the classifier and its softmax.
    """

    architecture: str
    input_shape: Shape
    classes: int
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        """Number of weights learned from the training images."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward pass."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all float32 layer outputs for one image."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def tensors(self) -> dict[str, Shape]:
        """Shapes of all weights and statistics, by the names and in the order of the PyTorch model's `state_dict`."""
        named = walk_paths((layer.name, layer) for layer in self.layers)
        return {f"{path}.{part}": shape for path, layer in named for part, shape in layer.tensors.items()}

    def walk(self) -> Iterator[Layer]:
        """All records; those inside a block come after the block."""
        yield from walk(self.layers)

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
