"""A training for the time that someone has."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convscope import Dataset, open_run, resume_run
from convscope._hardware import process_start
from convscope.api import train as experiment
from convscope.cli.train_options import seconds_of
from convscope.errors import UsageError
from convscope.network.build import parse_network
from convscope.training.probes import budget
from convscope.training.probes.budget import LEAST, RESULTS, Budget, Share, share_of
from convscope.training.probes.estimate import Pace
from convscope.training.recipes import RECIPES, changed
from convscope.training.state import Progress
from helpers.command import Command
from helpers.reporting import RecordingReporter

NETWORK = parse_network("conv 4 3, globalavg", (16, 16, 3), 5)
RECIPE = RECIPES["default"].override(epochs=1)


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 images a second to train on, 1,000 to score; and a clock that stands still, at 1,000."""
    monkeypatch.setattr(budget, "quick_pace", lambda *_: Pace(100, 1000))
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)


@pytest.mark.usefixtures("pace")
@pytest.mark.parametrize(
    ("seconds", "since", "share"),
    [
        (32.4, 1000, Share(24.0, 2)),  # 3 s for the results and 5.4 s for 5,400 images: 24 s are left
        (31.4, 1000, Share(23.0, 2)),  # an epoch takes 10 s, and 1.2 s for the 1,200 images to validate on
        (28.4, 1000, Share(20.0, 1)),
        (128.4, 1000, Share(120.0, 10)),
        (128.4, 960, Share(80.0, 7)),  # 40 seconds ago
        (9.5, 1000, Share(1.1, 1)),
    ],
)
def test_what_is_left_is_for_training(seconds: float, since: float, share: Share) -> None:
    found = share_of(Budget(seconds, since), NETWORK, RECIPE, "float32", 1000, 1200, 4200)
    assert found.seconds == pytest.approx(share.seconds)
    assert found.epochs == share.epochs
    assert (RESULTS, LEAST) == (3, 1)


@pytest.mark.usefixtures("pace")
def test_growing_images_make_more_epochs_and_augmented_tests_take_their_time() -> None:
    def share(recipe: object, test: int) -> Share:
        return share_of(Budget(200, 1000), NETWORK, recipe, "float32", 1000, 10, test)  # type: ignore[arg-type]

    assert share(RECIPE, 10).epochs == 19
    assert share(RECIPE.model_copy(update={"progressive_resizing": ((0.5, 0.5),)}), 10).epochs > 28
    augmented = share(RECIPE.model_copy(update={"tta": True}), 10_000)
    assert augmented.seconds == pytest.approx(share(RECIPE, 10_000).seconds - 60)


@pytest.mark.usefixtures("pace")
def test_a_budget_in_which_nothing_fits() -> None:
    with pytest.raises(UsageError) as error:
        share_of(Budget(20, 988), NETWORK, RECIPE, "float32", 1000, 1000, 5000)
    assert str(error.value) == (
        "--budget 20s is too short: 12.0 s went into getting ready, and results take about 9.0 s; give 22s or more"
    )


@pytest.mark.parametrize("text", ["", "0", "0s", "soon", "-3s", "1d", "1e3", "3 3"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"--budget {text!r}: expected a time such as 60s, 2min or 1.5h")):
        seconds_of(text)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
def test_the_clock_starts_with_the_process() -> None:
    code = (
        "import time; time.sleep(.7); from convscope._hardware import process_start as s; print(time.monotonic() - s())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.7 <= float(done.stdout) < 10
    assert process_start() <= time.monotonic()


def test_where_the_system_does_not_tell_the_clock_starts_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", unreadable)
    before = time.monotonic()
    assert before <= process_start() <= time.monotonic()


def test_a_training_ends_with_its_budget(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.cli.train_options.process_start", time.monotonic)
    words = "train", "digits", "--model", "flatten", "--budget", "8s", "--run", f"{tmp_path}/run", "--threads", "1"
    answer = command(*words)
    assert answer.code == 0
    assert "so that all is done in 8.0 s" in answer.err
    run = open_run(tmp_path / "run")
    config = run.config
    assert config.budget == 8
    assert config.training_seconds is not None
    assert config.training_seconds < 8 - RESULTS
    assert run.manifest.train_seconds == pytest.approx(config.training_seconds, abs=1)
    assert config.recipe.name == "best"
    assert run.history[-1]["learning_rate"] < 0.02 * max(epoch["learning_rate"] for epoch in run.history)


def test_a_training_with_a_budget_goes_on_by_its_clock(stripes: Dataset, tmp_path: Path) -> None:
    """Which stands still in between."""
    plan = experiment.plan(stripes, "flatten", "fast", threads=1, budget=Budget(7.5, time.monotonic()))
    limit = plan.config.training_seconds
    assert limit is not None

    def interrupt(now: Progress) -> None:
        if now.seconds_left < limit - 1:
            signal.raise_signal(signal.SIGINT)

    stopped = experiment.run_plan(plan, tmp_path / "run", interrupt)
    assert 1 <= stopped.manifest.train_seconds < limit
    reporter = RecordingReporter()
    left: list[float] = []
    done = resume_run(stopped.path, stripes, watch=lambda now: left.append(now.seconds_left), reporter=reporter)
    assert reporter.messages[0] == "equivalent, not identical: its learning rate follows the clock"
    assert 0.2 * limit < left[0] <= limit - stopped.manifest.train_seconds
    assert done.manifest.train_seconds == pytest.approx(limit, abs=1)


@pytest.mark.parametrize("recipe", ["default", "article"])
def test_a_recipe_that_was_asked_for_is_stretched(
    recipe: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convscope.cli.train_options.process_start", time.monotonic)
    words = "train", "digits", "--budget", "600s", "--recipe", recipe, "--target-accuracy", "0.5", "--threads", "1"
    assert command(*words, "--run", f"{tmp_path}/run").code == 0
    config = open_run(tmp_path / "run").config
    assert config.recipe.name == recipe
    assert config.training_seconds is not None
    assert 500 < config.training_seconds < 600 - RESULTS


def test_a_budget_that_is_over_before_it_begins(command: Command, tmp_path: Path) -> None:
    answer = command("train", "digits", "--budget", "1s", "--run", f"{tmp_path}/run")
    assert answer.code == 2
    assert answer.err.startswith("convscope: --budget 1s is too short: ")
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
