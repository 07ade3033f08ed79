"""Resumed trainings: identical results, no new decisions, messages about changes, refusals, and more epochs."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from convscope import Run, open_run, resume_run, train_model, train_more
from convscope._hardware import HardwareInfo, hardware_info
from convscope._reporting import SilentReporter
from convscope.api import resume
from convscope.api.resume import changes_since
from convscope.api.train import run_plan
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan, make_plan
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.backends.pytorch.models import get_weights
from convscope.data.dataset import Dataset
from convscope.errors import ConvscopeError, DataError, ModelFileError, UsageError
from convscope.runs.config import RunConfig
from convscope.training.callbacks import Callback, Trainer
from convscope.training.recipes import RECIPES
from convscope.training.state import Progress
from helpers.callbacks import Interrupt, OnBatch, RecordSteps
from helpers.command import Command
from helpers.reporting import RecordingReporter

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("interruptible")]

SHORT = RECIPES["default"].override(epochs=3, batch_size=8)  # 5 batches per epoch
ARCHITECTURE = "conv 4 3, batchnorm, relu, dropout 0.2, flatten"


def saved(path: Path, data: Dataset) -> Path:
    np.savez(
        path, x_train=data.train.images, y_train=data.train.labels, x_test=data.test.images, y_test=data.test.labels,
        classes=np.array(data.classes),
    )  # fmt: skip
    return path


@pytest.fixture
def whole(stripes: Dataset, tmp_path: Path) -> Run:
    """An uninterrupted training."""
    return train_model(saved(tmp_path / "stripes.npz", stripes), ARCHITECTURE, SHORT, threads=1, run=tmp_path / "whole")


@pytest.fixture
def stopped(stripes: Dataset, tmp_path: Path) -> Path:
    """The same training, stopped in its second epoch."""
    data = saved(tmp_path / "stripes.npz", stripes)
    return train_model(data, ARCHITECTURE, SHORT, threads=1, run=tmp_path / "run", callbacks=[Interrupt(7)]).path


# Identical results


@pytest.mark.parametrize("stops", [(), (8,), (9, 15)], ids=str)
def test_resume_run_after_stops_is_bit_identical(whole: Run, stopped: Path, stops: tuple[int, ...]) -> None:
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["step-0000000007.ckpt"]
    planned = (stopped / "config.json").read_bytes()
    recorded = RecordSteps()
    for stop in stops:
        again = resume_run(stopped, callbacks=[Interrupt(stop)], reporter=SilentReporter())
        assert (again.manifest.status, again.manifest.signal) == ("interrupted", signal.SIGINT)
        assert open_run(stopped).manifest == again.manifest
    run = resume_run(stopped, callbacks=[recorded], reporter=SilentReporter())
    assert recorded.steps == list(range(max(stops, default=7) + 1, 16))
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


def test_resume_run_keeps_the_error_that_was_allowed(stripes: Dataset, tmp_path: Path) -> None:
    data = saved(tmp_path / "stripes.npz", stripes)
    hooks: dict[str, Any] = {"callbacks": [Interrupt(7)], "reporter": SilentReporter()}
    stopped = train_model(data, ARCHITECTURE, SHORT, threads=1, max_error=1e-6, run=tmp_path / "run", **hooks)
    assert resume_run(stopped.path, reporter=SilentReporter()).metadata.rejection.min_probability == 1


def test_resume_run_decides_nothing_again(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "api.resume.autotune", "api.training.plan.autotune", "api.training.plan.make_plan",
        "api.training.plan.resolve", "api.training.plan.hardware_info", "api.training.plan.measure_preprocessing",
        "api.training.options.recipe_named", "training.resolve.keep_usable_resizing",
    ):  # fmt: skip
        monkeypatch.setattr(f"convscope.{name}", lambda *_: pytest.fail("this had been decided"))
    assert resume_run(stopped, reporter=SilentReporter()).manifest.status == "complete"


def test_resume_run_uses_the_threads_of_the_run(stripes: Dataset, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        run = train_model(stripes, "conv 4 3, conv 4 2, flatten", SHORT, threads=2, run=tmp_path / "run",
                          callbacks=[Interrupt(3)])  # fmt: skip
        use_threads(1)
        resume_run(run.path, stripes, reporter=SilentReporter())
        assert torch.get_num_threads() == 2
        assert backend.native is None or backend.native.threads() == 2
    finally:
        use_threads(before)


def test_resume_run_of_data_in_memory_needs_the_same_data(stripes: Dataset, tmp_path: Path) -> None:
    run = train_model(stripes, ARCHITECTURE, SHORT, threads=1, run=tmp_path / "run", callbacks=[Interrupt(7)])
    with pytest.raises(UsageError, match=r"in memory: pass it to resume_run or train_more as data$"):
        resume_run(run.path)
    other = dataclasses.replace(stripes, test=stripes.train)
    with pytest.raises(
        DataError, match=r"^stripes has changed since .*run was trained on it: restore it, or train again$"
    ):
        resume_run(run.path, other)
    assert open_run(run.path).manifest == run.manifest  # nothing has changed
    assert resume_run(run.path, stripes, reporter=SilentReporter()).manifest.status == "complete"


def test_resume_run_after_failed_report_starts_from_the_checkpoint(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is stopped then, results that the failed report left behind do not make it a complete run."""

    def fail(*_: Any) -> str:
        raise ConvscopeError("no report")

    data, run = saved(tmp_path / "stripes.npz", stripes), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("convscope.api.training.results.render_page", fail)
        with pytest.raises(ConvscopeError, match="no report"):
            train_model(data, ARCHITECTURE, SHORT, threads=1, run=run, checkpoint_interval=0)
    assert (run / "evaluation.json").exists()
    assert list((run / "plots").iterdir())
    (run / "checkpoints" / "step-0000000015.ckpt").write_bytes(b"")
    reporter = RecordingReporter()
    stopped = resume_run(run, callbacks=[Interrupt(15)], reporter=reporter)
    assert [line.partition(" ")[0] for line in reporter.messages] == [
        f"{run}/checkpoints/step-0000000015.ckpt",
        "resuming",
    ]
    assert stopped.manifest.status == "interrupted"
    assert not [name for name in stopped.manifest.files if name.startswith(("evaluation", "plots", "checkpoints"))]
    assert resume_run(run, reporter=SilentReporter()).manifest.status == "complete"


