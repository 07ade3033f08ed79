"""Whole backbones against torchvision's and timm's, whose logits were recorded for weights that follow from names."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from torch import nn

from convscope.backends.pytorch.models import build_model
from convscope.network.backbones import BACKBONES
from convscope.network.build import parse_network
from convscope.network.layers.base import Shape
from convscope.pretrained.names import timm_names, torchvision_names

# Library, our name, and the first logits, in float64, of torchvision 0.29.1 or timm 1.0.31 for the first of two images,
# where batch normalization uses the statistics of both. All other values follow from `values_of`.
LOGITS = [
    ("torchvision", "mobilenetv2", (-0.76399885, -1.04145778, -0.64631022, -0.42109237)),
    ("torchvision", "mobilenetv3-small", (-0.24859454, -0.30212410, -0.11527777, 0.28752212)),
    ("torchvision", "mobilenetv3-large", (-0.17226607, -0.12088411, -0.52819045, 0.09207245)),
    ("torchvision", "resnet18", (1.38493704, -0.27002012, 0.80086472, -0.03689859)),
    ("torchvision", "regnet-x-400mf", (3.24230140, 5.04679044, -2.90611897, 3.81916952)),
    ("torchvision", "efficientnet-b0", (-0.13651497, -0.48297159, -0.12204007, -0.23440308)),
    ("timm", "efficientnet-lite0", (0.25118946, -0.74889448, -0.03786327, 0.30599570)),
    ("timm", "efficientnet-lite1", (0.51469600, -1.00469644, 0.48913023, 0.15828057)),
    ("timm", "efficientnet-lite2", (-0.02983366, -1.03250425, -0.15652621, -0.40432392)),
    ("timm", "mobilenetv2", (0.48841174, -0.94467255, -0.01826033, 0.03109235)),
    ("timm", "resnet18", (1.38493704, -0.27002012, 0.80086472, -0.03689859)),
    ("timm", "regnet-x-400mf", (4.21958889, -3.20064651, -0.08576875, 0.81025143)),
    ("timm", "efficientnet-b0", (0.08559223, -0.41919065, 0.24467002, -0.01978438)),
    ("timm", "mobilenetv3-small", (0.03513057, 0.15031884, 0.22363949, -0.18388249)),
    ("timm", "mobilenetv3-large", (0.30195391, 0.07223478, 0.18688213, 0.27526148)),
]


def values_of(name: str, shape: Shape) -> torch.Tensor:
    """Numbers that depend on the published name alone."""
    values = np.random.default_rng(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    if len(shape) > 1:
        values *= (6 / values[0].size) ** 0.5
    else:
        values = 1 + values / 5 if name.endswith("weight") else values / 5
    return torch.from_numpy(values.astype(np.float32)).double()


@pytest.mark.parametrize(("library", "name", "expected"), LOGITS)
def test_logits_of_backbone_are_those_of_the_published_network(
    library: str, name: str, expected: tuple[float, ...]
) -> None:
    names = {"torchvision": torchvision_names, "timm": timm_names}[library](name)
    architecture = BACKBONES[name].architecture
    if (library, name[:11]) == ("timm", "mobilenetv3"):  # with another epsilon
        architecture = architecture.replace(" eps 0.001", "")
    model = build_model(parse_network(architecture, (65, 65, 3), 1000)).double()
    with torch.inference_mode():
        for ours, weights in model.named_parameters():
            weights.copy_(values_of(names[ours], tuple(weights.shape)))
        for module in model.modules():
            module.train(isinstance(module, nn.BatchNorm2d))
        images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 65, 65)).astype(np.float32)
        logits = model(torch.from_numpy(images).double())
    np.testing.assert_allclose(logits[0, :4], expected, rtol=0, atol=1e-7)
