"""Checkpoints: that training goes on from them to the bit, that damage shows, and that failing disks cost nothing."""

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
from dataclasses import asdict, fields, replace
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
from convscope.runs.checkpoints import Checkpoint, Checkpoints
from convscope.training.loop import Fitted, State, Stop, fit
from convscope.training.recipes import RECIPES, VARIANTS, Recipe, changed
from convscope.training.state import Progress
from helpers.command import Command
from helpers.killing import Kill

LINE = "conv 4 3, batchnorm, relu, maxpool 2, dropout 0.3, flatten"
SGD = changed(RECIPES["default"], epochs=3, batch=50)  # 200 images: 4 batches an epoch
PHOTOS = "whiten 2, gelu, conv 8 3 pad same, maxpool 2, batchnorm, gelu, residual(conv 8 3 pad same), globalmax"
GROWING = changed(VARIANTS["color"]["best"], epochs=3, batch=50, learning_rate=0.05).model_copy(
    update={"flip": "always"}
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


class Training:
    """A training of 12 batches whose checkpoints lie in a run folder."""

    def __init__(self, run: Path, data: Dataset, line: str = LINE, recipe: Recipe = SGD, precision: Any = "float32"):
        self.run, self.line, self.recipe, self.precision = run, line, recipe, precision
        self.train, self.validation = data.train.take(np.arange(200)), data.train.take(np.arange(200, 300))
        self.said: list[str] = []
        self.steps: list[int] = []
        self.state: State
        run.mkdir(exist_ok=True)
        (run / "config.json").write_text("{}")

    def checkpoints(self, every: float = math.inf, stop: Stop | None = None) -> Checkpoints:
        return Checkpoints(self.run, every, stop or Stop(), self.said.append)

    def until(self, last: int = 99, every: float = math.inf, resumed: bool = False, **options: Any) -> Fitted:
        """Train until a batch after which a signal comes."""
        stop = Stop()
        checkpoints = self.checkpoints(every, stop)

        def start(state: State) -> None:
            self.state = state
            if resumed:
                checkpoints.restore(state)

        def watch(now: Progress) -> None:
            self.steps.append(now.step)
            stop.number = now.step == last

        return fit(
            build_model(parse_network(self.line, self.train.shape, 10)), self.train, self.validation,
            Preprocessing.standardized(self.train.images), self.recipe, 0,
            precision=self.precision, after_batch=watch, start=start, save=checkpoints.save, stop=stop, **options,
        )  # fmt: skip

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in (self.run / "checkpoints").glob("*"))


def name(step: int) -> str:
    return f"step-{step:010d}.ckpt"


def everything(fitted: Fitted, state: State) -> dict[str, Any]:
    """What two trainings have to agree in, to the bit."""
    rows = [{**asdict(row), "seconds": 0, "images_per_second": 0} for row in fitted.history]
    return {
        "selected": {key: array.tobytes() for key, array in fitted.weights.items()},
        "epoch": fitted.epoch,
        "history": rows,
        "model": {key: array.tobytes() for key, array in get_weights(state.model).items()},
        "velocities": {key: tensor.numpy().tobytes() for key, tensor in state.optimizer.velocities.items()},
        "random": torch.get_rng_state().numpy().tobytes(),
        "step": state.course.step,
    }


# Going on


