"""With a budget, a backbone and a training from scratch race: what takes part, what goes on, what is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from convscope import Run, open_run
from convscope._reporting import SilentReporter
from convscope.api.training import finetune, start
from convscope.api.training.frozen import FrozenStart, start_frozen
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan
from convscope.api.training.sources import load_sources
from convscope.api.training.start import plan_training
from convscope.data.load import DataSource
from convscope.errors import DataError
from convscope.runs.config import Race, ValidationScore
from convscope.training.probes.budget import Budget
from convscope.training.recipes import recipe_named
from helpers.process import start_command
from helpers.reporting import RecordingReporter
from helpers.shapes import SHAPES, write_shapes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cache")]

BUDGET = 60.0
RunRace = Callable[[float], tuple[Plan, list[str]]]


def options(**given: Any) -> TrainOptions:
    return TrainOptions(**{"budget": BUDGET, "threads": 1, **given})


def considered(data: DataSource, chosen: TrainOptions) -> str | None:
    """The backbone that takes part."""
    sources = load_sources(data, chosen, SilentReporter())
    assert sources.dataset is not None
    return sources.pretraining.backbone.name if sources.pretraining else None


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch, first: Run, photos: Path) -> RunRace:
    """A function that plans a training whose race from scratch ends with an accuracy; it returns plan and messages."""

    def run(accuracy: float) -> tuple[Plan, list[str]]:
        monkeypatch.setattr(start, "_train_briefly", lambda *_: Race(accuracy=accuracy, seconds=3.0))
        reporter, chosen = RecordingReporter(), options(init=str(first.path), image_size=64)
        sources = load_sources(photos, chosen, reporter)
        return plan_training(sources, chosen, reporter, time.monotonic()), reporter.messages

    return run


def test_race_won_by_the_backbone_is_recorded_and_said(race: RunRace) -> None:
    plan, messages = race(0.0)
    init = plan.config.init
    assert init is not None
    assert init.race == Race(accuracy=0.0, seconds=3.0)
    (message,) = [message for message in messages if "new classifier" in message]
    assert message.startswith("run with a new classifier: ")
    assert message.endswith("from scratch: 0.00 % after 3 s; run goes on")
    assert (plan.config.budget, plan.initial_weights is None) == (BUDGET, False)


def test_race_won_from_scratch_is_a_reason_of_the_run(race: RunRace) -> None:
    plan, messages = race(1.1)
    assert (plan.config.init, plan.initial_weights, plan.tail) == (None, None, None)
    assert plan.config.reasons["init"].endswith("from scratch: 110.00 % after 3 s; training from scratch goes on")
    assert not any("new classifier" in message for message in messages)
    assert plan.config.time_limit is not None
    assert plan.config.time_limit < BUDGET


def test_budget_considers_the_installed_backbone_for_photos(lite0: str, photos: Path) -> None:
    assert considered(photos, options()) == lite0


@pytest.mark.usefixtures("lite0")
@pytest.mark.parametrize(
    "given",
    [{"model": "small"}, {"init": "none"}, {"recipe": "article"}, {"channels": 1}, {"budget": None}],
    ids=str,
)
def test_budget_does_not_consider_a_backbone_if_the_options_exclude_it(photos: Path, given: dict[str, Any]) -> None:
    assert considered(photos, options(**given)) is None


@pytest.mark.usefixtures("lite0")
def test_budget_does_not_consider_a_backbone_for_small_images_and_arrays(tmp_path: Path) -> None:
    arrays = np.zeros((40, 64, 64, 3), np.uint8), np.arange(40) % 2
    small = write_shapes(tmp_path / "small", names=SHAPES[:2], side=40)
    assert [considered(data, options()) for data in (arrays, small, "digits")] == [None, None, None]


@pytest.mark.usefixtures("lite0")
def test_all_images_are_those_of_a_training_without_a_budget(photos: Path) -> None:
    loaded = load_sources(photos, options(), SilentReporter(), all_images=True)
    limited, unlimited = (load_sources(photos, options(budget=b), SilentReporter()).dataset for b in (BUDGET, None))
    assert loaded.dataset and limited and unlimited
    assert loaded.dataset.load_options == unlimited.load_options != limited.load_options
    assert loaded.pretraining is not None


def test_budget_without_an_installed_backbone_trains_from_scratch(
    monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("convscope.pretrained.store._installed", lambda _: None)
    reporter = RecordingReporter()
    assert load_sources(photos, options(), reporter).pretraining is None
    assert reporter.messages == []


def test_budget_with_a_damaged_backbone_trains_from_scratch_and_says_so(
    monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    def find(_: object) -> None:
        raise DataError("cache/efficientnet-lite0.safetensors: it is damaged")

    monkeypatch.setattr("convscope.api.training.sources.find_backbone", find)
    reporter = RecordingReporter()
    assert load_sources(photos, options(), reporter).pretraining is None
    expected = "training from scratch, without efficientnet-lite0: cache/efficientnet-lite0.safetensors: it is damaged"
    assert reporter.messages == [expected]


@pytest.mark.parametrize(("seconds", "views", "epochs"), [(4, 1, 0), (7, 1, 3), (21, 1, 10), (27, 2, 8), (9999, 8, 30)])
def test_plan_effort_spends_time_on_epochs_of_the_last_layers_before_views(
    monkeypatch: pytest.MonkeyPatch, lite0: str, photos: Path, seconds: float, views: int, epochs: int
) -> None:
    """If the features of the training images take 5 s, a view costs 10 s, and an epoch 2 s."""
    chosen = options(init=lite0, image_size=64)
    pretraining = load_sources(photos, chosen, SilentReporter()).pretraining
    assert pretraining is not None
    begun = replace(start_frozen(chosen, pretraining, "", SilentReporter()), recipe=recipe_named("best", "pretrained"))
    monkeypatch.setattr(finetune, "RESULTS_SECONDS", 0)
    monkeypatch.setattr(finetune, "RESULT_IMAGES", -len(begun.data.validation) - len(begun.data.dataset.test))
    monkeypatch.setattr(Budget, "left", seconds + finetune.HEAD_SECONDS)
    begun = replace(begun, seconds_per_image=5 / len(begun.data.train))
    effort = finetune.plan_effort(begun, chosen, Budget(60))
    assert (effort.views, effort.epochs) == (views, epochs)


@pytest.mark.parametrize(
    ("images", "lead", "wins"), [(16, 0.12, False), (16, 0.13, True), (99, 0.05, False), (100, 0.01, True)]
)
def test_a_race_on_few_validation_images_needs_a_clear_lead(images: int, lead: float, wins: bool) -> None:
    score = ValidationScore(accuracy=0.5, cross_entropy=1.0)
    drawn = SimpleNamespace(score=score, data=SimpleNamespace(validation=range(images)))
    assert start._is_better(Race(accuracy=0.5 + lead, seconds=3.0), cast(FrozenStart, drawn)) == wins


@pytest.mark.parametrize(
    ("backbone", "first_race", "races"), [(0.9, 0.6, [0.06]), (0.9, 0.8, [0.06, 0.25]), (0.8, 0.1, [0.25])]
)
def test_a_good_backbone_far_ahead_ends_the_race(
    monkeypatch: pytest.MonkeyPatch, first: Run, photos: Path, backbone: float, first_race: float, races: list[float]
) -> None:
    """Fractions of the time that is left; the clock of the budget stands still."""
    seconds: list[float] = []

    def train_briefly(_: Plan, limit: float) -> Race:
        seconds.append(limit)
        return Race(accuracy=first_race, seconds=limit)

    monkeypatch.setattr(start, "_train_briefly", train_briefly)
    monkeypatch.setattr(Budget, "left", 40.0)
    monkeypatch.setattr(FrozenStart, "score", ValidationScore(accuracy=backbone, cross_entropy=1.0))
    chosen = options(init=str(first.path), image_size=64)
    plan_training(load_sources(photos, chosen, SilentReporter()), chosen, SilentReporter(), time.monotonic())
    assert seconds == pytest.approx([40 * fraction for fraction in races])


@pytest.mark.parametrize(("slower", "side"), [(0.001, 224), (1.0, 128), (1.01, 96)])
def test_budget_gives_a_slow_machine_smaller_images(
    monkeypatch: pytest.MonkeyPatch, lite0: str, photos: Path, slower: float, side: int
) -> None:
    """At 128 pixels, what is affordable takes 55 % of the budget for all images and 3,700 more."""
    sources = load_sources(photos, options(image_size=16, init=lite0), SilentReporter())
    assert sources.dataset is not None
    images = sum(map(len, sources.dataset.splits.values()))
    seconds = slower * 0.55 * BUDGET / (images + 3_700)
    monkeypatch.setattr("convscope.training.finetuning.speed.seconds_per_image", lambda *_: seconds)
    pretraining = load_sources(photos, options(init=lite0), SilentReporter()).pretraining
    assert pretraining is not None
    assert pretraining.images.shape == (side, side, 3)


def test_a_backbone_without_competition_keeps_to_the_budget(
    monkeypatch: pytest.MonkeyPatch, first: Run, photos: Path
) -> None:
    """A search loads its images without a budget, and trains within one."""
    sources = load_sources(photos, TrainOptions(init=str(first.path), image_size=64), SilentReporter())
    assert sources.dataset is None
    monkeypatch.setattr(start, "plan_finetuning", lambda *arguments: arguments[3])
    for budget, expected in ((None, Budget()), (21.0, Budget(21.0, 5.0))):
        chosen = TrainOptions(init=str(first.path), image_size=64, budget=budget, threads=1)
        found: Any = plan_training(sources, chosen, SilentReporter(), 5.0)
        assert found.seconds == expected.seconds
    assert found == expected


def test_train_after_the_end_of_its_budget_still_makes_a_model(first: Run, photos: Path) -> None:
    chosen = options(init=str(first.path), image_size=64, budget=1.0)
    sources = load_sources(photos, chosen, SilentReporter())
    plan = plan_training(sources, chosen, SilentReporter(), time.monotonic() - 10)
    assert (plan.config.time_limit or 0) < 10


def test_train_with_a_short_budget_tries_the_backbone_and_trains_no_layer_of_it(
    lite0: str, photos: Path, tmp_path: Path
) -> None:
    process = start_command(tmp_path, "train", str(photos), "--budget", "12s", "--run", "run")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{lite0} with a new classifier: " in err
    run = open_run(tmp_path / "run")
    assert run.manifest.status == "complete"
    assert (run.config.init is None) == ("init" in run.config.reasons)
    assert run.config.init is None or run.config.init.cut is None
