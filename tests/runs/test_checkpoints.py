"""Checkpoints: bit-identical resumption from any batch, detection of damage, and behavior on failing disks."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_arrays

from convscope._hardware import has_bf16
from convscope.backends.pytorch.models import build_model, get_weights
from convscope.data.dataset import Dataset
from convscope.data.load import load_data
from convscope.errors import ModelFileError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.runs.checkpoints import Checkpoint, Checkpoints, RestoreCheckpoint
from convscope.training.callbacks import Callback, StopOnSignal, Trainer, TrainResult
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES, VARIANTS
from convscope.training.state import Progress
from helpers.callbacks import OnBatch, RecordSteps, RecordTrainer
from helpers.command import Command
from helpers.killing import Kill
from helpers.reporting import RecordingReporter

pytestmark = pytest.mark.slow

ARCHITECTURE = "conv 4 3, batchnorm, relu, maxpool 2, dropout 0.3, flatten"
SGD = RECIPES["default"].override(epochs=3, batch_size=50)  # 200 images: 4 batches an epoch
WHITENED = "whiten 2, gelu, conv 8 3 pad same, maxpool 2, batchnorm, gelu, residual(conv 8 3 pad same), globalmax"
MUON = VARIANTS["color"]["best"].override(epochs=3, batch_size=50, learning_rate=0.05, horizontal_flip="always")
JITTER = MUON.override(min_crop_area=0.5, color_jitter=0.2, cutmix=0.7, max_shift=0)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


class Training:
    """A training of 12 batches that writes its checkpoints to a run folder.

    `reporter` receives the messages of the checkpoints; `steps` and `trainer` are those of all calls of `until`, and of
    the latest one.
    """

    def __init__(
        self,
        run: Path,
        data: Dataset,
        architecture: str = ARCHITECTURE,
        recipe: Recipe = SGD,
        precision: Any = "float32",
    ) -> None:
        self.run, self.architecture, self.recipe, self.precision = run, architecture, recipe, precision
        self.train, self.validation = data.train.take(np.arange(200)), data.train.take(np.arange(200, 300))
        self.reporter = RecordingReporter()
        self.recorded = RecordSteps()
        self.trainer: Trainer
        run.mkdir(exist_ok=True)
        (run / "config.json").write_text("{}")

    def checkpoints(self, interval: float = math.inf) -> Checkpoints:
        return Checkpoints(self.run, interval, self.reporter)

    def fit(self, *callbacks: Callback) -> TrainResult:
        recorder = RecordTrainer()
        config = TrainConfig(
            Preprocessing.standardized(self.train.images), self.recipe, seed=0, precision=self.precision
        )
        model = build_model(parse_network(self.architecture, self.train.shape, 10))
        try:
            return fit(model, self.train, self.validation, config, [recorder, *callbacks])
        finally:
            self.trainer = recorder.trainer

    def until(self, last: int = 99, interval: float = math.inf, resume: bool = False) -> TrainResult:
        """Train until the batch `last`, after which a signal comes."""
        checkpoints, stop = self.checkpoints(interval), StopOnSignal()
        restore = [RestoreCheckpoint(checkpoints)] if resume else []

        def send_signal(now: Progress) -> None:
            stop.received = 15 * (now.step == last)

        return self.fit(*restore, self.recorded, OnBatch(send_signal), stop, checkpoints)

    @property
    def steps(self) -> list[int]:
        return self.recorded.steps

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in (self.run / "checkpoints").glob("*"))


def name(step: int) -> str:
    return f"step-{step:010d}.ckpt"


def to_bytes(arrays: dict[str, Any]) -> dict[str, bytes]:
    return {key: array.tobytes() for key, array in arrays.items()}


def outcome(training: Training, result: TrainResult) -> dict[str, Any]:
    """Everything that two equal trainings share bit for bit."""
    trainer = training.trainer
    return {
        "best": to_bytes(result.best),
        "last": to_bytes(result.last),
        "epochs": (result.select, result.best_epoch, result.last_epoch),
        "history": [{**asdict(row), "seconds": 0, "images_per_second": 0} for row in result.history],
        "model": to_bytes(get_weights(trainer.model)),
        "momenta": {key: tensor.numpy().tobytes() for key, tensor in trainer.optimizer.momenta.items()},
        "random": torch.get_rng_state().numpy().tobytes(),
        "step": trainer.state.step,
    }


# Resuming


CASES = {
    "sgd, dropout, best": (ARCHITECTURE, SGD, "float32"),
    "sgd, last": (ARCHITECTURE, SGD.override(selection={"weights": "last"}), "float32"),
    "muon, whitening, resizing, flip, shift": (WHITENED, MUON, "float32"),
    "muon, crops, color jitter, CutMix": (WHITENED, JITTER, "float32"),
    "muon in bf16": (WHITENED, MUON, "bf16"),
    "sgd in bf16": (ARCHITECTURE, SGD, "bf16"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [[1], [2], [4], [5], [6, 7], [11], [12], [3, 4, 8, 10]], ids=str)
def test_fit_resumed_after_any_batch_is_bit_identical(
    digits: Dataset, tmp_path: Path, case: str, steps: list[int]
) -> None:
    architecture, recipe, precision = CASES[case]
    if precision == "bf16" and not has_bf16():
        pytest.skip("no bf16 here")
    whole = Training(tmp_path / "whole", digits, architecture, recipe, precision)
    expected = outcome(whole, whole.until())
    stopped = Training(tmp_path / "stopped", digits, architecture, recipe, precision)
    for number, step in enumerate(steps):
        torch.manual_seed(99)
        stopped.until(step, resume=number > 0)
        assert stopped.trainer.stop_training
    assert outcome(stopped, stopped.until(resume=True)) == expected
    assert stopped.steps == whole.steps == list(range(1, 13))
    assert whole.files == []
    epochs = [1 + (step - 1) // 4 for step in steps]
    assert stopped.reporter.messages == [
        f"resuming after step {step} of 12, in epoch {epoch}" for step, epoch in zip(steps, epochs, strict=True)
    ]


def test_cases_cover_what_changes_during_training() -> None:
    assert SGD.selection.weights == "best"
    assert MUON.schedule.progressive_resizing
    assert (MUON.optimizer.name, MUON.optimizer.freeze_norm_scale) == ("muon", True)
    assert MUON.augmentation.horizontal_flip == "always"
    assert MUON.augmentation.max_shift
    assert MUON.head_init_scale != 1


def test_resume_after_signal_during_last_validation_leaves_finished_training(digits: Dataset, tmp_path: Path) -> None:
    training, stop = Training(tmp_path / "run", digits), StopOnSignal()

    class SignalInLastEpoch(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            stop.received = 15 * (len(trainer.result.history) == 3)

    first = training.fit(SignalInLastEpoch(), stop, training.checkpoints())
    expected = outcome(training, first)
    assert (training.trainer.stop_training, training.files) == (True, [name(12)])
    again = training.until(resume=True)
    assert training.steps == []
    assert outcome(training, again) == expected


# The file


@pytest.fixture
def stopped(digits: Dataset, tmp_path: Path) -> Training:
    """A training that was stopped in its second epoch, with checkpoints of batches 5 and 6."""
    training = Training(tmp_path / "run", digits)
    training.until(6, interval=0)
    assert training.files == [name(5), name(6)]
    return training


def test_checkpoint_from_bytes_restores_what_was_written(stopped: Training) -> None:
    written = Checkpoint.of(stopped.trainer, "abc")
    found = Checkpoint.from_bytes(written.to_bytes())
    assert found.info == written.info
    assert found.arrays.keys() == written.arrays.keys()
    for key, array in written.arrays.items():
        assert (found.arrays[key].dtype, found.arrays[key].shape) == (array.dtype, array.shape)
        assert found.arrays[key].tobytes() == array.tobytes(), key


def test_checkpoint_of_trainer_is_a_copy(stopped: Training) -> None:
    taken = Checkpoint.of(stopped.trainer, "abc")
    before = taken.to_bytes()
    for tensor in (*stopped.trainer.model.state_dict().values(), *stopped.trainer.optimizer.momenta.values()):
        tensor.add_(1)
    assert taken.to_bytes() == before


def groups(arrays: bytes) -> dict[str, int]:
    """Return the number of arrays of each group."""
    found: dict[str, int] = {}
    for key in load_arrays(arrays):
        found[key.split("/")[0]] = found.get(key.split("/")[0], 0) + 1
    return found


def test_checkpoint_file_is_checksum_json_and_safetensors(stopped: Training) -> None:
    digest, info, arrays = (stopped.run / "checkpoints" / name(6)).read_bytes().split(b"\n", 2)
    assert re.fullmatch(rb"[0-9a-f]{64}", digest)
    values = json.loads(info)
    assert set(values) == {"format", "config", "state", "best_epoch", "last_epoch", "history"}
    counts = {"loss_sum", "correct", "seen", "unmixed"}
    assert set(values["state"]) == {"step", "epoch", "seconds", "epoch_seconds"} | counts
    assert (values["state"]["step"], values["state"]["epoch"], values["state"]["seen"]) == (6, 2, 100)
    assert (values["best_epoch"], values["last_epoch"], len(values["history"])) == (1, 1, 1)
    trained = sum(1 for weight in stopped.trainer.model.parameters() if weight.requires_grad)
    tensors = len(stopped.trainer.model.state_dict())
    assert groups(arrays) == {"weights": tensors, "last": tensors, "momenta": trained, "random": 1}


def test_checkpoint_file_holds_best_weights_of_another_epoch(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.9, 0.5])
    monkeypatch.setattr("convscope.training.loop.validate", lambda *_: (1.0, next(accuracies), {}))
    training = Training(tmp_path / "run", digits)
    training.until(10)
    _, info, arrays = (training.run / "checkpoints" / name(10)).read_bytes().split(b"\n", 2)
    values, tensors = json.loads(info), len(training.trainer.model.state_dict())
    assert (values["best_epoch"], values["last_epoch"]) == (1, 2)
    found = groups(arrays)
    assert (found["best"], found["last"]) == (tensors, tensors)


def flip_bit(content: bytes, place: float) -> bytes:
    at = int(place * (len(content) - 1))
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def bit_flipper(place: float) -> Callable[[bytes], bytes]:
    return lambda content: flip_bit(content, place)


def with_info(content: bytes, **values: Any) -> bytes:
    """Return the same checkpoint, undamaged, but with other values in its info."""
    checkpoint = Checkpoint.from_bytes(content)
    return replace(checkpoint, info=checkpoint.info.model_copy(update=values)).to_bytes()


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "is damaged"),
    "only the first line": (lambda content: content[:64], "is damaged"),
    "cut in the middle": (lambda content: content[: len(content) // 2], "is damaged"),
    "cut at the end": (lambda content: content[:-1], "is damaged"),
    "longer": (lambda content: content + b"\0", "is damaged"),
    **{f"a bit at {place}": (bit_flipper(place), "is damaged") for place in (0, 0.002, 0.005, 0.03, 0.2, 0.5, 0.9, 1)},
    "of another training": (lambda content: with_info(content, config="another"), "belongs to another training"),
    "of another format": (lambda content: with_info(content, format=2), "was written by another version"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_restore_with_damaged_checkpoint_takes_the_previous_one(stopped: Training, tmp_path: Path, damage: str) -> None:
    whole = Training(tmp_path / "whole", load_data("digits"))
    expected = outcome(whole, whole.until())
    alter, reason = DAMAGES[damage]
    path = stopped.run / "checkpoints" / name(6)
    path.write_bytes(alter(path.read_bytes()))
    stopped.steps.clear()
    assert outcome(stopped, stopped.until(resume=True)) == expected
    assert stopped.reporter.messages == [f"{path} {reason}: skipping it", "resuming after step 5 of 12, in epoch 2"]
    assert stopped.steps == list(range(6, 13))


@pytest.mark.parametrize("damage", ["empty", "a bit at 0.5", "of another training"])
def test_restore_without_usable_checkpoint_starts_from_the_beginning(stopped: Training, damage: str) -> None:
    folder = stopped.run / "checkpoints"
    for path in folder.iterdir():
        path.write_bytes(DAMAGES[damage][0](path.read_bytes()))
    stopped.steps.clear()
    stopped.until(1, interval=0, resume=True)
    assert stopped.steps == [1]
    assert len(stopped.reporter.messages) == 3
    assert (
        stopped.reporter.messages[-1] == f"{folder}: no checkpoint can be used, so training starts from the beginning"
    )
    assert stopped.files == [name(1)]  # the unusable ones were removed


def test_restore_with_unreadable_checkpoint_skips_it(stopped: Training) -> None:
    path = stopped.run / "checkpoints" / name(6)
    path.unlink()
    path.mkdir()
    stopped.until(5, resume=True)
    assert stopped.reporter.messages[0].startswith(f"{path} is no checkpoint: a folder, expected a regular file")


def test_restore_with_a_named_pipe_as_checkpoint_skips_it(stopped: Training) -> None:
    path = stopped.run / "checkpoints" / name(6)
    path.unlink()
    os.mkfifo(path)
    stopped.until(5, resume=True)
    assert stopped.reporter.messages[0].startswith(f"{path} is no checkpoint: a named pipe, expected a regular file")


def test_restore_with_checkpoint_of_another_network_raises(stopped: Training, digits: Dataset) -> None:
    for architecture in (
        ARCHITECTURE.replace("conv 4", "conv 5"),
        ARCHITECTURE.replace("flatten", "flatten, dense 4, relu"),
        "flatten",
    ):
        other = Training(stopped.run, digits, architecture)
        with pytest.raises(ModelFileError, match=rf"{name(6)} does not fit the network of this version: train again$"):
            other.until(resume=True)
    Training(stopped.run, digits, ARCHITECTURE, SGD.override(freeze_norm_scale=True)).until(7)
    with pytest.raises(ModelFileError, match=rf"{name(7)} does not fit the network of this version: train again$"):
        Training(stopped.run, digits, ARCHITECTURE, SGD).until(resume=True)


# When they are written, and which are kept


def test_checkpoints_before_the_interval_are_not_written(digits: Dataset, tmp_path: Path) -> None:
    training = Training(tmp_path / "run", digits)
    training.until()
    assert not (training.run / "checkpoints").exists()


def test_checkpoints_are_written_at_every_interval(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("convscope.runs.checkpoints.time.monotonic", lambda: clock[0])
    training = Training(tmp_path / "run", digits)
    written: list[float] = []

    def tick(self: Checkpoints, trainer: Trainer) -> None:
        clock[0] += 1
        before = training.files
        save(self, trainer)
        if training.files != before:
            written.append(clock[0] - 100)

    save = Checkpoints.on_train_batch_end
    monkeypatch.setattr(Checkpoints, "on_train_batch_end", tick)
    monkeypatch.setattr(Checkpoints, "on_epoch_end", tick)
    training.until(interval=4)  # 12 batches and 3 epochs: 15 seconds
    assert written == [4, 8, 12]


def test_checkpoints_after_stop_are_of_the_current_batch(digits: Dataset, tmp_path: Path) -> None:
    training = Training(tmp_path / "run", digits)
    training.until(7)
    assert training.files == [name(7)]


def test_checkpoints_keep_the_last_two_and_remove_older_ones_afterwards(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tmp_path / "run", digits)
    seen: list[tuple[str, list[str]]] = []
    unlink = Path.unlink

    def record(path: Path, missing_ok: bool = False) -> None:
        seen.append((path.name, training.files))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", record)
    training.until(6, interval=0)
    assert seen == [(name(step), [name(step), name(step + 1), name(step + 2)]) for step in (1, 2, 3, 4)]


def test_checkpoints_after_resume_keep_the_restored_one(stopped: Training) -> None:
    stopped.until(7, resume=True)
    assert stopped.files == [name(6), name(7)]
    (stopped.run / "checkpoints" / name(7)).write_bytes(b"")
    stopped.until(8, resume=True)
    assert stopped.files == [name(6), name(8)]


def test_checkpoints_written_twice_for_a_step_keep_the_previous_step(stopped: Training) -> None:
    """The step after the last batch of an epoch and after the epoch's end is the same."""
    checkpoints = stopped.checkpoints(interval=0)
    checkpoints.restore(stopped.trainer)
    for hook in (checkpoints.on_train_batch_end, checkpoints.on_epoch_end):
        hook(stopped.trainer)
        assert stopped.files == [name(5), name(6)]


