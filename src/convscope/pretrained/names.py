"""What the tensors of published networks are called in the state dicts of torchvision and of timm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from convscope.network.backbones import BACKBONES, IMAGENET_CLASSES
from convscope.network.build import parse_network
from convscope.network.layers.base import Layer, walk_paths
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense

Layers = Sequence[Layer]
Scheme = Callable[[Layers], Iterator[str]]  # layers with weights, in our order -> their names of the same layers
REGNET_X_400MF_DEPTHS = 1, 2, 7, 12


def torchvision_names(backbone: str) -> dict[str, str]:
    """torchvision's name of each of our tensors.

    Its squeeze-and-excite has 1x1 convolutions, with weights (filters, channels, 1, 1), where ours has dense layers.

    Args:
        backbone: A key of `TORCHVISION`.

    >>> names = torchvision_names("resnet18")
    >>> names["residual3.shortcut.conv8.weight"], names["classifier.bias"]
    ('layer2.0.downsample.0.weight', 'fc.bias')
    """
    return _names(backbone, TORCHVISION[backbone])


def timm_names(backbone: str) -> dict[str, str]:
    """timm's name of each of our tensors.

    Its squeeze-and-excite, and the dense layer of MobileNetV3 before the classifier, are 1x1 convolutions. Its networks
    are mobilenetv2_100, mobilenetv3_small_100, mobilenetv3_large_100, resnet18, regnetx_004_tv (regnetx_004 has 384
    filters where torchvision has 400), efficientnet_b0, and tf_efficientnet_lite0 to 2. Batch normalization has the
    epsilon of ours but in MobileNetV3, where timm has 0.00001.

    Args:
        backbone: A key of `TIMM`.

    >>> timm_names("mobilenetv3-small")["dense1.weight"]
    'conv_head.weight'
    """
    return _names(backbone, TIMM[backbone])


def _names(backbone: str, scheme: Scheme) -> dict[str, str]:
    architecture, shape = BACKBONES[backbone].architecture, BACKBONES[backbone].input_shape
    network = parse_network(architecture, shape, IMAGENET_CLASSES)
    layers = {path: layer for path, layer in walk_paths((one.name, one) for one in network.layers) if layer.tensors}
    theirs = zip(layers.items(), scheme([*layers.values()]), strict=True)
    return {f"{path}.{part}": f"{name}.{part}" for (path, layer), name in theirs for part in layer.tensors}


@dataclass(frozen=True)
class BlockPlace:
    """An inverted residual block; its parts have two layers with weights each.

    Attributes:
        number: Of all blocks, from 0.
        stage: Number of blocks in a row with as many filters, from 0.
        position: In its stage, from 0.
        parts: "expand", "depthwise", "squeeze" and "project", or some of them.
    """

    number: int
    stage: int
    position: int
    parts: tuple[str, ...]


def _inverted_residuals(layers: Layers) -> Iterator[BlockPlace]:
    """The blocks between the first and the last convolution."""
    parts: list[str] = []
    number, stage, position, filters = 0, -1, 0, 0
    for layer in layers[2::2]:
        parts.append(_part(layer, parts))
        if parts[-1] == "project":
            is_next = layer.output_shape[-1] == filters
            stage, position = (stage, position + 1) if is_next else (stage + 1, 0)
            yield BlockPlace(number, stage, position, tuple(parts))
            number, filters, parts = number + 1, layer.output_shape[-1], []


def _part(layer: Layer, before: list[str]) -> str:
    """Which part of a block begins with a layer behind other parts."""
    if isinstance(layer, Dense):
        return "squeeze"
    if isinstance(layer, Conv) and layer.groups > 1:
        return "depthwise"
    return "project" if "depthwise" in before else "expand"


def _torchvision_resnet18(_: Layers) -> Iterator[str]:
    yield from ("conv1", "bn1")
    for block in range(8):
        path = f"layer{block // 2 + 1}.{block % 2}"
        yield from (f"{path}.{part}" for part in ("conv1", "bn1", "conv2", "bn2"))
        if block in {2, 4, 6}:
            yield from (f"{path}.downsample.0", f"{path}.downsample.1")
    yield "fc"


def _torchvision_regnet(_: Layers) -> Iterator[str]:
    yield from ("stem.0", "stem.1")
    for stage, depth in enumerate(REGNET_X_400MF_DEPTHS, 1):
        for block in range(depth):
            parts = "f.a", "f.b", "f.c", *(["proj"] if block == 0 else [])
            yield from (f"trunk_output.block{stage}.block{stage}-{block}.{part}.{i}" for part in parts for i in (0, 1))
    yield "fc"


def _timm_regnet(_: Layers) -> Iterator[str]:
    yield from ("stem.conv", "stem.bn")
    for stage, depth in enumerate(REGNET_X_400MF_DEPTHS, 1):
        for block in range(1, depth + 1):
            parts = "conv1", "conv2", "conv3", *(["downsample"] if block == 1 else [])
            yield from (f"s{stage}.b{block}.{part}.{kind}" for part in parts for kind in ("conv", "bn"))
    yield "head.fc"


def _torchvision_mobilenetv2(layers: Layers) -> Iterator[str]:
    yield from ("features.0.0", "features.0.1")
    for block in _inverted_residuals(layers):
        path, last = f"features.{block.number + 1}.conv", len(block.parts) - 1
        yield from (f"{path}.{part}.{i}" for part in range(last) for i in (0, 1))
        yield from (f"{path}.{last}", f"{path}.{last + 1}")
    yield from ("features.18.0", "features.18.1", "classifier.1")


def _torchvision_mobilenetv3(layers: Layers) -> Iterator[str]:
    blocks = [*_inverted_residuals(layers)]
    yield from ("features.0.0", "features.0.1")
    for block in blocks:
        yield from _torchvision_block(f"features.{block.number + 1}", block)
    last = f"features.{len(blocks) + 1}"
    yield from (f"{last}.0", f"{last}.1", "classifier.0", "classifier.3")


def _torchvision_efficientnet(layers: Layers) -> Iterator[str]:
    yield from ("features.0.0", "features.0.1")
    for block in _inverted_residuals(layers):
        yield from _torchvision_block(f"features.{block.stage + 1}.{block.position}", block)
    yield from ("features.8.0", "features.8.1", "classifier.1")


def _torchvision_block(path: str, block: BlockPlace) -> Iterator[str]:
    for i, part in enumerate(block.parts):
        yield from (f"{path}.block.{i}.{layer}" for layer in (("fc1", "fc2") if part == "squeeze" else (0, 1)))


def _timm_efficientnet(layers: Layers) -> Iterator[str]:
    yield from _timm_blocks(layers)
    yield from ("conv_head", "bn2", "classifier")


def _timm_mobilenetv3(layers: Layers) -> Iterator[str]:
    yield from _timm_blocks(layers)
    stages = 1 + max(block.stage for block in _inverted_residuals(layers))
    yield from (f"blocks.{stages}.0.conv", f"blocks.{stages}.0.bn1", "conv_head", "classifier")


def _timm_blocks(layers: Layers) -> Iterator[str]:
    yield from ("conv_stem", "bn1")
    for block in _inverted_residuals(layers):
        norms = iter(("bn1", "bn2", "bn3"))
        project = "conv_pwl" if "expand" in block.parts else "conv_pw"
        kernels = {"expand": "conv_pw", "depthwise": "conv_dw", "project": project}
        for part in block.parts:
            pair = ("se.conv_reduce", "se.conv_expand") if part == "squeeze" else (kernels[part], next(norms))
            yield from (f"blocks.{block.stage}.{block.position}.{layer}" for layer in pair)


TORCHVISION: dict[str, Scheme] = {
    "mobilenetv2": _torchvision_mobilenetv2,
    "mobilenetv3-small": _torchvision_mobilenetv3,
    "mobilenetv3-large": _torchvision_mobilenetv3,
    "resnet18": _torchvision_resnet18,
    "regnet-x-400mf": _torchvision_regnet,
    "efficientnet-b0": _torchvision_efficientnet,
}

TIMM: dict[str, Scheme] = {
    "mobilenetv2": _timm_efficientnet,
    "mobilenetv3-small": _timm_mobilenetv3,
    "mobilenetv3-large": _timm_mobilenetv3,
    "resnet18": _torchvision_resnet18,
    "regnet-x-400mf": _timm_regnet,
    "efficientnet-b0": _timm_efficientnet,
    "efficientnet-lite0": _timm_efficientnet,
    "efficientnet-lite1": _timm_efficientnet,
    "efficientnet-lite2": _timm_efficientnet,
}
