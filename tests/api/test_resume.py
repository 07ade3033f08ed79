"""Trainings that are gone on with: the same run in the end, nothing settled anew, and what cannot be gone on with."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from convscope import Run, open_run, resume_run, train_model, train_more
from convscope._hardware import HardwareInfo, hardware_info
from convscope.api import resume
from convscope.api import train as experiment
from convscope.api.resume import changed_since
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.backends.pytorch.models import get_weights
from convscope.data.dataset import Dataset
from convscope.errors import ConvscopeError, DataError, ModelFileError, UsageError
from convscope.runs.config import RunConfig
from convscope.training.budget import Budget
from convscope.training.recipes import RECIPES, changed
from convscope.training.state import Progress
from helpers.command import Command
from helpers.reporting import RecordingReporter, SilentReporter

pytestmark = pytest.mark.usefixtures("interruptible")

SHORT = changed(RECIPES["default"], epochs=3, batch=8)  # 5 batches an epoch
LINE = "conv 4 3, batchnorm, relu, dropout 0.2, flatten"


def saved(path: Path, data: Dataset) -> Path:
    np.savez(
        path, x_train=data.train.images, y_train=data.train.labels, x_test=data.test.images, y_test=data.test.labels,
        classes=np.array(data.classes),
    )  # fmt: skip
    return path


def interrupt(*steps: int) -> Callable[[Progress], None]:
    """A watcher that sends SIGINT after these batches."""

    def watch(now: Progress) -> None:
        if now.step in steps:
            signal.raise_signal(signal.SIGINT)

    return watch


@pytest.fixture
def whole(stripes: Dataset, tmp_path: Path) -> Run:
    """A training that was never disturbed."""
    return train_model(saved(tmp_path / "stripes.npz", stripes), LINE, SHORT, threads=1, run=tmp_path / "whole")


@pytest.fixture
def stopped(stripes: Dataset, tmp_path: Path) -> Path:
    """The same training, stopped in its second epoch."""
    data = saved(tmp_path / "stripes.npz", stripes)
    return train_model(data, LINE, SHORT, threads=1, run=tmp_path / "run", watch=interrupt(7)).path


# The same run in the end


@pytest.mark.parametrize("stops", [(), (8,), (9, 15)], ids=str)
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(whole: Run, stopped: Path, stops: tuple[int, ...]) -> None:
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["step-0000000007.ckpt"]
    planned = (stopped / "config.json").read_bytes()
    steps: list[int] = []
    for stop in stops:
        again = resume_run(stopped, watch=interrupt(stop), reporter=SilentReporter())
        assert (again.manifest.status, again.manifest.signal) == ("interrupted", signal.SIGINT)
        assert open_run(stopped).manifest == again.manifest
    run = resume_run(stopped, watch=lambda now: steps.append(now.step), reporter=SilentReporter())
    assert steps == list(range(max(stops, default=7) + 1, 16))
    assert (run.path / "config.json").read_bytes() == planned
    for name in ("best.safetensors", "last.safetensors", "evaluation.json"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert open_run(stopped).manifest == run.manifest
    names = [{re.sub(r"\.\d{10}\.", ".TIME.", name) for name in one.manifest.files} for one in (run, whole)]
    assert names[0] == names[1]
    kept = {path.relative_to(stopped).as_posix() for path in stopped.rglob("*") if path.is_file()}
    assert kept == {*run.manifest.files, "manifest.json"}
    assert (run.manifest.status, run.manifest.signal, run.manifest.selected_epoch) == (
        "complete", 0, whole.manifest.selected_epoch,
    )  # fmt: skip
    assert run.manifest.train_seconds > sum(row["seconds"] for row in run.history)
    clock = {"seconds": 0, "images_per_second": 0}
    assert [{**row, **clock} for row in run.history] == [{**row, **clock} for row in whole.history]


def test_nothing_is_settled_anew(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("autotune", "plan", "recipe_named", "fitting", "hardware_info"):
        monkeypatch.setattr(experiment, name, lambda *_: pytest.fail("it was settled before"))
    assert resume_run(stopped, reporter=SilentReporter()).manifest.status == "complete"


def test_threads_are_those_of_the_training(stripes: Dataset, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        run = train_model(stripes, "conv 4 3, conv 4 2, flatten", SHORT, threads=2, run=tmp_path / "run",
                          watch=interrupt(3))  # fmt: skip
        use_threads(1)
        resume_run(run.path, stripes, reporter=SilentReporter())
        assert torch.get_num_threads() == 2
        assert backend.native is None or backend.native.threads() == 2
    finally:
        use_threads(before)


def test_data_that_were_in_memory_are_given_again(stripes: Dataset, tmp_path: Path) -> None:
    run = train_model(stripes, LINE, SHORT, threads=1, run=tmp_path / "run", watch=interrupt(7))
    with pytest.raises(UsageError, match="in memory: give them to resume_run or train_more as data"):
        resume_run(run.path)
    other = dataclasses.replace(stripes, test=stripes.train)
    with pytest.raises(
        DataError, match=r"^stripes is no longer the data that .*run was trained on: put them back, or "
    ):
        resume_run(run.path, other)
    assert open_run(run.path).manifest == run.manifest  # nothing was touched
    assert resume_run(run.path, stripes, reporter=SilentReporter()).manifest.status == "complete"


def test_a_training_that_failed_in_its_report_goes_on_from_its_checkpoint(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the report's beginning has left does not make a run that is stopped then a complete one."""

    def fail(*_: Any) -> str:
        raise ConvscopeError("no report")

    data, run = saved(tmp_path / "stripes.npz", stripes), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(experiment, "render", fail)
        with pytest.raises(ConvscopeError, match="no report"):
            train_model(data, LINE, SHORT, threads=1, run=run, checkpoint_every=0)
    assert (run / "evaluation.json").exists()
    assert list((run / "plots").iterdir())
    (run / "checkpoints" / "step-0000000015.ckpt").write_bytes(b"")
    reporter = RecordingReporter()
    stopped = resume_run(run, watch=interrupt(15), reporter=reporter)
    assert [line.partition(" ")[0] for line in reporter.messages] == [
        f"{run}/checkpoints/step-0000000015.ckpt",
        "going",
    ]
    assert stopped.manifest.status == "interrupted"
    assert not [name for name in stopped.manifest.files if name.startswith(("evaluation", "plots", "checkpoints"))]
    assert resume_run(run, reporter=SilentReporter()).manifest.status == "complete"


