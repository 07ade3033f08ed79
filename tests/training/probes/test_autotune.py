"""What is settled before step 0: threads by the clock (which is made up here), precision by the first losses."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convscope import load_data, open_run, train_model
from convscope.api.train import plan
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Split
from convscope.errors import ConvscopeError, ModelFileError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.training.probes import autotune as autotune
from convscope.training.probes.autotune import Settings, TuningProbe
from convscope.training.recipes import RECIPES, Recipe, changed
from helpers.command import Command


@pytest.fixture(autouse=True)
def _threads_as_before() -> Any:
    before, native = torch.get_num_threads(), backend.native.threads() if backend.native is not None else 1
    yield
    torch.set_num_threads(before)
    if backend.native is not None:
        backend.native.set_threads(native)


class MadeUp(TuningProbe):
    """A trial whose steps take `seconds` and give `losses`, and that notes what it was asked."""

    def __init__(
        self, seconds: dict[int, float], losses: dict[str, float] | None = None, precision: Precision | str = "float32"
    ) -> None:
        split = Split(np.zeros((2, 2, 2, 1), np.uint8), np.arange(2))
        chosen = RECIPES["default"].override(**{"precision": precision})
        super().__init__(parse_network("flatten", (2, 2, 1), 2), split, Preprocessing.plain(split.images), chosen, 0)
        self.__dict__.update(seconds=seconds, losses=losses or {}, asked=[])

    @property
    def torch_works(self) -> bool:
        return True

    def seconds_per_step(self, threads: int) -> float:
        self.__dict__["asked"].append(threads)
        return float(self.__dict__["seconds"][threads])

    def loss(self, precision: Precision) -> float:
        self.__dict__["asked"].append(precision)
        return float(self.__dict__["losses"][precision])

    @property
    def questions(self) -> list[object]:
        return list(self.__dict__["asked"])


# Threads


@pytest.mark.parametrize(
    ("seconds", "threads", "asked"),
    [
        ({4: 1.0, 3: 1.3, 2: 2.0, 1: 4.0}, 4, [4, 3]),  # clearly slower: no further question
        ({4: 1.0, 3: 1.1, 2: 1.15, 1: 1.19}, 4, [4, 3, 2, 1]),
        ({4: 1.0, 3: 1.04, 2: 1.04, 1: 1.04}, 1, [4, 3, 2, 1]),  # a further thread saves less than 5 %
        ({4: 1.0, 3: 0.5, 2: 0.4, 1: 0.45}, 2, [4, 3, 2, 1]),
        ({4: 1.0, 3: 0.5, 2: 0.52, 1: 0.9}, 2, [4, 3, 2, 1]),
        ({4: 1.0, 3: 1.04, 2: 1.08, 1: 1.1}, 3, [4, 3, 2, 1]),  # small losses do not add up
        ({1: 9.0}, 1, []),
    ],
    ids=str,
)
def test_the_fewest_threads_that_are_about_as_fast_as_any(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], threads: int, asked: list[int]
) -> None:
    monkeypatch.setattr(autotune, "max_threads", lambda: max(seconds))
    trial = MadeUp(seconds)
    assert autotune.autotune(trial) == Settings(threads, "float32")
    assert trial.questions == asked
    assert torch.get_num_threads() == threads
    assert backend.native is None or backend.native.threads() == threads


@pytest.mark.parametrize(
    ("line", "works"),
    [
        ("conv 8 3, relu, maxpool 2, flatten, dense 4, relu", False),
        ("flatten", False),
        ("conv 8 3, relu, conv 8 3, relu, flatten", True),
        ("conv 8 3 stride 2, relu, flatten", True),
        ("residual(conv 8 3 pad same), flatten", True),
        ("conv 8 3, relu, maxpool 3 stride 1, flatten", True),
        ("conv 8 3, relu, maxpool 5, flatten", False),
    ],
)
def test_what_kernels_alone_do_takes_every_thread_unmeasured(
    monkeypatch: pytest.MonkeyPatch, line: str, works: bool
) -> None:
    monkeypatch.setattr(autotune, "max_threads", lambda: 3)
    asked: list[int] = []

    def one_second(_: TuningProbe, threads: int) -> float:
        asked.append(threads)
        return 1.0

    monkeypatch.setattr(TuningProbe, "seconds_per_step", one_second)
    split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2))
    trial = TuningProbe(
        parse_network(line, (8, 8, 1), 2), split, Preprocessing.plain(split.images), RECIPES["article"], 0
    )
    measured = works or backend.native is None
    assert trial.torch_works is measured
    assert autotune.autotune(trial).threads == (1 if measured else 3)
    assert asked == ([3, 2, 1] if measured else [])


def test_threads_that_are_given_are_taken_unmeasured() -> None:
    trial = MadeUp({})
    assert autotune.autotune(trial, threads=2).threads == 2
    assert trial.questions == []
    assert torch.get_num_threads() == 2


# Precision


@pytest.mark.parametrize(
    ("exact", "rounded", "precision", "why"),
    [
        (2.0, 2.0, "bf16", "its first losses are those of float32 within 0 %"),
        (2.0, 2.01, "bf16", "its first losses are those of float32 within 0.5 %"),
        (2.0, 1.97, "bf16", "its first losses are those of float32 within 1.5 %"),
        (2.0, 2.05, "float32", "the first losses in bf16 were 2.5 % off"),
        (2.0, 1.9, "float32", "the first losses in bf16 were 5.0 % off"),
        (0.0, 0.0, "bf16", "its first losses are those of float32 within 0 %"),  # a single class
        (2.0, math.nan, "float32", "the first losses in bf16 did not stay finite"),
        (math.nan, math.nan, "float32", "the first losses in bf16 did not stay finite"),
        (math.nan, 2.0, "float32", "the first losses in float32 did not stay finite"),
    ],
)
def test_bf16_where_it_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, exact: float, rounded: float, precision: Precision, why: str
) -> None:
    monkeypatch.setattr(autotune, "has_bf16", lambda: True)
    trial = MadeUp({}, {"float32": exact, "bf16": rounded}, "auto")
    assert autotune.autotune(trial, threads=1) == Settings(1, precision, why)


def test_without_bf16_arithmetic_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "has_bf16", lambda: False)
    trial = MadeUp({}, precision="auto")
    assert autotune.autotune(trial, threads=1) == Settings(1, "float32", "this processor has no bf16 arithmetic")
    assert trial.questions == []


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_precision_that_is_asked_for_is_taken_untried(precision: Precision) -> None:
    trial = MadeUp({}, precision=precision)
    assert autotune.autotune(trial, threads=1) == Settings(1, precision)
    assert trial.questions == []


# The trial


def digits(images: int, recipe: Recipe, line: str = "conv 4 3, relu, flatten") -> TuningProbe:
    split = load_data("digits").train.take(np.arange(images))
    return TuningProbe(parse_network(line, (8, 8, 1), 10), split, Preprocessing.plain(split.images), recipe, 0)


@pytest.mark.parametrize(("bias", "batch", "tried"), [(None, 10, 10), (50.0, 10, 10), (None, 50, 20)])
def test_the_trial_trains_at_a_tenth_of_the_rates_on_the_first_images_alone_in_batches_that_are_not_large(
    monkeypatch: pytest.MonkeyPatch, bias: float | None, batch: int, tried: int
) -> None:
    monkeypatch.setattr(autotune, "COMPARED_PIXELS", 20 * 8 * 8)
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(autotune, "fit", lambda *arguments, **options: calls.append((*arguments, options)))
    recipe = RECIPES["fast"].override(**{"batch_size": batch, "norm_bias_lr": bias})
    trial = digits(1000, recipe)
    with pytest.raises(IndexError):
        trial.loss("bf16")  # this stand-in calls nothing after its batches
    _, training, validation, _, slow, seed, options = calls[0]
    assert np.array_equal(training.images, trial.train.images[: 20 * tried])
    assert (len(validation), seed, options["precision"]) == (1, 0, "bf16")
    same = {"learning_rate": recipe.optimizer.learning_rate / 10, "sgd_lr": recipe.optimizer.sgd_lr / 10,
            "norm_bias_lr": bias and 5.0, "batch_size": tried, "epochs": 1, "min_steps": 0}  # fmt: skip
    assert slow == recipe.model_copy(update=same)


@pytest.mark.parametrize("images", [40, 1000])
def test_the_trials_loss_is_the_trainings(images: int) -> None:
    """20 batches of 10, or as many as there are."""
    trial = digits(images, RECIPES["article"].override(**{"batch_size": 10}))
    before = build_model(trial.network, 0).state_dict()["conv1.weight"]
    first = trial.loss("float32")
    assert first == trial.loss("float32")  # nothing is kept
    assert 2.0 < first < 2.6  # near log 10
    assert torch.equal(build_model(trial.network, 0).state_dict()["conv1.weight"], before)
    assert trial.seconds_per_step(1) > 0


def test_a_trial_that_fails_says_nothing() -> None:
    trial = digits(200, RECIPES["article"].override(learning_rate=1e32, batch_size=10))
    assert math.isnan(trial.loss("float32"))
    assert trial.seconds_per_step(1) >= 0


# A loss that is no number, for the user

NO_NUMBER = (
    r"the loss became (nan|inf) in epoch 1, step [0-9]+: lower --learning-rate \(each tenfold step down is worth"
)


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_loss_that_is_no_number_is_the_trainings_own_error(tmp_path: Path, precision: str) -> None:
    """The plan goes through; training begins its folder, then fails, and leaves no run."""
    recipe = RECIPES["default"].override(learning_rate=1e32, precision=precision)
    assert plan("digits", "flatten", recipe, threads=1).config.precision == "float32"
    with pytest.raises(ConvscopeError, match=NO_NUMBER):
        train_model("digits", "flatten", recipe, threads=1, run=tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "metrics.jsonl", "tensorboard"}
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")


def test_the_command_answers_it_in_one_line(command: Command) -> None:
    answer = command(*shlex.split("train digits --model flatten --learning-rate 1e32 --threads 1 --run run"))
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("convscope: the loss became ")
    assert "Traceback" not in answer.err
    assert not Path("run", "manifest.json").exists()
