"""Where networks are cut: every preset and backbone, and networks made for each rule."""

from __future__ import annotations

from math import prod

import pytest

from convscope.network.backbones import BACKBONES
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.network.presets import PRESETS
from convscope.training.finetuning.cut import MAX_TAIL_COST, MIN_TAIL_COST, choose_cut

NETWORKS = {
    **{name: parse_network(line, (32, 32, 3), 10) for name, line in PRESETS.items()},
    **{name: parse_network(backbone.architecture, backbone.input_shape, 10) for name, backbone in BACKBONES.items()},
}
WITHOUT_PLACE = {"article", "quick", "small", "tiny"}


def tail_cost(network: Network, cut: int) -> float:
    """The fraction of the multiply-adds behind a cut."""
    return sum(layer.multiply_adds for layer in network.layers[cut:]) / network.multiply_adds


def places(network: Network) -> list[int]:
    """All cuts behind maps, with a layer between cut and classifier and at most the highest cost behind."""
    body = network.layers[:-2]
    maps = [cut for cut in range(1, len(body)) if len(body[cut - 1].output_shape) == 3]
    return [cut for cut in maps if tail_cost(network, cut) <= MAX_TAIL_COST]


@pytest.mark.parametrize("name", NETWORKS)
def test_choose_cut_every_preset_and_backbone(name: str) -> None:
    network = NETWORKS[name]
    cut = choose_cut(network)
    if cut is None:
        assert not places(network)
        return
    height, width, channels = network.layers[cut - 1].output_shape
    wanted = [place for place in places(network) if tail_cost(network, place) >= MIN_TAIL_COST]
    if wanted:
        assert MIN_TAIL_COST <= tail_cost(network, cut) <= MAX_TAIL_COST
        smallest = min(prod(network.layers[place - 1].output_shape) for place in wanted)
        assert height * width * channels == smallest
    else:
        assert cut == places(network)[0]


@pytest.mark.parametrize("name", BACKBONES)
def test_choose_cut_finds_a_place_in_every_backbone(name: str) -> None:
    cut = choose_cut(NETWORKS[name])
    assert cut is not None
    assert 0 < tail_cost(NETWORKS[name], cut) <= MAX_TAIL_COST


@pytest.mark.parametrize(
    "architecture", ["flatten", "flatten, dense 9, relu", "globalavg", "conv 8 3, relu, maxpool 2, flatten, dense 100"]
)
def test_choose_cut_is_none_if_only_vectors_or_too_much_follow(architecture: str) -> None:
    assert choose_cut(parse_network(architecture, (16, 16, 3), 10)) is None


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        # 14 % behind the first convolution, the activation and the pool, whose maps are the smallest
        ("conv 32 3 pad same, relu, maxpool 2, conv 2 3 pad same, relu, globalavg", 3),
        # 16 % behind the first convolution and both activations, with equal maps: the last
        ("conv 64 3 pad same, relu, relu, conv 5 1, relu, globalavg", 3),
        # 91 % behind the first convolution and nearly nothing behind the second: the first with less
        ("conv 32 3 pad same, conv 32 3 pad same, relu, globalavg", 2),
    ],
)
def test_choose_cut_by_hand(architecture: str, expected: int) -> None:
    assert choose_cut(parse_network(architecture, (16, 16, 3), 10)) == expected