def test_checkpoints_remove_leaves_other_files(stopped: Training) -> None:
    stopped.checkpoints().remove()
    assert not (stopped.run / "checkpoints").exists()
    stopped.checkpoints().remove()
    (stopped.run / "checkpoints").mkdir()
    (stopped.run / "checkpoints" / "mine.txt").write_text("mine")
    stopped.checkpoints().remove()
    assert stopped.files == ["mine.txt"]


# Failing disks

QUICK = (
    *("--model", ARCHITECTURE, "--epochs", 2, "--batch-size", 500),  # 3 batches an epoch
    *("--threads", 1, "--precision", "float32"),
)


class FullFile(io.BytesIO):
    """A file that cannot be written to."""

    def __init__(self, descriptor: int, number: int) -> None:
        super().__init__()
        os.close(descriptor)
        self.number = number

    def write(self, _: Any) -> int:
        raise OSError(self.number, os.strerror(self.number))


# The call that fails while the checkpoint of step 4 is written, its number from 1, and the newest checkpoint then.
FAULTS = {
    "the temporary file": ("open", 1, 3),
    "its content": ("fdopen", 1, 3),
    "its fsync": ("fsync", 1, 3),
    "its permissions": ("chmod", 1, 3),
    "the rename": ("replace", 1, 3),
    "the folder": ("open", 2, 4),
    "the folder's fsync": ("fsync", 2, 4),
    "the old one's removal": ("unlink", 1, 4),
}


