"""How long training takes: the images that are counted, and a time estimate that makes sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convscope.api.models import model_cost
from convscope.api.train import plan
from convscope.backends.native.backend import Precision
from convscope.data.load import load_data
from convscope.network.build import parse_network
from convscope.network.cost import TimeEstimate
from convscope.network.layers import Network
from convscope.network.presets import PRESETS
from convscope.training import estimate as cost
from convscope.training.autotune import Settings
from convscope.training.estimate import training_cost, training_time
from convscope.training.loop import fit
from convscope.training.recipes import RECIPES, VARIANTS, Recipe

ESTIMATE = TimeEstimate(epochs=2, epoch_seconds=3.0, training_seconds=6.0, probe_seconds=1.0)
Asked = list[tuple[str, int, int]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The questions to a stand-in for the clock: recipe, training and validation images."""
    found: Asked = []

    def answer(_: Network, recipe: Recipe, __: Precision, images: int, validation_images: int) -> TimeEstimate:
        found.append((recipe.name, images, validation_images))
        return ESTIMATE

    monkeypatch.setattr(cost, "training_time", answer)
    monkeypatch.setattr(cost, "autotune", lambda *_: Settings(1, "float32"))
    return found


@pytest.mark.parametrize(
    ("recipe", "data", "training", "validation"),
    [
        ("article", None, 60_000, 10_000),
        ("default", None, 54_000, 6_000),
        ("article", "digits", 1438, 359),
        ("default", "digits", 1293, 145),
    ],
)
def test_training_cost_counts_the_training_images(
    asked: Asked, recipe: str, data: str | None, training: int, validation: int
) -> None:
    found = model_cost("flatten", data, recipe).training
    inputs = 64 if data else 784
    assert asked == [(recipe, training, validation)]
    assert found is not None
    assert found.images == training
    assert found.epoch_multiply_adds == 3 * training * inputs * 10


@pytest.mark.parametrize("recipe", VARIANTS["color"])
def test_training_cost_of_color_images_uses_their_recipe(asked: Asked, tmp_path: Path, recipe: str) -> None:
    images, labels = np.zeros((100, 4, 4, 3), np.uint8), np.arange(100) % 2
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    model_cost("flatten", tmp_path / "set.npz", recipe)
    model_cost("flatten", None, recipe)  # MNIST
    assert [name for name, *_ in asked] == [VARIANTS["color"][recipe].name, RECIPES[recipe].name]


@pytest.mark.usefixtures("asked")
def test_training_cost_images_are_those_of_a_training_plan() -> None:
    facts = plan("digits", "flatten").config.dataset
    found = training_cost(parse_network("flatten", (8, 8, 1)), load_data("digits"))
    assert found.images == facts.train_images


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *VARIANTS["color"].values()], ids=lambda recipe: recipe.name)
def test_the_estimate_is_of_real_training(recipe: Recipe) -> None:
    """Fields that follow from each other; no claim about this machine's speed."""
    network = parse_network("flatten, dense 5", (8, 8, 1), 10)  # muon moves the first of the two layers
    found = training_time(network, recipe, "float32", 5_000, 500, probe_seconds=0.01)
    assert found.epochs == recipe.planned_epochs(5_000)
    assert 0 < found.epoch_seconds < 60
    assert found.training_seconds == found.epochs * found.epoch_seconds
    assert 0 < found.probe_seconds < 10


def test_the_probe_is_as_long_as_it_is_asked_to_be_and_no_longer_than_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def pace(_: Network, __: Recipe, ___: Precision, images: int, scored: int) -> cost.Pace:
        seen.append((images, scored))
        return cost.Pace(1000.0, 5000.0)

    monkeypatch.setattr(cost, "_pace", pace)
    network, recipe = parse_network("flatten"), RECIPES["article"]
    found = training_time(network, recipe, "float32", 60_000, 10_000, probe_seconds=4.0)
    assert seen == [(8 * 128, 128), (4_000, 1_000)]
    assert found == TimeEstimate(epochs=10, epoch_seconds=62.0, training_seconds=620.0, probe_seconds=4.2)
    training_time(network, recipe, "float32", 2_000, 400, probe_seconds=4.0)
    assert seen[-1] == (2_000, 500)
    training_time(network, recipe, "float32", 60_000, 10_000, probe_seconds=0.1)
    assert seen[-1] == (1024, 256)


@pytest.mark.parametrize(
    ("line", "growth", "share"),
    [
        ("conv 4 3 pad same, globalavg", (), 1),
        # 27,648 multiply-adds in the convolution of 16x16x3, a quarter of them in that of 8x8x3, and 40 in the rest
        ("conv 4 3 pad same, globalavg", ((0.5, 0.5),), (6_952 + 27_688) / (2 * 27_688)),
        ("conv 4 3 pad same, globalavg", ((0.2, 0.5), (0.6, 0.75)), (2 * 6_952 + 4 * 15_592 + 4 * 27_688) / 276_880),
        ("conv 4 3 pad same, flatten", ((0.5, 0.5),), 1),  # its images do not grow
    ],
)
def test_small_images_take_the_time_of_their_multiply_adds(
    monkeypatch: pytest.MonkeyPatch, line: str, growth: tuple[tuple[float, float], ...], share: float
) -> None:
    monkeypatch.setattr(cost, "_pace", lambda *_: cost.Pace(1000.0, 5000.0))
    recipe = RECIPES["article"].model_copy(update={"growth": growth})
    found = training_time(parse_network(line, (16, 16, 3), 10), recipe, "float32", 60_000, 10_000)
    assert found.epoch_seconds == pytest.approx(60 * share + 2, rel=1e-12)
    assert found.training_seconds == 10 * found.epoch_seconds


def test_the_clock_runs_on_whole_images_at_rates_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Recipe] = []

    def noted(*arguments: Any, **options: Any) -> Any:
        given.append(arguments[4])
        return fit(*arguments, **options)

    monkeypatch.setattr(cost, "fit", noted)
    recipe = VARIANTS["color"]["best"].model_copy(update={"batch": 50, "growth": ((0.9, 0.5),)})
    training_time(
        parse_network("whiten 2, relu, globalmax", (8, 8, 3), 2), recipe, "float32", 500, 100, probe_seconds=0.01
    )
    for chosen in given:
        assert (chosen.growth, chosen.planned_epochs(500)) == ((), 1)
        rates = chosen.learning_rate, chosen.rest_learning_rate, chosen.bias_learning_rate or 0
        assert max(rates) < 1e-3
    assert given


def test_training_cost_of_real_data_names_its_machine() -> None:
    before = torch.get_num_threads()
    try:
        found = training_cost(parse_network(PRESETS["small"], (8, 8, 1)), load_data("digits"), threads=1)
    finally:
        torch.set_num_threads(before)
    assert found.machine.threads == 1
    assert found.time.epochs == RECIPES["default"].planned_epochs(1293)
