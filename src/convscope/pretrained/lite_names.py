"""What the tensors of EfficientNet-Lite are called in the state dicts of the package efficientnet-lite-pytorch."""

from __future__ import annotations

from collections.abc import Iterator

from convscope.network.backbones import BACKBONES, IMAGENET_CLASSES
from convscope.network.build import parse_network
from convscope.network.layers.base import walk_paths
from convscope.network.layers.convolution import Conv
from convscope.network.layers.elementwise import BatchNorm


def efficientnet_lite_names(backbone: str) -> dict[str, str]:
    """Their name of each of our tensors.

    Args:
        backbone: The key of an EfficientNet-Lite in `BACKBONES`.

    >>> names = efficientnet_lite_names("efficientnet-lite0")
    >>> names["conv1.weight"], names["residual1.body.batchnorm9.bias"], names["classifier.bias"]
    ('_conv_stem.weight', '_blocks.2._bn2.bias', '_fc.bias')
    """
    published = BACKBONES[backbone]
    network = parse_network(published.architecture, published.input_shape, IMAGENET_CLASSES)
    layers = dict(walk_paths((layer.name, layer) for layer in network.layers))
    convs = [path for path, layer in layers.items() if isinstance(layer, Conv)]
    norms = [path for path, layer in layers.items() if isinstance(layer, BatchNorm)]
    depthwise = [layer.groups > 1 for layer in layers.values() if isinstance(layer, Conv)]
    found = {"classifier": "_fc"}
    for conv, norm, (their_conv, their_norm) in zip(convs, norms, _pairs(depthwise), strict=True):
        found |= {conv: their_conv, norm: their_norm}
    return {f"{path}.{part}": f"{name}.{part}" for path, name in found.items() for part in layers[path].tensors}


def _pairs(depthwise: list[bool]) -> Iterator[tuple[str, str]]:
    """Their names of each convolution and its batch normalization, in order; blocks end after a depthwise one."""
    yield "_conv_stem", "_bn0"
    block = 0
    for is_depthwise, follows_depthwise in zip(depthwise[1:-1], depthwise[:-2], strict=True):
        kind, number = ("depthwise", 1) if is_depthwise else ("project", 2) if follows_depthwise else ("expand", 0)
        yield f"_blocks.{block}._{kind}_conv", f"_blocks.{block}._bn{number}"
        block += kind == "project"
    yield "_conv_head", "_bn1"
