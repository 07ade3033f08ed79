"""The estimated time of training: its measurement and its extrapolation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convscope import load_data
from convscope.api.models import model_cost
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.backends.native.backend import Precision
from convscope.network.build import parse_network
from convscope.network.cost import TimeEstimate
from convscope.network.network import Network
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
from convscope.training.probes import estimate
from convscope.training.probes.autotune import TuningResult
from convscope.training.probes.estimate import Throughput, training_cost, training_time
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES, VARIANTS

ESTIMATE = TimeEstimate(epochs=2, epoch_seconds=3.0, training_seconds=6.0, probe_seconds=1.0)
Calls = list[tuple[str, int, int]]


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *VARIANTS["color"].values()], ids=lambda recipe: recipe.name)
def test_training_time_any_recipe_gives_a_consistent_estimate(recipe: Recipe) -> None:
    """Fields that follow from each other; nothing is claimed about this machine's speed."""
    network = parse_network("flatten, dense 5", (8, 8, 1), 10)  # muon moves the first of the two layers
    found = training_time(network, recipe, "float32", (5_000, 500), probe_seconds=0.01)
    assert found.epochs == recipe.planned_epochs(5_000)
    assert 0 < found.epoch_seconds < 60
    assert found.training_seconds == found.epochs * found.epoch_seconds
    assert 0 < found.probe_seconds < 10


def test_training_time_probe_is_as_long_as_requested_and_no_longer_than_the_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[tuple[int, int]] = []

    def measure(_: Network, __: Recipe, ___: Precision, counts: tuple[int, int]) -> Throughput:
        measured.append(counts)
        return Throughput(1000.0, 5000.0)

    monkeypatch.setattr(estimate, "_measure", measure)
    network, recipe = parse_network("flatten"), RECIPES["article"]
    found = training_time(network, recipe, "float32", (60_000, 10_000), probe_seconds=4.0)
    assert measured == [(8 * 128, 128), (4_000, 1_000)]
    assert found == TimeEstimate(epochs=10, epoch_seconds=62.0, training_seconds=620.0, probe_seconds=4.2)
    training_time(network, recipe, "float32", (2_000, 400), probe_seconds=4.0)
    assert measured[-1] == (2_000, 500)
    training_time(network, recipe, "float32", (60_000, 10_000), probe_seconds=0.1)
    assert measured[-1] == (1024, 256)


@pytest.mark.parametrize(
    ("architecture", "resizing", "relative_cost"),
    [
        ("conv 4 3 pad same, globalavg", (), 1),
        # 27,648 multiply-adds in the convolution of 16x16x3, a quarter of them in that of 8x8x3, and 40 in the rest
        ("conv 4 3 pad same, globalavg", ((0.5, 0.5),), (6_952 + 27_688) / (2 * 27_688)),
        ("conv 4 3 pad same, globalavg", ((0.2, 0.5), (0.6, 0.75)), (2 * 6_952 + 4 * 15_592 + 4 * 27_688) / 276_880),
        ("conv 4 3 pad same, flatten", ((0.5, 0.5),), 1),  # it takes images of one size only
    ],
)
def test_training_time_smaller_images_take_the_time_of_their_multiply_adds(
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    resizing: tuple[tuple[float, float], ...],
    relative_cost: float,
) -> None:
    monkeypatch.setattr(estimate, "_measure", lambda *_: Throughput(1000.0, 5000.0))
    recipe = RECIPES["article"].override(progressive_resizing=resizing)
    network = parse_network(architecture, (16, 16, 3), 10)
    found = training_time(network, recipe, "float32", (60_000, 10_000))
    assert found.epoch_seconds == pytest.approx(60 * relative_cost + 2, rel=1e-12)
    assert found.training_seconds == 10 * found.epoch_seconds


