"""Presets, and what the user may write in their place."""

from __future__ import annotations

import re

import pytest

from convscope.errors import UsageError
from convscope.network.backbones import BACKBONES
from convscope.network.build import parse_network
from convscope.network.cost import network_cost, preset_costs
from convscope.network.presets import MNIST_SHAPE, PRESETS, resolve_architecture

KNOWN = f"presets are {', '.join([*PRESETS, *BACKBONES])}, or write an architecture such as '{PRESETS['article']}'"


def test_a12_preset_article_is_the_network_of_the_article() -> None:
    assert PRESETS["article"] == "conv 32 3, relu, maxpool 2, flatten, dense 100, relu"


def test_preset_costs_are_those_on_mnist() -> None:
    """LeNet-5 with full connections and ten classes is known to have 61,706 parameters."""
    assert MNIST_SHAPE == (28, 28, 1)
    presets = preset_costs().presets
    assert [(preset.name, preset.parameters) for preset in presets] == [
        ("article", 542_230),
        ("lenet5", 61_706),
        ("quick", 102_794),
        ("tiny", 7_394),
        ("small", 79_402),
        ("large", 298_570),
        ("airbench", 1_963_306),
        ("airbench-deep", 1_979_498),
        ("residual", 72_890),
    ]
    for preset in presets:
        work = network_cost(parse_network(preset.architecture, MNIST_SHAPE, 10)).image
        assert preset.architecture == PRESETS[preset.name]
        assert (preset.multiply_adds, preset.activation_bytes) == (work.multiply_adds, work.activation_bytes)


def test_preset_costs_backbones_are_those_of_their_images_and_imagenet() -> None:
    found = {one.name: one for one in preset_costs().backbones}
    assert list(found) == list(BACKBONES)
    one = found["efficientnet-lite1"]
    assert (one.image_size, one.classes, one.parameters) == (240, 1000, 5_416_680)
    work = network_cost(parse_network(BACKBONES[one.name].architecture, (240, 240, 3), 1000)).image
    assert (one.multiply_adds, one.activation_bytes) == (work.multiply_adds, work.activation_bytes)


@pytest.mark.parametrize("image", [(28, 28, 1), (32, 32, 3), (64, 48, 3)])
@pytest.mark.parametrize("name", PRESETS)
def test_preset_common_image_sizes_fit(name: str, image: tuple[int, int, int]) -> None:
    assert parse_network(PRESETS[name], image, 43).layers[-1].output_shape == (43,)


@pytest.mark.parametrize("name", ["article", "small", "residual"])
def test_preset_digits_fit(name: str) -> None:
    assert parse_network(PRESETS[name], (8, 8, 1), 10).layers[-1].output_shape == (10,)


@pytest.mark.parametrize(
    ("text", "architecture"),
    [
        *PRESETS.items(),
        *((name, backbone.architecture) for name, backbone in BACKBONES.items()),
        ("conv 8 3, flatten", "conv 8 3, flatten"),
        ("flatten", "flatten"),
        ("globalavg", "globalavg"),
        ("globalmax", "globalmax"),
        ("", ""),  # the grammar reports what is missing
    ],
)
def test_resolve_architecture_name_or_architecture_returns_the_architecture(text: str, architecture: str) -> None:
    assert resolve_architecture(text) == architecture


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("artikle", f"unknown preset 'artikle': did you mean 'article'? {KNOWN}"),
        ("lenet", f"unknown preset 'lenet': did you mean 'lenet5'? {KNOWN}"),
        ("vgg16", f"unknown preset 'vgg16': {KNOWN}"),
        ("softmax", f"unknown preset 'softmax': {KNOWN}"),
        ("my-model.onnx", f"unknown preset 'my-model.onnx': {KNOWN}"),
    ],
)
def test_resolve_architecture_unknown_name_lists_the_presets(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        resolve_architecture(text)
