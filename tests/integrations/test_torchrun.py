"""Training by torchrun and `--processes`: the losses of one process, also after a kill; run folders; bad commands."""

from __future__ import annotations

import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from convscope import load_data, open_run, train_model
from convscope._files import TEMPORARY_SUFFIX
from convscope._reporting import SilentReporter
from convscope.backends.pytorch import group
from convscope.cli.commands import train_processes
from convscope.data.dataset import Dataset
from convscope.errors import PeerError, UsageError
from convscope.integrations import torchrun
from convscope.integrations.torchrun import begun_run, complete_run, process_group, store_of_attempt
from helpers.callbacks import Interrupt
from helpers.command import Command
from helpers.torchrun import command, largest_deviation, run
from helpers.torchrun import torchrun as torchrun_command

SMOOTH = "conv 4 3 pad same, batchnorm, gelu, flatten, dense 8, tanh"  # without decisions that rounding could tip
ENVIRONMENT = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def single_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the only one that torchrun has started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in {**address, **ENVIRONMENT}.items():
        monkeypatch.setenv(name, value)


def write_npz(data: Dataset, path: Path) -> str:
    """Write a data set as a file that every process reads in no time; return its path."""
    train, test = data.train, data.test
    np.savez(path, x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)
    return str(path)


def history(path: Path) -> list[tuple[float, float, float | None]]:
    return [(row["train_loss"], row["validation_loss"], row["train_accuracy"]) for row in open_run(path).history]


# Several processes


@pytest.mark.slow
def test_training_in_two_processes_that_fail_has_the_losses_of_one(tmp_path: Path) -> None:
    options = {"epochs": 2, "batch_size": 256, "seed": 4, "precision": "float32", "checkpoint_interval": 0}
    digits = write_npz(load_data("digits"), tmp_path / "digits.npz")
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    for folder in (alone, killed):
        folder.mkdir()
    assert run([sys.executable, *command(digits, SMOOTH, alone, **options)], {}).returncode == 0
    failures = "1:4 0:3 1:hang2 1:end"
    arguments = torchrun_command(2, command(digits, SMOOTH, killed, **options), restarts=4)
    done = run(arguments, {**ENVIRONMENT, "FAILURES": failures, "LATE": "0", "EXCHANGE_LIMIT_S": "5"})
    assert done.returncode == 0, done.stderr
    assert (killed / "failures").read_text() == failures
    for step in (3, 5, 6):
        assert f"resuming after step {step} of 12" in done.stderr
    assert "another process of this training has ended, or cannot be reached (" in done.stderr
    assert largest_deviation(killed, alone) < 1e-4
    ours, theirs = open_run(killed / "run"), open_run(alone / "run")
    assert ours.manifest.status == "complete"
    assert ours.evaluation is not None and theirs.evaluation is not None
    assert ours.evaluation.accuracy == pytest.approx(theirs.evaluation.accuracy, abs=0.01)


