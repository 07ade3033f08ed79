"""The cost of a network (A6, A16): exact work, counted by hand here, and an estimate of its time."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convscope import load_data
from convscope.api import cost
from convscope.api.cost import NetworkCost, cost_at_4k, network_cost
from convscope.api.options import TrainOptions
from convscope.api.plan import make_plan
from convscope.backends.native.backend import Precision
from convscope.errors import DataError, UsageError
from convscope.network.build import parse_network
from convscope.network.layers import Network
from convscope.network.presets import PRESETS
from convscope.training.probes.autotune import TuningResult
from convscope.training.recipes import RECIPES, VARIANTS, Recipe
from convscope.training.state import TimeEstimate

ESTIMATE = TimeEstimate(epochs=2, epoch_seconds=3.0, training_seconds=6.0, probe_seconds=1.0)
Calls = list[tuple[str, int, int]]


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls of a mock of `training_time`: recipe, number of training and of validation images."""
    calls: Calls = []

    def estimate(_: Network, recipe: Recipe, __: Precision, counts: tuple[int, int]) -> TimeEstimate:
        calls.append((recipe.name, *counts))
        return ESTIMATE

    monkeypatch.setattr("convscope.training.probes.estimate.training_time", estimate)
    monkeypatch.setattr("convscope.training.probes.autotune.autotune", lambda *_: TuningResult(1, "float32"))
    return calls


@pytest.mark.parametrize(
    ("recipe", "data", "train", "validation"),
    [
        ("article", None, 60_000, 10_000),
        ("default", None, 54_000, 6_000),
        ("article", "digits", 1438, 359),
        ("default", "digits", 1293, 145),
    ],
)
def test_network_cost_epoch_counts_the_training_images_a6(
    estimated: Calls, recipe: str, data: str | None, train: int, validation: int
) -> None:
    found = network_cost("flatten", data, recipe)
    inputs = 64 if data else 784
    assert estimated == [(recipe, train, validation)]
    assert found.epoch.images == train
    assert found.network.multiply_adds == inputs * 10
    assert found.epoch.multiply_adds == 3 * train * inputs * 10


@pytest.mark.parametrize("recipe", VARIANTS["color"])
def test_network_cost_color_data_estimates_the_recipe_for_color(estimated: Calls, tmp_path: Path, recipe: str) -> None:
    images, labels = np.zeros((100, 4, 4, 3), np.uint8), np.arange(100) % 2
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    network_cost("flatten", str(tmp_path / "set.npz"), recipe)
    network_cost("flatten", None, recipe)  # MNIST
    assert [name for name, *_ in estimated] == [VARIANTS["color"][recipe].name, RECIPES[recipe].name]


@pytest.mark.usefixtures("estimated")
def test_network_cost_images_are_those_that_training_plans() -> None:
    plan = make_plan(load_data("digits"), TrainOptions(model="flatten"), "digits")
    assert network_cost("flatten", "digits").epoch.images == plan.config.dataset.train_images


@pytest.mark.usefixtures("estimated")
def test_network_cost_article_equals_the_count_by_hand_a6_a16() -> None:
    found = network_cost("article", recipe="article")
    values: dict[str, Any] = found.model_dump(mode="json")
    convolution, hidden, classifier = 26 * 26 * 32 * 3 * 3, 13 * 13 * 32 * 100, 100 * 10
    outputs = 2 * 26 * 26 * 32 + 2 * 13 * 13 * 32 + 2 * 100 + 2 * 10
    assert values["image"] == {
        "parameters": 542_230,
        "multiply_adds": convolution + hidden + classifier,
        "activation_bytes": 4 * outputs,
    }
    assert values["epoch"] == {"images": 60_000, "multiply_adds": 3 * 60_000 * 736_488}
    work = {layer["name"]: layer["multiply_adds"] for layer in values["layers"] if layer["multiply_adds"]}
    assert work == {"conv1": convolution, "dense1": hidden, "classifier": classifier}
    assert values["image_4k"] == {
        "input": [2160, 3840, 1],
        "parameters": 320 + (1079 * 1919 * 32 + 1) * 100 + 1010,
        "multiply_adds": 2158 * 3838 * 32 * 9 + 1079 * 1919 * 32 * 100 + 1000,
        "activation_bytes": 4 * (2 * 2158 * 3838 * 32 + 2 * 1079 * 1919 * 32 + 220),
    }
    assert (values["input"], values["classes"]) == ([28, 28, 1], 10)
    assert (values["architecture"], values["recipe"]) == (PRESETS["article"], "article")
    assert values["time"] == ESTIMATE.model_dump()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert NetworkCost.model_validate_json(found.model_dump_json()) == found


@pytest.mark.usefixtures("estimated")
def test_network_cost_progressive_resizing_counts_smaller_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the epochs have images of 4x4 instead of 8x8, unless the network takes one size only."""
    recipe = RECIPES["default"].override(epochs=4, progressive_resizing=((0.5, 0.5),))
    monkeypatch.setattr(cost, "recipe_named", lambda *_: recipe)
    resized, fixed = (
        network_cost(f"conv 4 3 pad same, {end}", "digits").epoch.multiply_adds for end in ("globalavg", "flatten")
    )
    assert resized == 3 * 1293 * (64 * 4 * 9 + 16 * 4 * 9 + 2 * 40) / 2
    assert fixed == 3 * 1293 * (64 * 4 * 9 + 64 * 4 * 10)


@pytest.mark.parametrize("name", PRESETS)
def test_cost_at_4k_every_preset_has_one_a16(name: str) -> None:
    found = cost_at_4k(PRESETS[name], 3, 5)
    assert found is not None
    assert found.input == (2160, 3840, 3)
    assert found.parameters == parse_network(PRESETS[name], found.input, 5).parameters
    assert found.multiply_adds > 3840 * 2160 / 784 * parse_network(PRESETS[name], (28, 28, 3), 5).multiply_adds / 2


@pytest.mark.usefixtures("estimated")
def test_cost_at_4k_architecture_does_not_fit_is_none() -> None:
    """7 does not divide 2160: no projection gives the size of the block's result."""
    architecture = "residual(maxpool 7), flatten"
    assert parse_network(architecture).parameters == 1 + 4 * 4 * 10 + 10  # the projection has one weight
    assert cost_at_4k(architecture, 1, 10) is None
    assert network_cost(architecture).model_dump()["image_4k"] is None


def test_network_cost_without_torch_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    found = network_cost("flatten")
    assert (found.time, found.machine) == (None, None)
    assert found.epoch.multiply_adds == 3 * 54_000 * 7840


def test_network_cost_real_data_names_the_machine() -> None:
    before = torch.get_num_threads()
    try:
        found = network_cost("small", "digits", threads=1)
    finally:
        torch.set_num_threads(before)
    assert found.network.input_shape == (8, 8, 1)
    assert found.machine is not None
    assert found.machine.threads == 1
    assert found.time is not None
    assert found.time.epochs == RECIPES["default"].planned_epochs(1293)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"model": "lenet5", "data": "digits"}, UsageError, "needs at least 5x5 cells, but 4x4 arrive"),
        ({"model": "smal"}, UsageError, "unknown preset 'smal'"),
        ({"model": "small", "data": "digist"}, DataError, "unknown data set 'digist', did you mean 'digits'"),
        ({"model": "small", "recipe": "quick"}, UsageError, "unknown recipe 'quick'"),
    ],
)
def test_network_cost_unknown_name_raises(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        network_cost(**arguments)