def test_while_it_goes_on_the_folder_is_no_run(stopped: Path) -> None:
    def interrupt_twice(_: Progress) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        resume_run(stopped, watch=interrupt_twice, reporter=SilentReporter())
    with pytest.raises(ModelFileError, match=f"go on with convscope train --resume {stopped}, or train again$"):
        open_run(stopped)
    assert resume_run(stopped, reporter=SilentReporter()).manifest.status == "complete"


def test_a_training_that_runs_is_not_gone_on_with(stopped: Path, whole: Run) -> None:
    answers = []

    def resume_too(now: Progress) -> None:
        if now.step == 9:
            half = stopped / "checkpoints" / ".a.tmp"
            half.touch()  # as if in the middle of a save
            words = [sys.executable, "-m", "convscope.cli.main", "train", "--resume", str(stopped)]
            answers.append(subprocess.run(words, capture_output=True, text=True, check=False))
            assert half.exists()

    assert resume_run(stopped, watch=resume_too, reporter=SilentReporter()).manifest.status == "complete"
    assert [(answer.returncode, answer.stdout) for answer in answers] == [(2, "")]
    message = f"convscope: {stopped} is in use by another process: wait until it ends, or stop it\n"
    assert answers[0].stderr.endswith(message)
    assert (stopped / "last.safetensors").read_bytes() == (whole.path / "last.safetensors").read_bytes()


# What is not as it was