@pytest.mark.slow
def test_complete_run_ends_every_process(stripes: Dataset, tmp_path: Path) -> None:
    data = write_npz(stripes, tmp_path / "stripes.npz")
    options = {"epochs": 1, "batch_size": 8, "precision": "float32"}
    train_model(data, SMOOTH, run=tmp_path / "run", reporter=SilentReporter(), **options)  # type: ignore[arg-type]
    before = (tmp_path / "run/manifest.json").read_bytes()
    done = run(torchrun_command(2, command(data, SMOOTH, tmp_path, **options)), ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/manifest.json").read_bytes() == before


@pytest.mark.slow
def test_train_with_processes_prints_the_result_once(stripes: Dataset, tmp_path: Path) -> None:
    data = write_npz(stripes, tmp_path / "stripes.npz")
    train = [sys.executable, "-P", "-m", "convscope", "train", data, "--model", SMOOTH, "--epochs", "2", "--json"]
    done = run([*train, "--processes", "2"], {}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "runs/stripes-model-1"
    assert done.stderr.count("epoch 2/2") == 1
    assert open_run(tmp_path / "runs/stripes-model-1").manifest.status == "complete"


@pytest.mark.slow
def test_train_with_processes_and_bad_data_says_why_once(tmp_path: Path) -> None:
    train = [sys.executable, "-P", "-m", "convscope", "train", "nowhere.npz", "--processes", "2"]
    done = run(train, {}, tmp_path)
    assert done.returncode == 3
    assert done.stderr.count("nowhere.npz") == 1


# One process of a group


@pytest.mark.usefixtures("single_rank")
def test_train_model_in_group_begins_continues_and_returns_a_run(stripes: Dataset, tmp_path: Path) -> None:
    options = {"epochs": 3, "batch_size": 8, "precision": "float32", "threads": 1, "reporter": SilentReporter()}
    alone = train_model(stripes, SMOOTH, run=tmp_path / "alone", init="none", **options)  # type: ignore[arg-type]
    folder = tmp_path / "run"
    stopped = torchrun.train_model(stripes, SMOOTH, run=folder, callbacks=[Interrupt(7)], **options)  # type: ignore[arg-type]
    assert stopped is not None and stopped.manifest.status == "interrupted"
    run = torchrun.train_model(stripes, SMOOTH, run=folder, **options)  # type: ignore[arg-type]
    assert run is not None and run.manifest.status == "complete"
    np.testing.assert_allclose(np.array(history(folder), float), np.array(history(alone.path), float), rtol=1e-5)
    before = (folder / "manifest.json").read_bytes()
    again = torchrun.train_model(stripes, SMOOTH, run=folder, **options)  # type: ignore[arg-type]
    assert again is not None and again.manifest == run.manifest
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.usefixtures("single_rank")
def test_train_model_in_group_refuses_a_backbone(stripes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--init efficientnet-lite0 trains in one process, .*: start it without"):
        torchrun.train_model(stripes, init="efficientnet-lite0", run=tmp_path / "run")


def test_train_model_outside_torchrun_says_what_it_expected(stripes: Dataset) -> None:
    with pytest.raises(UsageError, match=r"^expected to run under torchrun: start this script with it, or call"):
        torchrun.train_model(stripes)


def test_process_group_outside_torchrun_is_none() -> None:
    with process_group() as group:
        assert group is None


@pytest.mark.usefixtures("single_rank")
def test_process_group_without_the_other_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(group, "EXCHANGE_LIMIT", timedelta(seconds=0.5))
    reason = r"^another process of this training has ended, or cannot be reached \("
    with pytest.raises(PeerError, match=reason), process_group():
        pass


def test_store_of_attempt_is_new_in_every_attempt() -> None:
    whole = dist.HashStore()  # type: ignore[attr-defined]
    whole.set_timeout(timedelta(seconds=10))

    def join(rank: int, late: int) -> dist.Store:  # type: ignore[name-defined]
        time.sleep(0.2 * (rank == late))
        return store_of_attempt(whole, rank, 3, timedelta(seconds=30))

    for late in (2, 0, 1):  # in the second attempt, what the first one has left is there before rank 0
        with ThreadPoolExecutor(3) as pool:
            first, *others = pool.map(join, range(3), [late] * 3)
        assert not first.check(["address"])
        first.set("address", str(late))
        assert [store.get("address") for store in others] == [str(late).encode()] * 2


def test_store_of_attempt_without_the_other_process_fails() -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    store.set("word/1", "that of a process that has ended")
    store.set("words", "those of processes that have ended")
    for rank in range(2):
        with pytest.raises(RuntimeError, match=r"^a process has not started in time$"):
            store_of_attempt(store, rank, 2, timedelta(seconds=0.1))


def test_begun_run_is_the_folder_with_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert begun_run(tmp_path / "missing") is None
    (tmp_path / f".config.json.abc{TEMPORARY_SUFFIX}").touch()
    assert begun_run(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "config.json").touch()
    assert begun_run(tmp_path) == tmp_path
    assert complete_run(tmp_path) is None
    assert begun_run(None) is None
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(UsageError, match=r"^torchrun --max-restarts needs --run FOLDER, so that a restart finds"):
        begun_run(None)


# The launcher


def test_train_with_processes_into_a_used_folder_fails_at_once(tmp_path: Path, command: Command) -> None:
    (tmp_path / "file").touch()
    answer = command("train", "digits", "--processes", "2", "--run", tmp_path)
    assert answer.code == 2
    assert "exists already: choose another --run" in answer.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train digits --processes 2", "train --run runs/digits-model-1 digits"),
        ("train digits --model tiny --processes=2", "train --run runs/digits-tiny-1 digits --model tiny"),
        ("train a/b.npz --run there --processes 2", "train a/b.npz --run there"),
        ("train --processes 2 --resume runs/a", "train --resume runs/a"),
        ("train --resume a --more-epochs 2 --processes 2", "train --run a-more-1 --resume a --more-epochs 2"),
    ],
)  # fmt: skip
def test_launch_runs_the_same_command_with_a_fixed_folder(
    words: str, expected: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launched: list[list[str]] = []

    def record(arguments: list[str], *_: object) -> int:
        launched.append(arguments)
        return 7

    monkeypatch.setattr(train_processes, "_run_elastically", record)
    monkeypatch.chdir(tmp_path)
    assert command(*words.split()).code == 7
    assert launched == [["-P", "-m", "convscope.cli.commands.train_processes", *expected.split()]]


def test_worker_writes_the_exit_code_of_an_error_that_would_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONVSCOPE_LAUNCHER", str(tmp_path))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(sys, "argv", ["convscope", "train", "nowhere.npz"])
    train_processes.main()
    assert (tmp_path / "exit-code").read_text() == "3"
    assert capsys.readouterr().err.count("nowhere.npz") == 1
    train_processes.main()  # nothing is done again
    assert capsys.readouterr().err == ""