def test_open_run_during_resumed_training_raises(stopped: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        resume_run(stopped, callbacks=[Interrupt(8, times=2)], reporter=SilentReporter())
    with pytest.raises(ModelFileError, match=f"continue with convscope train --resume {stopped}, or train again$"):
        open_run(stopped)
    assert resume_run(stopped, reporter=SilentReporter()).manifest.status == "complete"


def test_resume_of_a_running_training_is_refused(stopped: Path, whole: Run) -> None:
    answers = []

    def resume_too(now: Progress) -> None:
        if now.step == 9:
            half = stopped / "checkpoints" / ".a.tmp"
            half.touch()  # as if a checkpoint were being written
            arguments = [sys.executable, "-m", "convscope.cli.main", "train", "--resume", str(stopped)]
            answers.append(subprocess.run(arguments, capture_output=True, text=True, check=False))
            assert half.exists()

    assert resume_run(stopped, callbacks=[OnBatch(resume_too)], reporter=SilentReporter()).manifest.status == "complete"
    assert [(answer.returncode, answer.stdout) for answer in answers] == [(2, "")]
    message = f"convscope: {stopped} is in use by another process: wait until it ends, or stop it\n"
    assert answers[0].stderr.endswith(message)
    assert (stopped / "last.safetensors").read_bytes() == (whole.path / "last.safetensors").read_bytes()


class RecordBeginning(Callback):
    """Records the step at which training begins, and the weights of the classifier at that moment."""

    def on_train_begin(self, trainer: Trainer) -> None:
        self.step = trainer.state.step
        self.weights = trainer.model.get_parameter("classifier.weight").detach().numpy().copy()


def test_callbacks_of_a_resumed_training_see_restored_weights(stopped: Path) -> None:
    saved_weights = load_file(stopped / "last.safetensors")["classifier.weight"]  # of the epoch before
    recorded = RecordBeginning()
    resume_run(stopped, callbacks=[recorded], reporter=SilentReporter())
    assert recorded.step == 7
    assert recorded.weights.shape == saved_weights.shape
    assert not np.array_equal(recorded.weights, saved_weights)


def invert(images: NDArray[np.uint8], _: np.random.Generator) -> NDArray[np.uint8]:
    inverted: NDArray[np.uint8] = 255 - images
    return inverted


def count(logits: NDArray[np.float32], _: NDArray[np.int64]) -> float:
    return len(logits)


def test_resume_run_with_augment_and_metrics_needs_the_same_ones(stripes: Dataset, tmp_path: Path) -> None:
    def train(name: str, *callbacks: Callback) -> Run:
        return train_model(
            saved(tmp_path / "stripes.npz", stripes), ARCHITECTURE, SHORT, threads=1, run=tmp_path / name,
            callbacks=callbacks, augment=invert, metrics={"count": count},
        )  # fmt: skip

    whole, stopped = train("whole"), train("stopped", Interrupt(7)).path
    for hooks, message in (
        ({}, "^training began with augment=invert, not None: resume it with the same function$"),
        ({"augment": invert}, "^training began with these metrics of its own: count; resume it with the same ones$"),
    ):
        with pytest.raises(UsageError, match=message):
            resume_run(stopped, reporter=SilentReporter(), **hooks)  # type: ignore[arg-type]
    run = resume_run(stopped, reporter=SilentReporter(), augment=invert, metrics={"count": count})
    assert run.weights_file.read_bytes() == whole.weights_file.read_bytes()
    assert [row["validation_count"] for row in run.history] == [4, 4, 4]


# Changes since the training began


def test_resume_run_on_a_changed_machine_reports_one_line(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_machine(threads: int) -> HardwareInfo:
        machine = hardware_info(threads)
        return machine.model_copy(update={"versions": {**machine.versions, "torch": "2.99"}, "processor": "Z80"})

    monkeypatch.setattr(resume, "hardware_info", other_machine)
    reporter = RecordingReporter()
    then = RunConfig.model_validate_json((stopped / "config.json").read_bytes()).machine
    resume_run(stopped, reporter=reporter)
    assert reporter.messages == [
        "the result will be equivalent, not bit-identical: "
        f"torch changed from {then.versions['torch']} to 2.99, the processor changed from {then.processor} to Z80",
        "resuming after step 7 of 15, in epoch 2",
    ]


@pytest.mark.parametrize(
    ("changes", "variant", "expected"),
    [
        ({}, "native avx2", []),
        ({"peak_gflops": 1.0, "python": "3.99", "cores": 64}, "native avx2", []),
        ({}, "torch", ["kernels changed from native avx2 to torch"]),
        ({"system": "Darwin arm64"}, "native avx2", ["the system changed from Linux x86_64 to Darwin arm64"]),
        ({"cores": 1}, "native avx2", ["2 threads share 1 cores"]),
        ({"versions": {"torch": "2.13", "numpy": "2.0", "convscope": "0.2", "pillow": "1"}}, "native avx2",
         ["convscope changed from 0.1 to 0.2"]),
        ({"versions": {"torch": "2.13", "numpy": "2.1", "convscope": "0.1"}}, "native avx2",
         ["numpy changed from 2.0 to 2.1"]),
    ],
)  # fmt: skip
def test_changes_since_lists_what_may_change_bits(
    stopped: Path, changes: dict[str, Any], variant: str, expected: list[str]
) -> None:
    versions = {"torch": "2.13", "numpy": "2.0", "convscope": "0.1", "pillow": "13"}
    machine = HardwareInfo(
        processor="EPYC", cores=4, threads=2, peak_gflops=100, system="Linux x86_64", python="3.11", versions=versions
    )
    config = RunConfig.model_validate_json((stopped / "config.json").read_bytes())
    config = config.model_copy(update={"machine": machine, "backend": "native avx2"})
    assert changes_since(config, machine.model_copy(update=changes), variant) == expected


def test_changes_since_with_torch_kernels_for_another_reason_is_empty(stopped: Path) -> None:
    config = RunConfig.model_validate_json((stopped / "config.json").read_bytes())
    config = config.model_copy(update={"backend": "torch, because CONVSCOPE_NATIVE=0"})
    assert changes_since(config, config.machine, "torch") == []


# What cannot be resumed


def test_resume_run_of_complete_run_raises(whole: Run) -> None:
    with pytest.raises(UsageError, match=f"^{whole.path} is complete already: use --more-epochs to train it further$"):
        resume_run(whole.path)
    assert open_run(whole.path).manifest == whole.manifest


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"epochs": 10**400}, "epochs"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"classes": ["a", "\x1b[31mb"]}, "classes"),
    ],
)
def test_resume_run_with_an_edited_config_raises(stopped: Path, values: dict[str, object], where: str) -> None:
    config = json.loads((stopped / "config.json").read_text())
    (stopped / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(
        ModelFileError, match=f"config.json cannot be read by this version: {where}: .*; use the version"
    ):
        resume_run(stopped)


def test_resume_run_without_checkpoint_raises(stopped: Path) -> None:
    shutil.rmtree(stopped / "checkpoints")
    with pytest.raises(ModelFileError, match=f"^{stopped} has no checkpoint to continue from: use it as it is, or "):
        resume_run(stopped)
    assert open_run(stopped).manifest.status == "interrupted"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "nowhere",
            "^expected a run folder, but .*nowhere does not exist: use the folder that 'convscope train' print",
        ),
        ("stripes.npz", "^expected a run folder, but .*stripes.npz is a file"),
        (".", "config.json is missing: expected the folder of a stopped or killed training$"),
    ],
)
def test_resume_run_of_another_folder_raises(stopped: Path, place: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        resume_run(stopped.parent / place)


def test_resume_run_with_changed_or_missing_data_raises(stopped: Path, stripes: Dataset) -> None:
    path = stopped.parent / "stripes.npz"
    saved(path, dataclasses.replace(stripes, test=stripes.train))
    with pytest.raises(
        DataError, match=f"^{path} has changed since {stopped} was trained on it: restore it, or train again$"
    ):
        resume_run(stopped)
    path.unlink()
    with pytest.raises(DataError, match=f"^no such file or folder: {path}"):
        resume_run(stopped)
    saved(path, stripes)
    assert resume_run(stopped, reporter=SilentReporter()).manifest.status == "complete"


# On the command line


def test_train_resume_command_gives_the_same_weights(command: Command, whole: Run, stopped: Path) -> None:
    answer = command("train", "--resume", stopped, "--json", "--checkpoint-interval", 5)
    assert answer.code == 0
    assert "resuming after step 7 of 15, in epoch 2" in answer.err.splitlines()
    assert "stripes: 36 training, 4 validation, 20 test images, 4x4x1, 2 classes" in answer.err.splitlines()
    assert json.loads(answer.out) == open_run(stopped).summary().model_dump(mode="json")
    assert (stopped / "last.safetensors").read_bytes() == (whole.path / "last.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["digits"], "DATA"),
        (["--seed", "0"], "--seed"),
        (["--model", "small", "--epochs", "3", "--json"], "--model, --epochs"),
        (["--recipe", "default", "--run", "b", "--batch-size", "1", "--learning-rate", "1", "--precision", "auto",
          "--threads", "1"], "--recipe, --run, --batch-size, --learning-rate, --precision, --threads"),
    ],
)  # fmt: skip
def test_train_resume_command_with_other_options_is_refused(
    command: Command, stopped: Path, arguments: list[str], named: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    answer = command("train", "--resume", stopped, *arguments)
    message = f"convscope: --resume takes everything from the run's config.json: leave out {named}\n"
    assert answer == (2, "", message)
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


# More epochs


def test_train_more_continues_the_schedule_of_a_longer_training(whole: Run, stripes: Dataset, tmp_path: Path) -> None:
    """The learning rate is that of the last 2 of 5 epochs, and training starts from the last weights."""
    more = train_more(whole.path, 2, run=tmp_path / "more")
    config = more.config
    assert (config.initial_epoch, config.epochs, len(more.history)) == (3, 2, 2)
    assert config.recipe == whole.config.recipe.override(epochs=2)
    values = json.loads((more.path / "config.json").read_text())
    assert (values["initial_epoch"], values["task"]) == (3, "single-label")
    assert config.preprocessing == whole.config.preprocessing
    rates = [row["learning_rate"] for row in more.history]
    expected = [SHORT.learning_rate_at((3 * 5 + 5 * epoch - 0.5) / 25) for epoch in (1, 2)]
    assert rates == pytest.approx(expected)
    initial = load_file(more.path / "initial.safetensors")
    learned = load_file(more.path / "last.safetensors")
    assert any(not np.array_equal(initial[name], weights) for name, weights in learned.items())
    again = train_more(more.path, 1, run=tmp_path / "again")
    assert again.config.initial_epoch == 5
    assert len(stripes.train) == 40


@pytest.mark.parametrize("select", ["best", "last"])
def test_train_more_starts_from_last_weights(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: str
) -> None:
    accuracies = iter([0.5, 0.9, 0.2])
    data = saved(tmp_path / "stripes.npz", stripes)
    with monkeypatch.context() as patched:
        patched.setattr("convscope.training.probes.autotune.TuningProbe.losses", lambda *_: [1.0])
        patched.setattr("convscope.training.loop.validate", lambda *_: (1.0, next(accuracies), {}))
        run = train_model(
            data, ARCHITECTURE, SHORT.override(selection={"weights": select}), threads=1, run=tmp_path / "run"
        )
    assert (run.manifest.weights, run.manifest.selected_epoch) == (select, {"best": 2, "last": 3}[select])
    files = {name: (run.path / f"{name}.safetensors").read_bytes() for name in ("best", "last")}
    assert files["best"] != files["last"]
    assert run.weights_file.read_bytes() == files[select]
    for name, weights in get_weights(run.model()).items():
        np.testing.assert_array_equal(weights, load_file(run.weights_file)[name])
    train_more(run.path, 1, run=tmp_path / "more")
    assert (tmp_path / "more/initial.safetensors").read_bytes() == files["last"]


def plan_more(run: Run, epochs: int) -> Plan:
    return resume.plan_more(run.path, epochs, None, SilentReporter())


def test_plan_more_after_a_budget_counts_epochs(stripes: Dataset, tmp_path: Path) -> None:
    path = saved(tmp_path / "stripes.npz", stripes)
    options = TrainOptions(model=ARCHITECTURE, recipe=SHORT, threads=1, budget="5s", run=tmp_path / "run")
    plan = make_plan(stripes, options, str(path))
    assert plan.config.time_limit is not None
    short = plan.config.model_copy(update={"time_limit": 0.05})
    run = run_plan(dataclasses.replace(plan, config=short), options)
    config = plan_more(run, 2).config
    assert (config.budget, config.time_limit, config.epochs) == (None, None, 2)


def test_resume_run_of_more_epochs_is_bit_identical(whole: Run, tmp_path: Path) -> None:
    more = train_more(whole.path, 2, run=tmp_path / "more")
    stopped = train_more(whole.path, 2, run=tmp_path / "stopped", callbacks=[Interrupt(3)], checkpoint_interval=1000)
    assert stopped.manifest.status == "interrupted"
    resumed = resume_run(stopped.path, reporter=SilentReporter())
    weights = [(run.path / "last.safetensors").read_bytes() for run in (resumed, more)]
    assert weights[0] == weights[1]


def test_plan_more_on_another_machine_adapts_threads_and_precision(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convscope.training.probes.autotune.has_bf16", lambda: True)
    first = train_model(
        saved(tmp_path / "stripes.npz", stripes), ARCHITECTURE, SHORT, threads=2, run=tmp_path / "first"
    )
    assert first.config.precision == "bf16"
    monkeypatch.setattr("convscope.api.resume.max_threads", lambda: 4)
    assert plan_more(first, 1).config.machine.threads == 2
    monkeypatch.setattr("convscope.training.probes.autotune.has_bf16", lambda: False)
    monkeypatch.setattr("convscope.api.resume.max_threads", lambda: 1)
    config = plan_more(first, 1).config
    assert (config.machine.threads, config.precision) == (1, "float32")
    assert config.reasons["precision"] == "this processor has no bf16 arithmetic"


def test_resume_run_with_checkpoint_interval_writes_them(stopped: Path, whole: Run, tmp_path: Path) -> None:
    resume_run(stopped, checkpoint_interval=0, callbacks=[Interrupt(9)], reporter=SilentReporter())
    assert [file.name[-7:] for file in sorted((stopped / "checkpoints").iterdir())] == ["08.ckpt", "09.ckpt"]
    train_more(whole.path, 2, run=tmp_path / "more", checkpoint_interval=0, callbacks=[Interrupt(3)])
    assert [file.name[-7:] for file in sorted((tmp_path / "more/checkpoints").iterdir())] == ["02.ckpt", "03.ckpt"]
    with pytest.raises(UsageError, match=r"^checkpoint_interval=-1: expected a number of at least 0$"):
        resume_run(stopped, checkpoint_interval=-1)


def test_train_more_with_changed_data_raises(whole: Run, stripes: Dataset, tmp_path: Path) -> None:
    other = stripes.train.images.copy()
    other[0] ^= 1
    altered = dataclasses.replace(stripes, train=dataclasses.replace(stripes.train, store=other))
    with pytest.raises(DataError, match=r"stripes\.npz has changed since"):
        train_more(whole.path, 2, altered, run=tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_train_more_epochs_command_writes_a_new_run(whole: Run, command: Command, tmp_path: Path) -> None:
    answer = command("train", "--resume", str(whole.path), "--more-epochs", "2", "--run", f"{tmp_path}/more", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["config"]["initial_epoch"] == 3
    assert open_run(whole.path).manifest == whole.manifest  # it is unchanged
