"""What a network costs (A6, A16): exact work, counted by hand here, and an estimate of time that makes sense."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convscope.api.train import plan
from convscope.backends.native.backend import Precision
from convscope.errors import DataError, UsageError
from convscope.network.build import parse_network
from convscope.network.layers import Network
from convscope.network.presets import PRESETS
from convscope.training.loop import fit
from convscope.training.probes import estimate as cost
from convscope.training.probes.autotune import Settings
from convscope.training.probes.estimate import TimeEstimate, at_4k, cost_of, training_time
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
def test_a6_the_work_of_an_epoch_is_counted_on_the_images_that_train(
    asked: Asked, recipe: str, data: str | None, training: int, validation: int
) -> None:
    found = cost_of("flatten", data, recipe)
    inputs = 64 if data else 784
    assert asked == [(recipe, training, validation)]
    assert found.images == training
    assert found.network.multiply_adds == inputs * 10
    assert found.epoch_multiply_adds == 3 * training * inputs * 10


@pytest.mark.parametrize("recipe", VARIANTS["color"])
def test_a_recipe_for_color_images_is_the_one_whose_time_is_told(asked: Asked, tmp_path: Path, recipe: str) -> None:
    images, labels = np.zeros((100, 4, 4, 3), np.uint8), np.arange(100) % 2
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    cost_of("flatten", str(tmp_path / "set.npz"), recipe)
    cost_of("flatten", None, recipe)  # MNIST
    assert [name for name, *_ in asked] == [VARIANTS["color"][recipe].name, RECIPES[recipe].name]


@pytest.mark.usefixtures("asked")
def test_the_images_are_those_that_train_counts_on() -> None:
    facts = plan("digits", "flatten").config.dataset
    assert cost_of("flatten", "digits").images == facts.train_images


@pytest.mark.usefixtures("asked")
def test_a6_a16_the_articles_network_by_hand() -> None:
    values = cost_of("article", recipe="article").to_dict()
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
    assert values["photo_4k"] == {
        "input": [2160, 3840, 1],
        "parameters": 320 + (1079 * 1919 * 32 + 1) * 100 + 1010,
        "multiply_adds": 2158 * 3838 * 32 * 9 + 1079 * 1919 * 32 * 100 + 1000,
        "activation_bytes": 4 * (2 * 2158 * 3838 * 32 + 2 * 1079 * 1919 * 32 + 220),
    }
    assert (values["input"], values["classes"]) == ([28, 28, 1], 10)
    assert (values["architecture"], values["recipe"]) == (PRESETS["article"], "article")
    assert values["time"] == asdict(ESTIMATE)
    assert json.loads(json.dumps(values, allow_nan=False)) == values


@pytest.mark.parametrize("name", PRESETS)
def test_a16_every_preset_has_a_cost_at_4k(name: str) -> None:
    photo = at_4k(PRESETS[name], 3, 5)
    assert photo is not None
    assert (photo.input_shape, photo.classes) == ((2160, 3840, 3), 5)
    assert photo.multiply_adds > 3840 * 2160 / 784 * parse_network(PRESETS[name], (28, 28, 3), 5).multiply_adds / 2


@pytest.mark.usefixtures("asked")
def test_a_line_that_does_not_fit_4k_has_no_cost_there() -> None:
    """7 does not divide 2160: the block's result has a size that no projection gives."""
    line = "residual(maxpool 7), flatten"
    assert parse_network(line).parameters == 1 + 4 * 4 * 10 + 10  # the projection has one weight
    assert at_4k(line, 1, 10) is None
    assert cost_of(line).to_dict()["photo_4k"] is None


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
    assert found == TimeEstimate(10, 62.0, 620.0, 4.2)
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
    recipe = RECIPES["article"].override(**{"progressive_resizing": growth})
    found = training_time(parse_network(line, (16, 16, 3), 10), recipe, "float32", 60_000, 10_000)
    assert found.epoch_seconds == pytest.approx(60 * share + 2, rel=1e-12)
    assert found.training_seconds == 10 * found.epoch_seconds


def test_the_clock_runs_on_whole_images_at_rates_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Recipe] = []

    def noted(*arguments: Any, **options: Any) -> Any:
        given.append(arguments[4])
        return fit(*arguments, **options)

    monkeypatch.setattr(cost, "fit", noted)
    recipe = VARIANTS["color"]["best"].override(**{"batch_size": 50, "progressive_resizing": ((0.9, 0.5),)})
    training_time(
        parse_network("whiten 2, relu, globalmax", (8, 8, 3), 2), recipe, "float32", 500, 100, probe_seconds=0.01
    )
    for chosen in given:
        assert (chosen.schedule.progressive_resizing, chosen.planned_epochs(500)) == ((), 1)
        rates = chosen.optimizer.learning_rate, chosen.optimizer.sgd_lr, chosen.optimizer.norm_bias_lr or 0
        assert max(rates) < 1e-3
    assert given


def test_a_real_cost_of_a_real_data_set_says_which_machine_it_is_for() -> None:
    before = torch.get_num_threads()
    try:
        found = cost_of("small", "digits", threads=1)
    finally:
        torch.set_num_threads(before)
    assert found.network.input_shape == (8, 8, 1)
    assert found.machine.threads == 1
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
def test_what_is_not_there_is_said(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        cost_of(**arguments)