CASES = {
    "sgd, dropout, best": (LINE, SGD, "float32"),
    "sgd, last": (LINE, SGD.model_copy(update={"select": "last"}), "float32"),
    "muon, whitening, growth, flip, shift": (PHOTOS, GROWING, "float32"),
    "muon in bf16": (PHOTOS, GROWING, "bf16"),
    "sgd in bf16": (LINE, SGD, "bf16"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [[1], [2], [4], [5], [6, 7], [11], [12], [3, 4, 8, 10]], ids=str)
def test_training_goes_on_to_the_bit_from_any_batch(
    digits: Dataset, tmp_path: Path, case: str, steps: list[int]
) -> None:
    line, recipe, precision = CASES[case]
    if precision == "bf16" and not has_bf16():
        pytest.skip("no bf16 here")
    whole = Training(tmp_path / "whole", digits, line, recipe, precision)
    expected = everything(whole.until(), whole.state)
    stopped = Training(tmp_path / "stopped", digits, line, recipe, precision)
    for number, step in enumerate(steps):
        torch.manual_seed(99)
        assert stopped.until(step, resumed=number > 0).signal
    assert everything(stopped.until(resumed=True), stopped.state) == expected
    assert stopped.steps == whole.steps == list(range(1, 13))
    assert whole.files == []
    epochs = [1 + (step - 1) // 4 for step in steps]
    going_on = [
        f"going on after step {step} of 12, in epoch {epoch}" for step, epoch in zip(steps, epochs, strict=True)
    ]
    assert stopped.said == going_on


def test_the_cases_use_what_they_are_there_for() -> None:
    assert SGD.select == "best"
    assert GROWING.growth
    assert (GROWING.flip, GROWING.optimizer, GROWING.fixed_norms) == ("always", "muon", True)
    assert GROWING.shift_pixels
    assert GROWING.classifier_share != 1


def test_a_signal_while_the_last_epoch_is_measured_leaves_a_finished_training(digits: Dataset, tmp_path: Path) -> None:
    training, stop = Training(tmp_path / "run", digits), Stop()
    checkpoints = training.checkpoints(stop=stop)

    def signal(history: list[Any]) -> None:
        stop.number = 15 * (len(history) == 3)

    states: list[State] = []
    model = build_model(parse_network(LINE, training.train.shape, 10))
    options = training.train, training.validation, Preprocessing.standardized(training.train.images), SGD, 0
    first = fit(model, *options, after_epoch=signal, start=states.append, save=checkpoints.save, stop=stop)
    assert (first.signal, training.files) == (15, [name(12)])
    again = training.until(resumed=True)
    assert training.steps == []
    assert everything(again, training.state) == everything(first, states[0])


# The file


@pytest.fixture
def stopped(digits: Dataset, tmp_path: Path) -> Training:
    """Stopped in the second epoch, with checkpoints of the batches 5 and 6."""
    training = Training(tmp_path / "run", digits)
    training.until(6, every=0)
    assert training.files == [name(5), name(6)]
    return training


def test_a_checkpoint_is_read_as_it_was_written(stopped: Training) -> None:
    written = Checkpoint.of(stopped.state, "abc")
    found = Checkpoint.from_bytes(written.to_bytes())
    assert found.facts == written.facts
    assert found.arrays.keys() == written.arrays.keys()
    for key, array in written.arrays.items():
        assert (found.arrays[key].dtype, found.arrays[key].shape) == (array.dtype, array.shape)
        assert found.arrays[key].tobytes() == array.tobytes(), key


def test_a_checkpoint_does_not_change_with_the_training(stopped: Training) -> None:
    taken = Checkpoint.of(stopped.state, "abc")
    before = taken.to_bytes()
    for tensor in (*stopped.state.model.state_dict().values(), *stopped.state.optimizer.velocities.values()):
        tensor.add_(1)
    assert taken.to_bytes() == before


def test_the_file_is_a_checksum_json_and_safetensors(stopped: Training) -> None:
    digest, facts, arrays = (stopped.run / "checkpoints" / name(6)).read_bytes().split(b"\n", 2)
    assert re.fullmatch(rb"[0-9a-f]{64}", digest)
    values = json.loads(facts)
    assert set(values) == {"format", "config", "standing", "selected_epoch", "beside_epoch", "history"}
    assert set(values["standing"]) == {field.name for field in fields(stopped.state.course.standing())}
    assert (values["standing"]["step"], values["standing"]["epoch"], values["standing"]["seen"]) == (6, 2, 100)
    assert len(values["history"]) == 1
    groups: dict[str, int] = {}
    for key in load_arrays(arrays):
        groups[key.split("/")[0]] = groups.get(key.split("/")[0], 0) + 1
    trained = sum(1 for weight in stopped.state.model.parameters() if weight.requires_grad)
    tensors = len(stopped.state.model.state_dict())
    assert groups == {"weights": tensors, "selected": tensors, "velocities": trained, "random": 1}


def flip(content: bytes, place: float) -> bytes:
    at = int(place * (len(content) - 1))
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def flipped(place: float) -> Callable[[bytes], bytes]:
    return lambda content: flip(content, place)


def with_facts(content: bytes, **values: Any) -> bytes:
    """The same checkpoint, sound, but with other facts."""
    checkpoint = Checkpoint.from_bytes(content)
    return replace(checkpoint, facts=checkpoint.facts.model_copy(update=values)).to_bytes()


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "is damaged"),
    "a line": (lambda content: content[:64], "is damaged"),
    "cut in the middle": (lambda content: content[: len(content) // 2], "is damaged"),
    "cut at the end": (lambda content: content[:-1], "is damaged"),
    "longer": (lambda content: content + b"\0", "is damaged"),
    **{f"a bit at {place}": (flipped(place), "is damaged") for place in (0, 0.002, 0.005, 0.03, 0.2, 0.5, 0.9, 1)},
    "of another training": (lambda content: with_facts(content, config="another"), "is of another training"),
    "of another format": (lambda content: with_facts(content, format=2), "was written by another version"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(stopped: Training, tmp_path: Path, damage: str) -> None:
    whole = Training(tmp_path / "whole", load_data("digits"))
    expected = everything(whole.until(), whole.state)
    alter, words = DAMAGES[damage]
    path = stopped.run / "checkpoints" / name(6)
    path.write_bytes(alter(path.read_bytes()))
    stopped.steps.clear()
    assert everything(stopped.until(resumed=True), stopped.state) == expected
    assert stopped.said == [f"{path} {words}: it is left out", "going on after step 5 of 12, in epoch 2"]
    assert stopped.steps == list(range(6, 13))


@pytest.mark.parametrize("damage", ["empty", "a bit at 0.5", "of another training"])
def test_where_none_is_usable_training_starts_anew_and_that_is_said(stopped: Training, damage: str) -> None:
    folder = stopped.run / "checkpoints"
    for path in folder.iterdir():
        path.write_bytes(DAMAGES[damage][0](path.read_bytes()))
    stopped.steps.clear()
    stopped.until(1, every=0, resumed=True)
    assert stopped.steps == [1]
    assert len(stopped.said) == 3
    assert stopped.said[-1] == f"{folder} has no checkpoint to go on from: training starts anew"
    assert stopped.files == [name(1)]  # those that no one can use do not count


def test_a_checkpoint_that_cannot_be_read_is_left_out(stopped: Training) -> None:
    path = stopped.run / "checkpoints" / name(6)
    path.unlink()
    path.mkdir()
    stopped.until(5, resumed=True)
    assert stopped.said[0] == f"{path} cannot be read (Is a directory): it is left out"


def test_a_checkpoint_of_another_network_does_not_fit(stopped: Training, digits: Dataset) -> None:
    for line in (LINE.replace("conv 4", "conv 5"), LINE.replace("flatten", "flatten, dense 4, relu"), "flatten"):
        other = Training(stopped.run, digits, line)
        with pytest.raises(ModelFileError, match=rf"{name(6)} does not fit the network of this version: train again$"):
            other.until(resumed=True)
    Training(stopped.run, digits, LINE, SGD.model_copy(update={"fixed_norms": True})).until(7)
    with pytest.raises(ModelFileError, match=rf"{name(7)} does not fit the network of this version: train again$"):
        Training(stopped.run, digits, LINE, SGD).until(resumed=True)


# When they are written, and what is kept


def test_no_checkpoint_is_written_before_its_time(digits: Dataset, tmp_path: Path) -> None:
    training = Training(tmp_path / "run", digits)
    training.until()
    assert not (training.run / "checkpoints").exists()


def test_checkpoints_are_written_at_time_intervals(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("convscope.runs.checkpoints.time.monotonic", lambda: clock[0])
    training = Training(tmp_path / "run", digits)
    written: list[float] = []

    def tick(self: Checkpoints, state: State) -> None:
        clock[0] += 1
        before = training.files
        save(self, state)
        if training.files != before:
            written.append(clock[0] - 100)

    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", tick)
    training.until(every=4)  # 12 batches and 3 epochs: 15 seconds
    assert written == [4, 8, 12]


def test_a_stop_writes_a_checkpoint_of_the_batch_at_hand(digits: Dataset, tmp_path: Path) -> None:
    training = Training(tmp_path / "run", digits)
    training.until(7)
    assert training.files == [name(7)]


def test_the_last_two_are_kept_and_the_older_ones_go_when_the_newer_one_is_there(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tmp_path / "run", digits)
    seen: list[tuple[str, list[str]]] = []
    unlink = Path.unlink

    def note(path: Path, missing_ok: bool = False) -> None:
        seen.append((path.name, training.files))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", note)
    training.until(6, every=0)
    assert seen == [(name(step), [name(step), name(step + 1), name(step + 2)]) for step in (1, 2, 3, 4)]


def test_the_one_that_training_went_on_from_is_kept_beside_the_next(stopped: Training) -> None:
    stopped.until(7, resumed=True)
    assert stopped.files == [name(6), name(7)]
    (stopped.run / "checkpoints" / name(7)).write_bytes(b"")
    stopped.until(8, resumed=True)
    assert stopped.files == [name(6), name(8)]


def test_one_that_is_written_again_does_not_push_out_the_one_before(stopped: Training) -> None:
    """After the last batch of an epoch and after its end the step is the same."""
    checkpoints = stopped.checkpoints(every=0)
    checkpoints.restore(stopped.state)
    for _ in range(2):
        checkpoints.save(stopped.state)
        assert stopped.files == [name(5), name(6)]


def test_all_go_at_the_end_but_nothing_else(stopped: Training) -> None:
    stopped.checkpoints().remove()
    assert not (stopped.run / "checkpoints").exists()
    stopped.checkpoints().remove()
    (stopped.run / "checkpoints").mkdir()
    (stopped.run / "checkpoints" / "mine.txt").write_text("mine")
    stopped.checkpoints().remove()
    assert stopped.files == ["mine.txt"]


# Failing disks

QUICK = (
    "--model",
    LINE,
    "--epochs",
    2,
    "--batch-size",
    500,
    "--threads",
    1,
    "--precision",
    "float32",
)  # 3 batches an epoch


class FullFile(io.BytesIO):
    """A file that takes nothing."""

    def __init__(self, descriptor: int, number: int) -> None:
        super().__init__()
        os.close(descriptor)
        self.number = number

    def write(self, _: Any) -> int:
        raise OSError(self.number, os.strerror(self.number))


# What fails while the checkpoint of step 4 is written, the how manieth time, and which checkpoint is the newest then.
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


def failing(monkeypatch: pytest.MonkeyPatch, function: str, time: int, number: int) -> None:
    """Let a function of `os` fail that how manieth time in the save of step 4."""
    save, real = Checkpoints.save, getattr(os, function)
    calls, armed = 0, False

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += armed
        if not armed or calls != time:
            return real(*arguments, **options)
        if function == "fdopen":
            return FullFile(arguments[0], number)
        raise OSError(number, os.strerror(number))

    def armed_save(self: Checkpoints, state: State) -> None:
        nonlocal armed
        armed = state.course.step == 4
        try:
            save(self, state)
        finally:
            armed = False

    monkeypatch.setattr(os, function, fail)
    monkeypatch.setattr(Checkpoints, "save", armed_save)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the quick training."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    words = [sys.executable, "-m", "convscope.cli.main", "train", "digits", *map(str, QUICK), "--run", str(run)]
    subprocess.run(words, check=True, capture_output=True)
    return (run / "last.safetensors").read_bytes()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full disk", "I/O error"])
def test_where_a_save_fails_training_ends_with_one_line_and_the_old_checkpoint_is_there(
    command: Command, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes, fault: str, number: int
) -> None:
    function, time, newest = FAULTS[fault]
    with monkeypatch.context() as patched:
        failing(patched, function, time, number)
        answer = command("train", "digits", *QUICK, "--run", "run", "--checkpoint-every", 0)
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
    assert f"going on after step {newest} of 6, in epoch 2\n" in answer.err
    assert Path("run", "last.safetensors").read_bytes() == undisturbed


def test_a_temporary_file_that_could_not_even_be_removed_goes_when_training_goes_on(
    command: Command, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, "fsync", 1, errno.EIO)
        failing(patched, "unlink", 1, errno.EIO)
        answer = command("train", "digits", *QUICK, "--run", "run", "--checkpoint-every", 0)
    assert (answer.code, answer.err.splitlines()[-1][:24]) == (1, "convscope: cannot write ")
    assert len(list(Path("run").rglob(".*.tmp"))) == 1
    assert command("train", "--resume", "run").code == 0
    assert not list(Path("run").rglob(".*"))
    assert Path("run", "last.safetensors").read_bytes() == undisturbed


# Killed


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Kill]]:
    """25 trainings that were killed, and the weights of the one that was not."""
    program = Path(__file__).parents[1] / "helpers/killing.py"
    words = [sys.executable, str(program), str(tmp_path_factory.mktemp("killed")), "--kills", "25", "--inside", "8"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=variables, timeout=900)
    found = json.loads(done.stdout)
    return found["undisturbed"], [Kill(**kill) for kill in found["kills"]]


def test_a_killed_training_ends_with_the_weights_of_the_undisturbed_one(kills: tuple[str, list[Kill]]) -> None:
    undisturbed, killed = kills
    assert re.fullmatch("[0-9a-f]{64}", undisturbed)
    assert [(kill.code, kill.sha256) for kill in killed] == [(0, undisturbed)] * 25
    assert sum(kill.inside for kill in killed) >= 7


def test_a_kill_damages_no_checkpoint_leaves_no_file_and_costs_one_interval(kills: tuple[str, list[Kill]]) -> None:
    for kill in kills[1]:
        assert (kill.corrupt, kill.temporary) == (0, 0)
        assert kill.within_an_interval
        assert kill.lost_steps <= 1 or kill.interval
    assert any(kill.lost_steps for kill in kills[1])
