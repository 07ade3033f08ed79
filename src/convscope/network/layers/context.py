"""Syntax nodes to layer records: carries shapes through the network and names the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from convscope.network.grammar import Node, Syntax, Token, fail_at, source_of, whole_number
from convscope.network.layers.base import Layer, Shape, shape_text


@dataclass(frozen=True, kw_only=True)
class Keyword(Syntax):
    """One row of the keyword table: the syntax of a layer and its shape rule.

    Attributes:
        build: The shape rule; returns the layer's record.
        input: What the layer accepts: feature maps, a vector, or both ("any").
    """

    build: LayerBuilder
    input: Literal["maps", "vector", "any"] = "any"


class ShapeInference:
    """Builds records in order; counts the layers of each keyword for their names.

    Args:
        architecture: The parsed text, for error messages.
        keywords: The keyword table.
    """

    def __init__(self, architecture: str, keywords: Mapping[str, Keyword]) -> None:
        self.architecture = architecture
        self.keywords = keywords
        self.counts: dict[str, int] = {}

    def build_layers(self, nodes: tuple[Node, ...], shape: Shape, following: tuple[Node, ...]) -> tuple[Layer, ...]:
        """The records of consecutive layers.

        Args:
            nodes: The layers.
            shape: Input shape of the first.
            following: What comes after the last of them.
        """
        layers: list[Layer] = []
        for i, node in enumerate(nodes):
            layers.append(self.build_layer(node, shape, (*nodes[i + 1 :], *following)))
            shape = layers[-1].output_shape
        return tuple(layers)

    def build_layer(self, node: Node, shape: Shape, following: tuple[Node, ...]) -> Layer:
        """The record of one layer; arguments as in `build_layers`."""
        word = node.keyword.text
        keyword = self.keywords[word]
        is_first = not self.counts
        self.counts[word] = self.counts.get(word, 0) + 1
        context = LayerContext(self, node, self._name(word), shape, following, is_first)
        if keyword.input == "maps" and len(shape) != 3:
            context.fail(f"{word!r} needs feature maps, got a vector of {shape[0]}: move it before flatten")
        if keyword.input == "vector" and len(shape) == 3:
            context.fail(
                f"{word!r} needs a vector, got {shape_text(shape)} feature maps: "
                "add flatten, globalavg or globalmax before it"
            )
        return keyword.build(context)

    def _name(self, word: str) -> str:
        """The keyword and its number; without the underscore, the first relu6 would be the 61st relu."""
        return f"{word}{'_' * word[-1].isdecimal()}{self.counts[word]}"


@dataclass(frozen=True)
class LayerContext:
    """What a shape rule knows about its layer.

    Attributes:
        inference: For the layers in a block's body.
        node: The layer as written.
        name: Its name.
        input_shape: The shape that arrives.
        following: The layers after it, those after the end of its block included.
        is_first: Whether no layer comes before it.
    """

    inference: ShapeInference
    node: Node
    name: str
    input_shape: Shape
    following: tuple[Node, ...]
    is_first: bool

    @property
    def keyword(self) -> str:
        """The keyword of the layer."""
        return self.node.keyword.text

    @property
    def source(self) -> str:
        """The layer as written."""
        return source_of(self.inference.architecture, self.node)

    def fields(self, output_shape: Shape | None = None) -> dict[str, Any]:
        """The fields of `Layer`; the output shape is the input shape unless given."""
        output_shape = self.input_shape if output_shape is None else output_shape
        return {
            "name": self.name,
            "source": self.source,
            "input_shape": self.input_shape,
            "output_shape": output_shape,
        }

    def value(self, position: int) -> int:
        """The whole number, at least 1, at this position after the keyword."""
        return self.number(self.node.values[position], 1)

    def option(self, name: str, default: int = 1) -> int:
        """The whole number, at least 1, of an option."""
        token = self.node.option(name)
        return default if token is None else self.number(token, 1)

    def word(self, name: str, default: str) -> str:
        """The word of an option."""
        token = self.node.option(name)
        return default if token is None else token.text

    def number(self, token: Token, minimum: int) -> int:
        """The whole number that a token stands for."""
        return whole_number(self.inference.architecture, token, minimum)

    def following_keywords(self) -> list[str]:
        """The keywords of the layers after this one."""
        return [node.keyword.text for node in self.following]

    def fail(self, message: str) -> NoReturn:
        """Raise an ArchitectureError that points at this layer."""
        fail_at(self.inference.architecture, self.node.keyword, self.node.last_token, message)

    def fail_at_value(self, token: Token, message: str) -> NoReturn:
        """Raise an ArchitectureError that points at one value of this layer."""
        fail_at(self.inference.architecture, token, token, message)

    def fail_too_small(self, window: int) -> NoReturn:
        """Raise an ArchitectureError: the feature maps are smaller than the window."""
        self.fail(
            f"{self.source!r} needs feature maps of at least {window}x{window}, "
            f"got {shape_text(self.input_shape[:2])}: remove a layer before it or use larger images"
        )


LayerBuilder = Callable[[LayerContext], Layer]