def test_what_changed_since_is_said_in_one_line(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def another(threads: int) -> HardwareInfo:
        machine = hardware_info(threads)
        return machine.model_copy(update={"versions": {**machine.versions, "torch": "2.99"}, "processor": "Z80"})

    monkeypatch.setattr(resume, "hardware_info", another)
    reporter = RecordingReporter()
    then = RunConfig.model_validate_json((stopped / "config.json").read_bytes()).machine
    resume_run(stopped, reporter=reporter)
    assert reporter.messages == [
        f"equivalent, not identical: torch was {then.versions['torch']}, is 2.99, "
        f"the processor was {then.processor}, is Z80",
        "going on after step 7 of 15, in epoch 2",
    ]


@pytest.mark.parametrize(
    ("changes", "kernels", "expected"),
    [
        ({}, "native avx2", []),
        ({"peak_gflops": 1.0, "python": "3.99", "cores": 64}, "native avx2", []),
        ({}, "torch", ["kernels were native avx2, are torch"]),
        ({"system": "Darwin arm64"}, "native avx2", ["the system was Linux x86_64, is Darwin arm64"]),
        ({"cores": 1}, "native avx2", ["2 threads have to share 1 cores"]),
        ({"versions": {"torch": "2.13", "numpy": "2.0", "convscope": "0.2", "pillow": "1"}}, "native avx2",
         ["convscope was 0.1, is 0.2"]),
        ({"versions": {"torch": "2.13", "numpy": "2.1", "convscope": "0.1"}}, "native avx2",
         ["numpy was 2.0, is 2.1"]),
    ],
)  # fmt: skip
def test_what_can_change_the_bits(stopped: Path, changes: dict[str, Any], kernels: str, expected: list[str]) -> None:
    versions = {"torch": "2.13", "numpy": "2.0", "convscope": "0.1", "pillow": "13"}
    machine = HardwareInfo(
        processor="EPYC", cores=4, threads=2, peak_gflops=100, system="Linux x86_64", python="3.11", versions=versions
    )
    config = RunConfig.model_validate_json((stopped / "config.json").read_bytes())
    config = config.model_copy(update={"machine": machine, "kernels": "native avx2"})
    assert changed_since(config, machine.model_copy(update=changes), kernels) == expected


def test_kernels_that_are_missing_for_another_reason_are_the_same(stopped: Path) -> None:
    config = RunConfig.model_validate_json((stopped / "config.json").read_bytes())
    config = config.model_copy(update={"kernels": "torch, because CONVSCOPE_NATIVE=0"})
    assert changed_since(config, config.machine, "torch") == []


# What cannot be gone on with


def test_a_run_that_is_complete_is_left_alone(whole: Run) -> None:
    with pytest.raises(UsageError, match=f"^{whole.path} is complete already: --more-epochs trains it further$"):
        resume_run(whole.path)
    assert open_run(whole.path).manifest == whole.manifest


def test_a_run_that_was_stopped_without_a_checkpoint_is_left_alone(stopped: Path) -> None:
    shutil.rmtree(stopped / "checkpoints")
    with pytest.raises(ModelFileError, match=f"^{stopped} has no checkpoint to go on from: use it as it is, or train "):
        resume_run(stopped)
    assert open_run(stopped).manifest.status == "interrupted"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "nowhere",
            "^expected a run folder, but .*nowhere is not there: give the folder that 'convscope train' printe",
        ),
        ("stripes.npz", "^expected a run folder, but .*stripes.npz is a file"),
        (".", "config.json is missing: give the folder of a training that was stopped or killed$"),
    ],
)
def test_what_is_no_run_folder(stopped: Path, place: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        resume_run(stopped.parent / place)


def test_data_that_changed_or_went_away(stopped: Path, stripes: Dataset) -> None:
    path = stopped.parent / "stripes.npz"
    saved(path, dataclasses.replace(stripes, test=stripes.train))
    with pytest.raises(
        DataError, match=f"^{path} is no longer the data that {stopped} was trained on: put them back, "
    ):
        resume_run(stopped)
    path.unlink()
    with pytest.raises(DataError, match=f"^no such file or folder: {path}"):
        resume_run(stopped)
    saved(path, stripes)
    assert resume_run(stopped, reporter=SilentReporter()).manifest.status == "complete"


# On the command line


def test_the_command_goes_on_and_ends_with_the_same_weights(command: Command, whole: Run, stopped: Path) -> None:
    answer = command("train", "--resume", stopped, "--json", "--checkpoint-every", 5)
    assert answer.code == 0
    assert "going on after step 7 of 15, in epoch 2" in answer.err.splitlines()
    assert "stripes: 36 training, 4 validation, 20 test images, 4x4x1, 2 classes" in answer.err.splitlines()
    assert json.loads(answer.out) == open_run(stopped).to_dict()
    assert (stopped / "last.safetensors").read_bytes() == (whole.path / "last.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["digits"], "DATA"),
        (["--seed", "0"], "--seed"),
        (["--model", "small", "--epochs", "3", "--json"], "--model, --epochs"),
        (["--recipe", "default", "--run", "b", "--batch-size", "1", "--learning-rate", "1", "--precision", "auto",
          "--threads", "1"], "--recipe, --run, --batch-size, --learning-rate, --precision, --threads"),
    ],
)  # fmt: skip
def test_what_decides_a_training_cannot_be_given_again(
    command: Command, stopped: Path, words: list[str], named: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    answer = command("train", "--resume", stopped, *words)
    message = f"convscope: --resume goes on as the run's config.json says: leave out {named}\n"
    assert answer == (2, "", message)
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


# More epochs


def test_more_epochs_are_the_end_of_a_longer_training(whole: Run, stripes: Dataset, tmp_path: Path) -> None:
    """Their learning rate is that of the last 2 of 5 epochs, and they begin with the last weights."""
    more = train_more(whole.path, 2, run=tmp_path / "more")
    config = more.config
    assert (config.before, config.epochs, len(more.history)) == (3, 2, 2)
    assert config.recipe == changed(whole.config.recipe, epochs=2)
    assert config.preprocessing == whole.config.preprocessing
    rates = [row["learning_rate"] for row in more.history]
    expected = [SHORT.learning_rate_at((3 * 5 + 5 * epoch - 0.5) / 25) for epoch in (1, 2)]
    assert rates == pytest.approx(expected)
    began = load_file(more.path / "initial.safetensors")
    learned = load_file(more.path / "last.safetensors")
    assert any(not np.array_equal(began[name], weights) for name, weights in learned.items())
    again = train_more(more.path, 1, run=tmp_path / "again")
    assert again.config.before == 5
    assert len(stripes.train) == 40


@pytest.mark.parametrize("select", ["best", "last"])
def test_more_epochs_begin_with_the_last_weights(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: str
) -> None:
    accuracies = iter([0.5, 0.9, 0.2])
    data = saved(tmp_path / "stripes.npz", stripes)
    with monkeypatch.context() as patched:
        patched.setattr("convscope.training.autotune.TuningProbe.loss", lambda *_: 1.0)
        patched.setattr("convscope.training.loop.loss_and_accuracy", lambda *_: (1.0, next(accuracies)))
        run = train_model(data, LINE, changed(SHORT, select=select), threads=1, run=tmp_path / "run")
    assert (run.manifest.weights, run.manifest.selected_epoch) == (select, {"best": 2, "last": 3}[select])
    files = {name: (run.path / f"{name}.safetensors").read_bytes() for name in ("best", "last")}
    assert files["best"] != files["last"]
    assert run.weights_file.read_bytes() == files[select]
    for name, weights in get_weights(run.model()).items():
        np.testing.assert_array_equal(weights, load_file(run.weights_file)[name])
    train_more(run.path, 1, run=tmp_path / "more")
    assert (tmp_path / "more/initial.safetensors").read_bytes() == files["last"]


def test_more_epochs_of_a_budget_are_counted(stripes: Dataset, tmp_path: Path) -> None:
    budget = Budget(5, time.monotonic())
    plan = experiment.plan(saved(tmp_path / "stripes.npz", stripes), LINE, SHORT, threads=1, budget=budget)
    assert plan.config.training_seconds is not None
    short = plan.config.model_copy(update={"training_seconds": 0.05})
    run = experiment.run_plan(dataclasses.replace(plan, config=short), tmp_path / "run")
    config = resume.planned_more(run.path, 2).config
    assert (config.budget, config.training_seconds, config.epochs) == (None, None, 2)


def test_more_epochs_can_be_killed_too(whole: Run, tmp_path: Path) -> None:
    more = train_more(whole.path, 2, run=tmp_path / "more")
    stopped = train_more(whole.path, 2, run=tmp_path / "stopped", watch=interrupt(3), checkpoint_every=1000)
    assert stopped.manifest.status == "interrupted"
    gone_on = resume_run(stopped.path, reporter=SilentReporter())
    weights = [(run.path / "last.safetensors").read_bytes() for run in (gone_on, more)]
    assert weights[0] == weights[1]


def test_more_epochs_run_as_this_machine_can(stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.training.autotune.has_bf16", lambda: True)
    first = train_model(saved(tmp_path / "stripes.npz", stripes), LINE, SHORT, threads=2, run=tmp_path / "first")
    assert first.config.precision == "bf16"
    monkeypatch.setattr("convscope.api.resume.max_threads", lambda: 4)
    assert resume.planned_more(first.path, 1).config.machine.threads == 2
    monkeypatch.setattr("convscope.training.autotune.has_bf16", lambda: False)
    monkeypatch.setattr("convscope.api.resume.max_threads", lambda: 1)
    config = resume.planned_more(first.path, 1).config
    assert (config.machine.threads, config.precision) == (1, "float32")
    assert config.precision_why == "this processor has no bf16 arithmetic"


def test_more_epochs_need_the_data(whole: Run, stripes: Dataset, tmp_path: Path) -> None:
    other = stripes.train.images.copy()
    other[0] ^= 1
    altered = dataclasses.replace(stripes, train=dataclasses.replace(stripes.train, store=other))
    with pytest.raises(DataError, match="is no longer the data that"):
        train_more(whole.path, 2, altered, run=tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_the_command_trains_further(whole: Run, command: Command, tmp_path: Path) -> None:
    answer = command("train", "--resume", str(whole.path), "--more-epochs", "2", "--run", f"{tmp_path}/more", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["config"]["before"] == 3
    assert open_run(whole.path).manifest == whole.manifest  # nothing of it is touched
