"""Names of published tensors: those of the state dicts themselves; weights that come by them keep their function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from convscope.backends.pytorch.models import build_model, get_weights, set_weights
from convscope.network.backbones import BACKBONES
from convscope.network.build import parse_network
from convscope.network.folding import fold_features
from convscope.network.network import Network
from convscope.pretrained.names import TIMM, TORCHVISION, timm_names, torchvision_names
from convscope.pretrained.state_dict import rename_tensors

NAMES: dict[str, Callable[[str], Mapping[str, str]]] = {"torchvision": torchvision_names, "timm": timm_names}

# Library, our name, number of tensors, first digits of the SHA-256 of their names and shapes: see `digest`. From
# torchvision 0.29.1 and timm 1.0.31; the docstring of `timm_names` has timm's names of the networks.
STATE_DICTS = [
    ("torchvision", "mobilenetv2", 314, "d8fa2982778e1f00"),
    ("torchvision", "mobilenetv3-small", 244, "7bd3cf4d7856f047"),
    ("torchvision", "mobilenetv3-large", 312, "2480f1a8afec0a43"),
    ("torchvision", "resnet18", 122, "0f734aef4d408e43"),
    ("torchvision", "regnet-x-400mf", 428, "9b53e7bf4ebd34d1"),
    ("torchvision", "efficientnet-b0", 360, "d9f613c38eb55cf7"),
    ("timm", "mobilenetv2", 314, "9867b452a56d7d3f"),
    ("timm", "mobilenetv3-small", 244, "57a473183f671731"),
    ("timm", "mobilenetv3-large", 312, "f86767f859ad9e93"),
    ("timm", "resnet18", 122, "0f734aef4d408e43"),
    ("timm", "regnet-x-400mf", 428, "8e3be8dbe9cffc37"),
    ("timm", "efficientnet-b0", 360, "7b733f40a14fc5f3"),
    ("timm", "efficientnet-lite0", 296, "c91adfc4962c129a"),
    ("timm", "efficientnet-lite1", 386, "c57d38e657f9e035"),
    ("timm", "efficientnet-lite2", 386, "9ca5a45572e41372"),
]

# One tensor of every kind of layer
EXAMPLES = [
    ("torchvision", "mobilenetv2", "conv1.weight", "features.0.0.weight"),
    ("torchvision", "mobilenetv2", "conv2.weight", "features.1.conv.0.0.weight"),
    ("torchvision", "mobilenetv2", "batchnorm3.bias", "features.1.conv.2.bias"),
    ("torchvision", "mobilenetv2", "residual1.body.batchnorm9.running_var", "features.3.conv.3.running_var"),
    ("torchvision", "mobilenetv2", "classifier.bias", "classifier.1.bias"),
    ("torchvision", "mobilenetv3-small", "squeeze1.reduce.weight", "features.1.block.1.fc1.weight"),
    ("torchvision", "mobilenetv3-small", "conv3.weight", "features.1.block.2.0.weight"),
    ("torchvision", "mobilenetv3-small", "dense1.bias", "classifier.0.bias"),
    ("torchvision", "mobilenetv3-large", "classifier.weight", "classifier.3.weight"),
    ("torchvision", "resnet18", "residual2.body.conv5.weight", "layer1.1.conv2.weight"),
    ("torchvision", "resnet18", "residual3.shortcut.batchnorm8.running_mean", "layer2.0.downsample.1.running_mean"),
    ("torchvision", "regnet-x-400mf", "residual1.shortcut.conv5.weight", "trunk_output.block1.block1-0.proj.0.weight"),
    ("torchvision", "regnet-x-400mf", "residual3.body.conv10.weight", "trunk_output.block2.block2-1.f.a.0.weight"),
    ("torchvision", "efficientnet-b0", "residual1.body.squeeze3.expand.bias", "features.2.1.block.2.fc2.bias"),
    ("timm", "mobilenetv3-large", "batchnorm46.weight", "blocks.6.0.bn1.weight"),
    ("timm", "mobilenetv3-large", "dense1.weight", "conv_head.weight"),
    ("timm", "regnet-x-400mf", "residual2.shortcut.batchnorm9.bias", "s2.b1.downsample.bn.bias"),
    ("timm", "efficientnet-b0", "squeeze1.reduce.bias", "blocks.0.0.se.conv_reduce.bias"),
    ("timm", "efficientnet-b0", "conv3.weight", "blocks.0.0.conv_pw.weight"),
    ("timm", "efficientnet-lite0", "residual1.body.conv9.weight", "blocks.1.1.conv_pwl.weight"),
    ("timm", "efficientnet-lite0", "batchnorm49.running_mean", "bn2.running_mean"),
]


def digest(lines: Mapping[str, tuple[int, ...]]) -> str:
    """Of the sorted lines `NAME 64x3x7x7`, where a dense layer and a 1x1 convolution are the same."""
    found = sorted(f"{name} {'x'.join(map(str, shape)).removesuffix('x1x1')}" for name, shape in lines.items())
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def published_network(name: str, side: int) -> Network:
    return parse_network(BACKBONES[name].architecture, (side, side, 3), 1000)


@pytest.mark.parametrize(("library", "name", "count", "expected"), STATE_DICTS)
def test_names_are_those_of_the_published_state_dict(library: str, name: str, count: int, expected: str) -> None:
    names, tensors = NAMES[library](name), published_network(name, 224).tensors
    assert len(names) == len(set(names.values())) == count
    assert digest({names[ours]: shape for ours, shape in tensors.items()}) == expected


@pytest.mark.parametrize(("library", "name", "ours", "expected"), EXAMPLES)
def test_name_of_layer_is_that_of_its_place(library: str, name: str, ours: str, expected: str) -> None:
    assert NAMES[library](name)[ours] == expected


def test_names_every_backbone_has_a_scheme() -> None:
    assert {*TIMM} == {*BACKBONES} == {*TORCHVISION} | {name for name in BACKBONES if "lite" in name}


@pytest.mark.parametrize(("library", "name"), [(library, name) for library, name, *_ in STATE_DICTS])
def test_features_of_random_weights_by_their_names_equal_those_of_the_model(library: str, name: str) -> None:
    """Renamed and folded: within 1e-4 of the longest feature vector; at small images, also odd ones."""
    network, names = published_network(name, 65), NAMES[library](name)
    model = build_model(network)
    x = torch.randn(4, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        model(x)  # statistics that keep the features in range
        expected = model.eval()[:-1](x).numpy()
    theirs = {}
    for ours, array in get_weights(model).items():
        is_kernel = array.ndim == 2 and not ours.startswith("classifier")
        theirs[names[ours]] = array.reshape(*array.shape, 1, 1) if is_kernel else array
    weights = rename_tensors(theirs, names, network.tensors)
    architecture, folded = fold_features(network, weights)
    assert "batchnorm" not in architecture
    features = build_model(parse_network(architecture, (65, 65, 3), 2)).eval()
    set_weights(features, get_weights(features) | folded)
    with torch.inference_mode():
        found = features[:-1](x).numpy()
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 1e-4
