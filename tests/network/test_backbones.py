"""Backbones have the parameters that their authors published, to the digit."""

from __future__ import annotations

import pytest

from convscope.network.backbones import BACKBONES, IMAGENET_CLASSES
from convscope.network.build import parse_network

PARAMETERS = {
    "efficientnet-lite0": 4_652_008,
    "efficientnet-lite1": 5_416_680,
    "efficientnet-lite2": 6_092_072,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_parameters_are_the_published_ones(name: str) -> None:
    backbone = BACKBONES[name]
    network = parse_network(backbone.architecture, backbone.input_shape, IMAGENET_CLASSES)
    assert network.parameters == PARAMETERS[name]
