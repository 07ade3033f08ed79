"""Whether the result of training the last layers is kept, on classifiers made by hand."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from convscope.api.train import run_plan
from convscope.api.training.keep import keep_if_better
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan
from convscope.api.training.sources import Pretraining, Sources
from convscope.api.training.start import plan_training
from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.backends.pytorch.models import build_model, get_weights
from convscope.data.dataset import Dataset, Split
from convscope.deploy.predictor import Predictor
from convscope.network.build import parse_network
from convscope.pretrained.backbone import PretrainedBackbone, Provenance
from convscope.runs.folder import open_run
from convscope.training.callbacks import TrainResult, Weights
from convscope.training.finetuning.tail import Tail
from convscope.training.recipes import recipe_named
from convscope.training.state import EpochMetrics
from helpers.reporting import FailingReporter

NETWORK = parse_network("conv 2 1, globalavg", (1, 1, 2), 2)  # behind the convolution: its two values, and a classifier
Data = tuple[NDArray[np.float16], NDArray[np.int64]]
HISTORY = [EpochMetrics(epoch, 1.0, 0.5, 1.0, 0.5, 0.1, 100.0, 1.0) for epoch in (1, 2)]


def signal_and_noise(images: int) -> Data:
    """Maps of which the first value tells the class, most of the time, and the second nothing."""
    random, labels = np.random.default_rng(0), np.arange(images) % 2
    maps = random.normal(0, 1, (images, 1, 1, 2))
    maps[..., 0] += np.where(labels, 1.0, -1.0)[:, None, None]
    return maps.astype(np.float16), labels


def classifier(signal: float, noise: float = 0, bias: float = 0) -> Weights:
    """Weights whose logit of the second class is this sum of both values."""
    weight = np.array([[0, 0], [signal, noise]], np.float32)
    added = {"classifier.weight": weight, "classifier.bias": np.array([0, bias], np.float32)}
    return {**get_weights(build_model(NETWORK)), **added}


def kept(initial: Weights, trained: Weights, data: Data | None = None, **result: Any) -> TrainResult:
    """The result that is kept of a training that ended with these weights."""
    maps, labels = data or signal_and_noise(400)
    plan = SimpleNamespace(
        tail=Tail(1, (maps,), maps),
        initial_weights=initial,
        config=SimpleNamespace(network=NETWORK, preprocessing=None, init=SimpleNamespace(cut=1)),
        data=SimpleNamespace(validation=SimpleNamespace(labels=labels)),
    )
    values = {"select": "last", "last": trained, "last_epoch": 2, "best": classifier(0), "best_epoch": 1, **result}
    return keep_if_better(cast(Plan, plan), TrainResult(history=HISTORY, seconds=3.0, **values))


NOISY, GOOD = classifier(2, 1.5), classifier(2)


def is_initial(result: TrainResult, initial: Weights) -> bool:
    return result.epoch == 0 and result.weights is initial


def test_keep_if_better_clearly_better_weights_are_kept() -> None:
    result = kept(NOISY, GOOD)
    assert result.weights is GOOD
    assert (result.epoch, result.select) == (2, "last")


def test_keep_if_better_judges_the_weights_that_the_recipe_selects() -> None:
    result = kept(NOISY, NOISY, select="best", best=GOOD, best_epoch=1)
    assert result.weights is GOOD
    assert result.epoch == 1
    assert is_initial(kept(NOISY, GOOD, select="best", best=NOISY, best_epoch=1), NOISY)


def test_keep_if_better_worse_weights_are_replaced_by_the_initial_ones() -> None:
    result = kept(GOOD, NOISY)
    assert is_initial(result, GOOD)
    assert result.last is NOISY
    assert (result.history, result.seconds) == (HISTORY, 3.0)


@pytest.mark.parametrize("factor", [1, 0.25, 5])
def test_keep_if_better_no_difference_keeps_the_initial_weights(factor: float) -> None:
    """Nor is a classifier that is only surer a better one: likelihoods are those after calibration."""
    assert is_initial(kept(NOISY, classifier(factor * 2, factor * 1.5)), NOISY)


def test_keep_if_better_too_sure_but_better_weights_are_kept() -> None:
    """Uncalibrated, their likelihood is far lower than that of the initial ones."""
    sure = classifier(40)
    assert kept(NOISY, sure).weights is sure


def test_keep_if_better_a_gain_that_may_be_chance_keeps_the_initial_weights() -> None:
    """The same small gain is clear on many images, and not on few."""
    initial = classifier(2, 0.45)
    assert is_initial(kept(initial, GOOD, signal_and_noise(60)), initial)
    assert kept(initial, GOOD, signal_and_noise(5000)).weights is GOOD


def test_keep_if_better_fewer_recognized_images_keep_the_initial_weights() -> None:
    """The first value is right for 80 % of the images; the second for 79 %, but it is sure only when it is right."""
    labels, number = np.arange(400) % 2, np.arange(400) // 2
    first = np.where(number < 160, 1.0, -1.0)
    second = np.where(number < 140, 10.0, np.where(number < 158, 0.05, -0.05))
    maps = (np.stack([first, second], 1) * np.where(labels, 1, -1)[:, None])[:, None, None].astype(np.float16)
    initial, trained = classifier(1, 0), classifier(0, 1)
    assert is_initial(kept(initial, trained, (maps, labels)), initial)
    better = maps.copy()
    better[:, 0, 0, 1] += 0.1 * np.where((number >= 158) & (number < 160), np.where(labels, 1, -1), 0)
    assert kept(initial, trained, (better, labels)).weights is trained  # as many are right


@pytest.mark.parametrize("missing", ["backbone", "layers", "initial weights", "history"])
def test_keep_if_better_without_something_to_compare_returns_the_result(missing: str) -> None:
    maps, _ = signal_and_noise(10)
    plan = SimpleNamespace(
        tail=Tail(1, (maps,), maps),
        initial_weights=None if missing == "initial weights" else GOOD,
        config=SimpleNamespace(
            network=NETWORK,
            init=None if missing == "backbone" else SimpleNamespace(cut=None if missing == "layers" else 1),
        ),
    )
    result = TrainResult(last=NOISY, history=[] if missing == "history" else HISTORY)
    assert keep_if_better(cast(Plan, plan), result) is result


def small_backbone() -> PretrainedBackbone:
    """Random weights, for 16x16 color images."""
    architecture = (
        "conv 8 3 stride 2 pad same, relu, conv 16 3 pad same, relu, conv 12 3 stride 2 pad same, relu, globalavg"
    )
    weights = get_weights(build_model(parse_network(architecture, (16, 16, 3), 3)))
    origin = Provenance(license=None, source="made here", sha256="0" * 64, training_data="nothing")
    return PretrainedBackbone(
        name="small-net", architecture=architecture, image_size=16, channels=3, scale=(0.02,) * 3, mean=(2,) * 3,
        provenance=origin, weights={name: weights[name] for name in weights if not name.startswith("classifier.")},
    )  # fmt: skip


@pytest.mark.parametrize("tune", ["last", "all"])
def test_run_that_keeps_its_initial_weights_opens_and_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: Literal["last", "all"]
) -> None:
    """The recipe selects the last epoch's, which hardly moved; model file and manifest name the initial ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random, labels = np.random.default_rng(0), np.arange(90) % 3
    images = random.integers(0, 256, (90, 16, 16, 3), np.uint8)
    data = Dataset("noise", ("a", "b", "c"), Split(images[:60], labels[:60]), Split(images[60:], labels[60:]), "here")
    recipe = recipe_named("default", "pretrained").override(epochs=1, learning_rate=1e-9, horizontal_flip="never")
    options = TrainOptions(recipe=recipe, tune=tune, run=tmp_path / "run", threads=1)
    sources = Sources("", pretraining=Pretraining(small_backbone(), data))
    plan = plan_training(sources, options, FailingReporter(), time.monotonic())
    assert (plan.tail is not None) == (tune == "last")
    assert plan.initial_weights is not None
    assert plan.config.init is not None
    assert plan.config.init.calibration is not None  # few images: of those that a cross-validation held out
    init = plan.config.init.model_copy(update={"calibration": TemperatureScaling(temperature=1.25)})
    run_plan(replace(plan, config=plan.config.model_copy(update={"init": init})), options)
    run = open_run(tmp_path / "run")
    assert (run.manifest.weights, run.manifest.selected_epoch, len(run.history)) == ("best", 0, 1)
    assert Predictor(run.path).metadata.calibration == init.calibration
    found = get_weights(run.model())
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: plan.initial_weights[name].tobytes() for name in found
    }
