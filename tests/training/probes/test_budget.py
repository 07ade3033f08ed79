"""Training within a wall-clock budget."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

import pytest

from convscope import Dataset, load_data, open_run, resume_run
from convscope.api.train import run_plan
from convscope.api.training.hooks import Hooks
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.network.build import parse_network
from convscope.training.callbacks import Trainer
from convscope.training.probes import budget
from convscope.training.probes.budget import MIN_TRAINING_SECONDS, RESULTS_SECONDS, Budget, TimeLimit, time_limit
from convscope.training.probes.estimate import Throughput
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES
from helpers.command import Command
from helpers.reporting import RecordingReporter
from helpers.training import LambdaCallback, ProgressRecorder

pytestmark = pytest.mark.slow

NETWORK = parse_network("conv 4 3, globalavg", (16, 16, 3), 5)
RECIPE = RECIPES["default"].override(epochs=1)


@pytest.fixture
def fixed_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 images per second in training, 1,000 in evaluation, an idle machine; a clock that stands still at 1,000 s."""
    monkeypatch.setattr(budget, "slowdown", lambda: 1.0)
    monkeypatch.setattr(budget, "estimate_throughput", lambda *_: Throughput(100, 1000))
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)


@pytest.mark.usefixtures("fixed_speed")
@pytest.mark.parametrize(
    ("seconds", "since", "expected"),
    [
        # 3 s for results, 5.4 s for 5,400 images, 13.4 s for 6,700 images in the model file: 24 s are left
        (45.8, 1000, (24.0, 2)),
        (44.8, 1000, (23.0, 2)),  # an epoch takes 10 s, and 1.2 s for the 1,200 validation images
        (41.8, 1000, (20.0, 1)),
        (141.8, 1000, (120.0, 10)),
        (141.8, 960, (80.0, 7)),  # the budget began 40 seconds ago
        (22.9, 1000, (1.1, 1)),
    ],
)
def test_time_limit_is_the_budget_without_preparation_and_results(
    seconds: float, since: float, expected: tuple[float, int]
) -> None:
    found = time_limit(Budget(seconds, since), NETWORK, RECIPE, "float32", (1000, 1200, 4200))
    assert found.seconds == pytest.approx(expected[0])
    assert (found.epochs, found.reason) == (expected[1], "")
    assert (RESULTS_SECONDS, MIN_TRAINING_SECONDS) == (3, 1)


@pytest.mark.usefixtures("fixed_speed")
def test_time_limit_accounts_for_progressive_resizing_and_test_time_augmentation() -> None:
    def limit(recipe: Recipe, test_images: int, seconds: float = 200) -> TimeLimit:
        return time_limit(Budget(seconds, 1000), NETWORK, recipe, "float32", (1000, 10, test_images))

    assert limit(RECIPE, 10).epochs == 19
    assert limit(RECIPE.override(progressive_resizing=((0.5, 0.5),)), 10).epochs > 28
    with_tta = limit(RECIPE.override(tta=True), 10_000, 400)
    assert with_tta.seconds == pytest.approx(limit(RECIPE, 10_000, 400).seconds - 60)
    assert with_tta.tta
    without = limit(RECIPE.override(tta=True), 10_000, 200)  # it would take 60 of 200 s
    assert without == limit(RECIPE, 10_000, 200)
    assert not without.tta


@pytest.mark.usefixtures("fixed_speed")
def test_time_limit_nothing_left_is_a_second_and_says_so() -> None:
    found = time_limit(Budget(20, 988), NETWORK, RECIPE, "float32", (1000, 1000, 5000))
    assert (found.seconds, found.epochs) == (1, 1)
    assert found.reason == (
        "--budget 20s is too short: preparation took 12.0 s and results take about 23.6 s, so training takes 1 s and "
        "the end is late; 37s would be enough"
    )


@pytest.mark.usefixtures("fixed_speed")
def test_time_limit_busy_machine_leaves_more_for_results(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = 1000, 10, 10
    idle = time_limit(Budget(60, 1000), NETWORK, RECIPE, "float32", counts)
    monkeypatch.setattr(budget, "slowdown", lambda: 2.5)
    busy = time_limit(Budget(60, 1000), NETWORK, RECIPE, "float32", counts)
    assert busy.seconds == pytest.approx(idle.seconds - 1.5 * RESULTS_SECONDS)


def test_budget_share_is_a_fraction_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    assert Budget(60, 980).share(0.1) == 4
    assert Budget(60, 980).share(0.1, at_most=3) == 3
    assert Budget(60, 900).share(0.1) == Budget(60, 900).left == 0
    assert Budget().share(0.1, at_most=3) == math.inf


def test_train_command_budget_ends_training_in_time(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convscope._hardware.process_start", time.monotonic)
    monkeypatch.setattr(budget, "slowdown", lambda: 1.0)
    arguments = "train", "digits", "--model", "flatten", "--budget", "8s", "--run", f"{tmp_path}/run", "--threads", "1"
    answer = command(*arguments)
    assert answer.code == 0
    assert "done within 8.0 s" in answer.err
    run = open_run(tmp_path / "run")
    config = run.config
    assert config.budget == 8
    assert config.time_limit is not None
    assert config.time_limit < 8 - RESULTS_SECONDS
    assert run.manifest.train_seconds == pytest.approx(config.time_limit, abs=1)
    assert config.recipe.name == "best"
    assert run.history[-1]["learning_rate"] < 0.02 * max(epoch["learning_rate"] for epoch in run.history)


def test_resume_run_budget_clock_stands_still_in_between(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "slowdown", lambda: 1.0)
    options = TrainOptions(model="flatten", recipe="fast", threads=1, budget=7.5, run=tmp_path / "run")
    plan = make_plan(stripes, options)
    limit = plan.config.time_limit
    assert limit is not None
    seconds_left = limit

    def interrupt(trainer: Trainer) -> None:
        nonlocal seconds_left
        seconds_left = trainer.state.progress().seconds_left
        if seconds_left < limit - 1:
            signal.raise_signal(signal.SIGINT)

    stopped = run_plan(plan, options, Hooks(callbacks=[LambdaCallback(on_train_batch_end=interrupt)]))
    assert 1 <= stopped.manifest.train_seconds < limit
    reporter, recorder = RecordingReporter(), ProgressRecorder()
    done = resume_run(stopped.path, stripes, callbacks=[recorder], reporter=reporter)
    expected = "the result will be equivalent, not bit-identical: its learning rate follows the clock"
    assert reporter.messages[0] == expected
    assert 0.2 * limit < recorder.seen[0].seconds_left < seconds_left
    assert done.manifest.train_seconds == pytest.approx(limit, abs=1)


@pytest.mark.parametrize("recipe", ["default", "article"])
def test_make_plan_budget_stretches_the_given_recipe(recipe: str) -> None:
    options = TrainOptions(budget="600s", recipe=recipe, threads=1)
    config = make_plan(load_data("digits"), options).config
    assert config.recipe.name == recipe
    assert config.time_limit is not None
    assert 500 < config.time_limit < 600 - RESULTS_SECONDS


def test_train_command_budget_too_short_trains_a_model_and_says_so(command: Command, tmp_path: Path) -> None:
    answer = command("train", "digits", "--budget", "1s", "--threads", "1", "--run", f"{tmp_path}/run")
    assert answer.code == 0
    assert "--budget 1s is too short: " in answer.err
    run = open_run(tmp_path / "run")
    assert run.evaluation is not None
    assert run.config.reasons["budget"].endswith("s would be enough")
