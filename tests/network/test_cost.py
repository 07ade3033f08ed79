"""What a network costs, counted by hand here."""

from __future__ import annotations

import json

import pytest

from convscope.errors import UsageError
from convscope.network.build import parse_network
from convscope.network.cost import NetworkCost, Work, check_memory, network_cost
from convscope.network.presets import PRESETS


def test_network_cost_of_article_network_is_the_hand_computed_one() -> None:
    cost = network_cost(parse_network(PRESETS["article"]))
    convolution, hidden, classifier = 26 * 26 * 32 * 3 * 3, 13 * 13 * 32 * 100, 100 * 10
    outputs = 2 * 26 * 26 * 32 + 2 * 13 * 13 * 32 + 2 * 100 + 2 * 10
    assert cost.image == Work(
        parameters=542_230, multiply_adds=convolution + hidden + classifier, activation_bytes=4 * outputs
    )
    work = {layer.name: layer.multiply_adds for layer in cost.layers if layer.multiply_adds}
    assert work == {"conv1": convolution, "dense1": hidden, "classifier": classifier}
    assert cost.image_4k is not None
    assert cost.image_4k.model_dump(mode="json") == {
        "input_shape": [2160, 3840, 1],
        "parameters": 320 + (1079 * 1919 * 32 + 1) * 100 + 1010,
        "multiply_adds": 2158 * 3838 * 32 * 9 + 1079 * 1919 * 32 * 100 + 1000,
        "activation_bytes": 4 * (2 * 2158 * 3838 * 32 + 2 * 1079 * 1919 * 32 + 220),
    }
    assert (cost.architecture, cost.input_shape, cost.classes) == (PRESETS["article"], (28, 28, 1), 10)
    assert cost.training is None


@pytest.mark.parametrize("name", PRESETS)
def test_network_cost_of_every_preset_is_counted_and_survives_json(name: str) -> None:
    network = parse_network(PRESETS[name], (28, 28, 3), 5)
    cost = network_cost(network)
    assert cost.image.parameters == sum(layer.parameters for layer in cost.layers) == network.parameters
    assert cost.image_4k is not None
    assert cost.image_4k.input_shape == (2160, 3840, 3)
    assert cost.image_4k.multiply_adds > 3840 * 2160 / 784 * cost.image.multiply_adds / 2
    assert NetworkCost.model_validate(json.loads(cost.model_dump_json())) == cost


def test_network_cost_of_network_that_rejects_4k_has_no_cost_there() -> None:
    """7 does not divide 2160, so the residual block's output has a size that no projection gives."""
    network = parse_network("residual(maxpool 7), flatten")
    assert network.parameters == 1 + 4 * 4 * 10 + 10  # the projection has one weight
    assert network_cost(network).image_4k is None


@pytest.mark.parametrize(
    ("available", "batch_size", "message"),
    [
        (1e9, 128, None),
        (
            1e7, 128,
            "take 130 kB per image, 17 MB for a batch of 128, but only 10 MB of memory are available: lower "
            "--batch-size to 76 or less, or pool earlier",
        ),
        (1e5, 1, "130 kB for a batch of 1, but only 100 kB of memory are available: pool earlier, or use smaller"),
    ],
)  # fmt: skip
def test_check_memory_batch_that_does_not_fit_raises(
    monkeypatch: pytest.MonkeyPatch, available: float, batch_size: int, message: str | None
) -> None:
    network = parse_network("conv 64 3 pad same, relu, flatten", (13, 13, 1))
    assert network.activation_bytes == 129_872
    monkeypatch.setattr("convscope.network.cost.available_memory", lambda: available)
    if message is None:
        check_memory(network, batch_size)
    else:
        with pytest.raises(UsageError, match=message):
            check_memory(network, batch_size)