def test_training_time_probe_uses_full_size_images_and_rates_that_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipes: list[Recipe] = []

    def record(*arguments: Any) -> Any:
        config = arguments[3]
        assert isinstance(config, TrainConfig)
        recipes.append(config.recipe)
        return fit(*arguments)

    monkeypatch.setattr(estimate, "fit", record)
    recipe = VARIANTS["color"]["best"].override(batch_size=50, progressive_resizing=((0.9, 0.5),))
    network = parse_network("whiten 2, relu, globalmax", (8, 8, 3), 2)
    training_time(network, recipe, "float32", (500, 100), probe_seconds=0.01)
    for probed in recipes:
        assert (probed.schedule.progressive_resizing, probed.planned_epochs(500)) == ((), 1)
        rates = probed.optimizer.learning_rate, probed.optimizer.sgd_lr, probed.optimizer.norm_bias_lr or 0
        assert max(rates) < 1e-3
    assert recipes


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls of a mock of `training_time`: recipe, number of training and of validation images."""
    calls: Calls = []

    def estimate(_: Network, recipe: Recipe, __: Precision, counts: tuple[int, int]) -> TimeEstimate:
        calls.append((recipe.name, *counts))
        return ESTIMATE

    monkeypatch.setattr("convscope.training.probes.estimate.training_time", estimate)
    monkeypatch.setattr("convscope.training.probes.estimate.autotune", lambda *_: TuningResult(1, "float32"))
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
def test_training_cost_counts_the_training_images_a6(
    estimated: Calls, recipe: str, data: str | None, train: int, validation: int
) -> None:
    found = model_cost("flatten", data, recipe).training
    inputs = 64 if data else 784
    assert estimated == [(recipe, train, validation)]
    assert found is not None
    assert (found.images, found.time) == (train, ESTIMATE)
    assert found.epoch_multiply_adds == 3 * train * inputs * 10


@pytest.mark.parametrize("recipe", VARIANTS["color"])
def test_training_cost_color_data_uses_the_recipe_for_color(estimated: Calls, tmp_path: Path, recipe: str) -> None:
    images, labels = np.zeros((100, 4, 4, 3), np.uint8), np.arange(100) % 2
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    model_cost("flatten", str(tmp_path / "set.npz"), recipe)
    model_cost("flatten", None, recipe)  # MNIST
    assert [name for name, *_ in estimated] == [VARIANTS["color"][recipe].name, RECIPES[recipe].name]


@pytest.mark.usefixtures("estimated")
def test_training_cost_images_are_those_of_a_training_plan() -> None:
    plan = make_plan(load_data("digits"), TrainOptions(model="flatten"), "digits")
    assert training_cost(plan.config.network, load_data("digits")).images == plan.config.dataset.train_images


@pytest.mark.usefixtures("estimated")
def test_training_cost_progressive_resizing_counts_smaller_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the epochs have images of 4x4 instead of 8x8, unless the network takes one size only."""
    recipe = RECIPES["default"].override(epochs=2, progressive_resizing=((0.5, 0.5),))
    monkeypatch.setattr("convscope.training.probes.estimate.recipe_named", lambda *_: recipe)
    resized, fixed = (
        training_cost(parse_network(f"conv 4 3 pad same, {end}", (8, 8, 1)), load_data("digits")).epoch_multiply_adds
        for end in ("globalavg", "flatten")
    )
    assert resized == 3 * 1293 * (64 * 4 * 9 + 16 * 4 * 9 + 2 * 40) / 2
    assert fixed == 3 * 1293 * (64 * 4 * 9 + 64 * 4 * 10)


def test_training_cost_real_data_names_the_machine() -> None:
    before = torch.get_num_threads()
    try:
        found = model_cost("small", "digits", threads=1).training
    finally:
        torch.set_num_threads(before)
    assert found is not None
    assert found.machine.threads == 1
    assert found.time.epochs == RECIPES["default"].planned_epochs(1293)


@pytest.mark.parametrize(
    ("seconds", "measured"),
    [
        (0.01, [(16, 16)]),  # 100 images per second: the first few have to do
        (1.0, [(16, 16), (100, 100)]),
        (60.0, [(16, 16), (384, 128)]),
    ],
)
def test_estimate_throughput_measures_what_fits(
    monkeypatch: pytest.MonkeyPatch, seconds: float, measured: list[tuple[int, int]]
) -> None:
    network, found = parse_network("flatten", (8, 8, 1), 10), list[tuple[int, int]]()

    def measure(_: Network, __: Recipe, ___: Precision, counts: tuple[int, int]) -> Throughput:
        found.append(counts)
        return Throughput(100.0, 1000.0)

    monkeypatch.setattr(estimate, "_measure", measure)
    assert estimate.estimate_throughput(network, RECIPES["default"], "float32", 5000, seconds) == Throughput(100, 1000)
    assert found == measured
