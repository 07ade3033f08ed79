"""Threads and precision before step 0: threads by a simulated clock, precision by the first losses."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from convscope import load_data, open_run, train_model
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Split
from convscope.errors import ConvscopeError, ModelFileError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.training.callbacks import TrainResult
from convscope.training.config import TrainConfig
from convscope.training.probes import autotune as autotune_module
from convscope.training.probes.autotune import TuningProbe, TuningResult, autotune
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES
from helpers.command import Command


@pytest.fixture(autouse=True)
def _restored_threads() -> Iterator[None]:
    before, native = torch.get_num_threads(), backend.native.threads() if backend.native is not None else 1
    yield
    torch.set_num_threads(before)
    if backend.native is not None:
        backend.native.set_threads(native)


class SimulatedProbe(TuningProbe):
    """A probe whose steps take `seconds` and give `losses`; `measured` lists the measurements that were asked for."""

    def __init__(
        self, seconds: dict[int, float], losses: dict[str, float] | None = None, precision: Precision | str = "float32"
    ) -> None:
        split = Split(np.zeros((2, 2, 2, 1), np.uint8), np.arange(2))
        recipe = RECIPES["default"].override(precision=precision)
        super().__init__(parse_network("flatten", (2, 2, 1), 2), split, Preprocessing.plain(split.images), recipe, 0)
        self.__dict__.update(seconds=seconds, first_losses=losses or {}, asked=[])

    @property
    def torch_works(self) -> bool:
        return True

    def seconds_per_step(self, threads: int, _: float = math.inf) -> float:
        self.__dict__["asked"].append(threads)
        return float(self.__dict__["seconds"][threads])

    def losses(self, precision: Precision, _: float = math.inf) -> list[float]:
        self.__dict__["asked"].append(precision)
        return [float(self.__dict__["first_losses"][precision])]

    @property
    def measured(self) -> list[object]:
        return list(self.__dict__["asked"])


# Threads


@pytest.mark.parametrize(
    ("seconds", "threads", "measured"),
    [
        ({4: 1.0, 3: 1.3, 2: 2.0, 1: 4.0}, 4, [4, 3]),  # clearly slower: nothing more is measured
        ({4: 1.0, 3: 1.1, 2: 1.15, 1: 1.19}, 4, [4, 3, 2, 1]),
        ({4: 1.0, 3: 1.04, 2: 1.04, 1: 1.04}, 1, [4, 3, 2, 1]),  # another thread saves less than 5 %
        ({4: 1.0, 3: 0.5, 2: 0.4, 1: 0.45}, 2, [4, 3, 2, 1]),
        ({4: 1.0, 3: 0.5, 2: 0.52, 1: 0.9}, 2, [4, 3, 2, 1]),
        ({4: 1.0, 3: 1.04, 2: 1.08, 1: 1.1}, 3, [4, 3, 2, 1]),  # small losses do not add up
        ({1: 9.0}, 1, []),
    ],
    ids=str,
)
def test_autotune_chooses_the_fewest_threads_that_are_about_as_fast_as_any(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], threads: int, measured: list[int]
) -> None:
    monkeypatch.setattr(autotune_module, "max_threads", lambda: max(seconds))
    probe = SimulatedProbe(seconds)
    assert autotune(probe) == TuningResult(threads, "float32")
    assert probe.measured == measured
    assert torch.get_num_threads() == threads
    assert backend.native is None or backend.native.threads() == threads


@pytest.mark.parametrize(
    ("architecture", "works"),
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
def test_autotune_network_of_kernels_only_gets_all_threads_unmeasured(
    monkeypatch: pytest.MonkeyPatch, architecture: str, works: bool
) -> None:
    monkeypatch.setattr(autotune_module, "max_threads", lambda: 3)
    measured: list[int] = []

    def one_second(_: TuningProbe, threads: int, deadline: float) -> float:
        assert deadline > 0
        measured.append(threads)
        return 1.0

    monkeypatch.setattr(TuningProbe, "seconds_per_step", one_second)
    split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2))
    network = parse_network(architecture, (8, 8, 1), 2)
    probe = TuningProbe(network, split, Preprocessing.plain(split.images), RECIPES["article"], 0)
    torch_works = works or backend.native is None
    assert probe.torch_works is torch_works
    assert autotune(probe).threads == (1 if torch_works else 3)
    assert measured == ([3, 2, 1] if torch_works else [])


def test_autotune_given_threads_are_used_unmeasured() -> None:
    probe = SimulatedProbe({})
    assert autotune(probe, threads=2).threads == 2
    assert probe.measured == []
    assert torch.get_num_threads() == 2


# Precision


@pytest.mark.parametrize(
    ("exact", "rounded", "precision", "reason"),
    [
        (2.0, 2.0, "bf16", "its first losses equal those of float32 within 0 %"),
        (2.0, 2.01, "bf16", "its first losses equal those of float32 within 0.5 %"),
        (2.0, 1.97, "bf16", "its first losses equal those of float32 within 1.5 %"),
        (2.0, 2.05, "float32", "the first losses in bf16 were off by 2.5 %"),
        (2.0, 1.9, "float32", "the first losses in bf16 were off by 5.0 %"),
        (0.0, 0.0, "bf16", "its first losses equal those of float32 within 0 %"),  # a single class
        (2.0, math.nan, "float32", "the first losses in bf16 were not finite"),
        (math.nan, math.nan, "float32", "the first losses in bf16 were not finite"),
        (math.nan, 2.0, "float32", "the first losses in float32 were not finite"),
    ],
)
def test_autotune_auto_precision_is_bf16_if_its_losses_agree(
    monkeypatch: pytest.MonkeyPatch, exact: float, rounded: float, precision: Precision, reason: str
) -> None:
    monkeypatch.setattr(autotune_module, "has_bf16", lambda: True)
    probe = SimulatedProbe({}, {"float32": exact, "bf16": rounded}, "auto")
    assert autotune(probe, threads=1) == TuningResult(1, precision, reason)


def test_autotune_processor_without_bf16_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune_module, "has_bf16", lambda: False)
    probe = SimulatedProbe({}, precision="auto")
    assert autotune(probe, threads=1) == TuningResult(1, "float32", "this processor has no bf16 arithmetic")
    assert probe.measured == []


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_autotune_given_precision_is_used_unmeasured(precision: Precision) -> None:
    probe = SimulatedProbe({}, precision=precision)
    assert autotune(probe, threads=1) == TuningResult(1, precision)
    assert probe.measured == []


@pytest.mark.parametrize(
    ("seconds", "measured", "reason"),
    [
        (60.0, ["float32", "bf16"], "its first losses equal those of float32 within 0.5 %"),
        (16.0, ["float32"], "there was no time to compare it with bf16"),
        (1.0, [], "there was no time to compare it with bf16"),
    ],
)
def test_autotune_little_time_compares_less(
    monkeypatch: pytest.MonkeyPatch, seconds: float, measured: list[str], reason: str
) -> None:
    """Steps take two seconds each; in half of 16 seconds there are four, and five are needed."""
    monkeypatch.setattr(autotune_module, "has_bf16", lambda: True)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def losses(_: object, precision: str, deadline: float = math.inf) -> list[float]:
        asked.append(precision)
        found: list[float] = []
        while now[0] < deadline and len(found) < 20:
            now[0] += 2
            found.append(2.0 if precision == "float32" else 2.01)
        return found

    asked: list[str] = []
    monkeypatch.setattr(SimulatedProbe, "losses", losses)
    assert autotune(SimulatedProbe({}, precision="auto"), threads=1, seconds=seconds).reason == reason
    assert asked == measured


@pytest.mark.parametrize(("busy", "threads"), [(1.0, 4), (1.9, 2), (2.6, 2), (9.0, 1)])
def test_autotune_little_time_takes_the_cores_that_are_left_unmeasured(
    monkeypatch: pytest.MonkeyPatch, busy: float, threads: int
) -> None:
    monkeypatch.setattr(autotune_module, "max_threads", lambda: 4)
    monkeypatch.setattr(autotune_module, "slowdown", lambda: busy)
    probe = SimulatedProbe({4: 1.0, 3: 0.5})
    assert autotune(probe, seconds=4.0).threads == threads
    assert probe.measured == []


# The probe


def digits_probe(images: int, recipe: Recipe) -> TuningProbe:
    split = load_data("digits").train.take(np.arange(images))
    network = parse_network("conv 4 3, relu, flatten", (8, 8, 1), 10)
    return TuningProbe(network, split, Preprocessing.plain(split.images), recipe, 0)


@pytest.mark.parametrize(
    ("norm_bias_lr", "batch_size", "probed_batch_size"), [(None, 10, 10), (50.0, 10, 10), (None, 50, 20)]
)
def test_tuning_probe_trains_on_the_first_images_in_small_batches_at_a_tenth_of_the_rates(
    monkeypatch: pytest.MonkeyPatch, norm_bias_lr: float | None, batch_size: int, probed_batch_size: int
) -> None:
    monkeypatch.setattr(autotune_module, "COMPARED_PIXELS", 20 * 8 * 8)
    calls: list[tuple[Split, Split, TrainConfig]] = []

    def record(_: object, train: Split, validation: Split, config: TrainConfig, __: object) -> TrainResult:
        calls.append((train, validation, config))
        return TrainResult()

    monkeypatch.setattr(autotune_module, "fit", record)
    recipe = RECIPES["fast"].override(batch_size=batch_size, norm_bias_lr=norm_bias_lr)
    probe = digits_probe(1000, recipe)
    assert probe.losses("bf16") == []  # the mock trains no batch
    ((train, validation, config),) = calls
    assert np.array_equal(train.images, probe.train.images[: 20 * probed_batch_size])
    assert (len(validation), config.seed, config.precision) == (1, 0, "bf16")
    assert config.preprocessing == probe.preprocessing
    rates = {
        "learning_rate": recipe.optimizer.learning_rate / 10,
        "sgd_lr": recipe.optimizer.sgd_lr / 10,
        "norm_bias_lr": norm_bias_lr and 5.0,
    }
    assert config.recipe == recipe.override(batch_size=probed_batch_size, epochs=1, min_steps=0, optimizer=rates)


@pytest.mark.parametrize("images", [40, 1000])
def test_tuning_probe_loss_is_that_of_real_steps_and_leaves_no_trace(images: int) -> None:
    """20 batches of 10, or as many as the images allow."""
    probe = digits_probe(images, RECIPES["article"].override(batch_size=10))
    before = build_model(probe.network, 0).state_dict()["conv1.weight"]
    first = probe.losses("float32")
    assert first == probe.losses("float32")
    assert len(first) == min(20, images // 10)
    assert 2.0 < first[-1] < 2.6  # near log 10
    assert torch.equal(build_model(probe.network, 0).state_dict()["conv1.weight"], before)
    assert probe.seconds_per_step(1) > 0


def test_tuning_probe_loss_not_finite_is_nan() -> None:
    probe = digits_probe(200, RECIPES["article"].override(learning_rate=1e32, batch_size=10))
    assert math.isnan(probe.losses("float32")[-1])
    assert probe.seconds_per_step(1) >= 0


# A loss that is not finite, for the user

NOT_FINITE = r"^the loss became (nan|inf) in epoch 1, step [0-9]+: lower --learning-rate, for example to a tenth$"


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_train_model_loss_not_finite_raises_and_leaves_no_finished_run(tmp_path: Path, precision: str) -> None:
    """The plan succeeds; training begins its folder and then fails."""
    recipe = RECIPES["default"].override(learning_rate=1e32, precision=precision)
    options = TrainOptions(model="flatten", recipe=recipe, threads=1)
    assert make_plan(load_data("digits"), options, "digits").config.precision == "float32"
    with pytest.raises(ConvscopeError, match=NOT_FINITE):
        train_model("digits", "flatten", recipe, threads=1, run=tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "tensorboard", "training-images.safetensors",
    }  # fmt: skip
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")


def test_train_command_loss_not_finite_prints_one_line(command: Command) -> None:
    answer = command(*shlex.split("train digits --model flatten --learning-rate 1e32 --threads 1 --run run"))
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("convscope: the loss became ")
    assert "Traceback" not in answer.err
    assert not Path("run", "manifest.json").exists()