def inject_fault(monkeypatch: pytest.MonkeyPatch, function: str, call: int, number: int) -> None:
    """Let a call of a function of `os` fail while the checkpoint of step 4 is written; `number` is the error's."""
    save, real = Checkpoints.on_train_batch_end, getattr(os, function)
    calls, armed = 0, False

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += armed
        if not armed or calls != call:
            return real(*arguments, **options)
        if function == "fdopen":
            return FullFile(arguments[0], number)
        raise OSError(number, os.strerror(number))

    def armed_save(self: Checkpoints, trainer: Trainer) -> None:
        nonlocal armed
        armed = trainer.state.step == 4
        try:
            save(self, trainer)
        finally:
            armed = False

    monkeypatch.setattr(os, function, fail)
    monkeypatch.setattr(Checkpoints, "on_train_batch_end", armed_save)
    monkeypatch.setattr(Checkpoints, "on_epoch_end", armed_save)


@pytest.fixture(scope="module")
def expected_weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of an uninterrupted training."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    arguments = [sys.executable, "-m", "convscope.cli.main", "train", "digits", *map(str, QUICK), "--run", str(run)]
    subprocess.run(arguments, check=True, capture_output=True)
    return (run / "last.safetensors").read_bytes()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full disk", "I/O error"])
def test_train_with_failing_checkpoint_ends_in_one_line_and_keeps_the_previous_one(
    command: Command, monkeypatch: pytest.MonkeyPatch, expected_weights: bytes, fault: str, number: int
) -> None:
    function, call, newest = FAULTS[fault]
    with monkeypatch.context() as patched:
        inject_fault(patched, function, call, number)
        answer = command("train", "digits", *QUICK, "--run", "run", "--checkpoint-interval", 0)
    lines = [line for line in answer.err.splitlines() if line.startswith("convscope: ")]
    what = "remove" if function == "unlink" else "write"
    assert (answer.code, answer.out, lines) == (1, "", answer.err.splitlines()[-1:])
    assert re.match(f"convscope: cannot {what} run/checkpoints/step-[0-9]+.ckpt: {os.strerror(number)}; ", lines[0])
    assert not list(Path("run").rglob(".*"))
    files = sorted(Path("run", "checkpoints").iterdir())
    assert [path.name for path in files[-1:]] == [name(newest)]
    for path in files:
        Checkpoint.from_bytes(path.read_bytes())
    answer = command("train", "--resume", "run")
    assert answer.code == 0
    assert f"resuming after step {newest} of 6, in epoch 2\n" in answer.err
    assert Path("run", "last.safetensors").read_bytes() == expected_weights


