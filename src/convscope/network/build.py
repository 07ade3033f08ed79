"""An architecture and an input shape to a network of layer records.

docs/architecture-language.md is the reference of the language.
"""

from __future__ import annotations

from convscope.errors import ArchitectureError
from convscope.network.grammar import Parser, fail_at, source_of
from convscope.network.keywords import KEYWORDS
from convscope.network.layers.base import Shape, shape_text
from convscope.network.layers.context import ShapeInference
from convscope.network.layers.dense import Dense, Softmax
from convscope.network.network import Network


def parse_network(architecture: str, input_shape: Shape = (28, 28, 1), classes: int = 10) -> Network:
    """Parse an architecture for images of one shape; the classifier is added.

    Args:
        architecture: Layers separated by commas, without the classifier.
        input_shape: (height, width, channels) of the images.
        classes: Number of classes.

    Returns:
        The network, with one record per layer.

    Raises:
        ArchitectureError: If the architecture is not correct or does not fit the images; it points at the word.

    >>> network = parse_network("conv 32 3, relu, maxpool 2, flatten, dense 100, relu")
    >>> network.parameters
    542230
    >>> [layer.output_shape for layer in network.layers][:4]
    [(26, 26, 32), (26, 26, 32), (13, 13, 32), (5408,)]
    >>> parse_network("conv 32")
    Traceback (most recent call last):
    convscope.errors.ArchitectureError: 'conv 32' lacks the kernel size: write it as in 'conv 32 3'
    """
    nodes = Parser(architecture, KEYWORDS).parse()
    layers = ShapeInference(architecture, KEYWORDS).build_layers(nodes, input_shape, following=())
    shape = layers[-1].output_shape
    if len(shape) == 3:
        last = nodes[-1]
        message = (
            f"the classifier needs a vector, got {shape_text(shape)} feature maps from "
            f"{source_of(architecture, last)!r}: end with flatten, globalavg or globalmax"
        )
        fail_at(architecture, last.keyword, last.last_token, message)
    classifier = Dense(
        name="classifier",
        source=f"dense {classes}",
        input_shape=shape,
        output_shape=(classes,),
        units=classes,
        initialization="glorot",
    )
    softmax = Softmax(name="softmax", source="softmax", input_shape=(classes,), output_shape=(classes,))
    return Network(architecture, input_shape, classes, (*layers, classifier, softmax))


def resize_network(network: Network, scale: float) -> Network | None:
    """The same network for smaller or larger images.

    Args:
        network: A network.
        scale: Factor for the height and width of its images.

    Returns:
        The network, or None if the same weights do not fit that image size.
    """
    height, width, channels = network.input_shape
    input_shape = scaled_side(height, scale), scaled_side(width, scale), channels
    try:
        resized = parse_network(network.architecture, input_shape, network.classes)
    except ArchitectureError:
        return None
    return resized if _size_dependent_fields(resized) == _size_dependent_fields(network) else None


def _size_dependent_fields(network: Network) -> list[tuple[object, ...]]:
    """What a PyTorch model fixes when it is built, although the image size decides it: `pad same` and projections."""
    return [(layer.parameters, getattr(layer, "stride", 1), getattr(layer, "padding", 0)) for layer in network.walk()]


def scaled_side(side: int, scale: float) -> int:
    """A side in pixels, scaled and rounded, at least 1."""
    return max(1, round(scale * side))
