"""Backbones have the parameters and the work that their authors published, and run in every backend."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from convscope.network.backbones import BACKBONES, IMAGENET_CLASSES
from convscope.network.build import parse_network
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense


class Published(NamedTuple):
    """What torchvision's (of EfficientNet-Lite timm's) network has with 1,000 classes.

    Attributes:
        parameters: Its weights.
        multiply_adds: Of its convolutions and dense layers, as torch counts them.
    """

    parameters: int
    multiply_adds: int


PUBLISHED = {
    "efficientnet-lite0": Published(4_652_008, 385_187_552),
    "efficientnet-lite1": Published(5_416_680, 600_185_232),
    "efficientnet-lite2": Published(6_092_072, 859_736_272),
    "efficientnet-b0": Published(5_288_548, 385_814_752),
    "mobilenetv2": Published(3_504_872, 300_774_272),
    "mobilenetv3-small": Published(2_542_856, 56_510_400),
    "mobilenetv3-large": Published(5_483_032, 216_589_760),
    "resnet18": Published(11_689_512, 1_814_073_344),
    "regnet-x-400mf": Published(5_495_976, 413_812_608),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_parameters_and_work_are_the_published_ones(name: str) -> None:
    backbone = BACKBONES[name]
    network = parse_network(backbone.architecture, backbone.input_shape, IMAGENET_CLASSES)
    work = sum(layer.multiply_adds for layer in network.walk() if isinstance(layer, Conv | Dense))
    assert (network.parameters, work) == PUBLISHED[name]