def test_resume_removes_temporary_files_that_a_failed_save_left(
    command: Command, monkeypatch: pytest.MonkeyPatch, expected_weights: bytes
) -> None:
    with monkeypatch.context() as patched:
        inject_fault(patched, "fsync", 1, errno.EIO)
        inject_fault(patched, "unlink", 1, errno.EIO)
        answer = command("train", "digits", *QUICK, "--run", "run", "--checkpoint-interval", 0)
    assert (answer.code, answer.err.splitlines()[-1][:24]) == (1, "convscope: cannot write ")
    assert len(list(Path("run").rglob(".*.tmp"))) == 1
    assert command("train", "--resume", "run").code == 0
    assert not list(Path("run").rglob(".*"))
    assert Path("run", "last.safetensors").read_bytes() == expected_weights


# Killed


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Kill]]:
    """25 killed and resumed trainings, and the SHA-256 of the weights of an uninterrupted one."""
    program = Path(__file__).parents[1] / "helpers/killing.py"
    arguments = [
        sys.executable,
        str(program),
        str(tmp_path_factory.mktemp("killed")),
        "--kills",
        "25",
        "--in-saves",
        "8",
    ]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=variables, timeout=900)
    found = json.loads(done.stdout)
    return found["uninterrupted"], [Kill(**kill) for kill in found["kills"]]


def test_resume_after_kill_weights_are_identical(kills: tuple[str, list[Kill]]) -> None:
    uninterrupted, killed = kills
    assert re.fullmatch("[0-9a-f]{64}", uninterrupted)
    assert [(kill.code, kill.sha256) for kill in killed] == [(0, uninterrupted)] * 25
    assert sum(kill.in_save for kill in killed) >= 7


def test_resume_after_kill_loses_one_interval_and_leaves_no_damage(kills: tuple[str, list[Kill]]) -> None:
    for kill in kills[1]:
        assert (kill.corrupt, kill.temporary) == (0, 0)
        assert kill.within_an_interval
        assert kill.lost_steps <= 1 or kill.interval
    assert any(kill.lost_steps for kill in kills[1])
