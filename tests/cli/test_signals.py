"""Signals, kills and closed pipes: what is saved, what is printed, and the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from convscope import load_data, open_run
from convscope.cli.interrupts import Interrupt
from convscope.errors import ModelFileError
from convscope.images.read import encode_png
from helpers.command import Command
from helpers.process import SCRIPT, start_command, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("interruptible")]


ENDLESS = ("train", "digits", "--epochs", "100000", "--model", "flatten", "--threads", "1", "--run", "run")


def has_epochs(path: Path) -> bool:
    """Whether the metrics file has an epoch."""
    return path.exists() and path.stat().st_size > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_train_signal_saves_the_weights_and_sets_the_exit_code(
    command: Command, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start_command(tmp_path, *ENDLESS)
    wait_until(lambda: has_epochs(tmp_path / "run" / "metrics.jsonl"), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    run = open_run(tmp_path / "run")
    assert (run.manifest.status, run.manifest.signal) == ("interrupted", number)
    assert err.splitlines()[-1] == (
        f"stopped by signal {number} after {len(run.history)} of 100000 epochs; the weights are saved in run; "
        "continue with: convscope train --resume run"
    )
    assert "Traceback" not in err
    path = tmp_path / "seven.png"
    path.write_bytes(encode_png(load_data("digits").test.images[7]))
    for words in (("predict", tmp_path / "run", path), ("evaluate", tmp_path / "run")):
        answer = command(*words)
        assert answer.code == 0
        assert "was interrupted after" in answer.err


@pytest.mark.parametrize(("first", "second"), [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_train_both_signals_at_once_save_the_weights(
    tmp_path: Path, first: signal.Signals, second: signal.Signals
) -> None:
    process = start_command(tmp_path, *ENDLESS)
    wait_until(lambda: has_epochs(tmp_path / "run" / "metrics.jsonl"), process)
    process.send_signal(first)
    process.send_signal(second)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    run = open_run(tmp_path / "run")
    assert run.manifest.status == "interrupted"
    assert run.manifest.signal in {first, second}  # the system decides which one Python sees first
    assert process.returncode == 128 + run.manifest.signal


def test_train_signal_while_the_report_is_drawn_prints_the_result(tmp_path: Path) -> None:
    words = ("train", "digits", "--model", "conv 4 3, relu, globalavg", "--epochs", "2", "--threads", "1", "--run", "r")
    process = start_command(tmp_path, *words)
    wait_until(lambda: any((tmp_path / "r").glob("plots/*.png")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("test accuracy")
    manifest = open_run(tmp_path / "r").manifest
    assert (manifest.status, manifest.signal) == ("complete", 0)


STARTING = """
from convscope.__main__ import run
print("starting", flush=True)
run()
"""


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.1])
def test_command_interrupt_at_any_moment_exits_without_a_traceback(tmp_path: Path, delay: float) -> None:
    process = start_command(tmp_path, *ENDLESS, program=(sys.executable, "-c", STARTING))
    assert process.stdout and process.stdout.readline() == "starting\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err


IMPORTING = """
import os, signal, sys
from convscope.__main__ import run
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = ["models"]
run()
"""


@pytest.mark.parametrize("name", ["convscope.cli.main", "typer", "convscope.cli.commands.models", "pydantic", "numpy"])
def test_command_interrupt_during_any_import_exits_without_a_traceback(tmp_path: Path, name: str) -> None:
    process = start_command(tmp_path, program=(sys.executable, "-c", IMPORTING.format(name=name)))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


IN_MODULE_OF_TORCH = """
import os, signal, sys
from convscope.__main__ import run
inside = False
def interrupt(frame, event, argument):
    global inside
    if event == "c_call" and argument.__name__ == "_c10d_init":
        inside = True
    elif inside and event == "call":
        sys.setprofile(None)
        print("interrupted", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
sys.setprofile(interrupt)
run()
"""


def test_command_interrupt_while_a_module_in_cpp_starts_exits_without_a_crash(tmp_path: Path) -> None:
    process = start_command(tmp_path, *ENDLESS, program=(sys.executable, "-c", IN_MODULE_OF_TORCH))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "interrupted\n", "")


def test_command_interrupt_that_is_swallowed_is_repeated(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the imports of packages that catch every exception."""

    def interrupted(*_: object, **__: object) -> None:
        with suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr("convscope.cli.interrupts.REPEAT_AFTER_S", 0.1)
    monkeypatch.setattr("convscope.network.cost.preset_costs", interrupted)
    assert command("models") == (130, "", "")


def test_command_interrupt_that_becomes_another_exception_exits_with_130(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the initialization of a C extension."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise SystemError("initialization failed") from error

    monkeypatch.setattr("convscope.network.cost.preset_costs", interrupted)
    assert command("models") == (130, "", "")


def test_train_second_interrupt_exits_at_once(tmp_path: Path) -> None:
    """Also where saving takes a minute."""
    slow = (
        "import time; from convscope.cli.main import main; from convscope.api.training import results;"
        "results.to_onnx = lambda *_: time.sleep(60); main()"
    )
    process = start_command(tmp_path, *ENDLESS, program=(sys.executable, "-c", slow))
    wait_until(lambda: has_epochs(tmp_path / "run" / "metrics.jsonl"), process)
    process.send_signal(signal.SIGINT)
    wait_until((tmp_path / "run" / "last.safetensors").exists, process)
    time.sleep(0.6)  # sooner, it would count as the same one
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_train_after_kill_leaves_no_complete_run(command: Command, tmp_path: Path) -> None:
    process = start_command(tmp_path, *ENDLESS)
    wait_until(lambda: has_epochs(tmp_path / "run" / "metrics.jsonl"), process)
    process.kill()
    process.communicate()
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    answer = command("evaluate", tmp_path / "run")
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (4, "", 1)


@pytest.mark.usefixtures("workspace")
def test_command_interrupt_exits_with_130_and_prints_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.deploy.predictor.Predictor", interrupted)
    assert command("predict", "run/model.onnx", "seven.png") == (130, "", "")


@pytest.mark.parametrize("words", [["models"], ["models", "--json"]], ids=" ".join)
def test_command_closed_pipe_exits_with_1_and_prints_nothing(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.run([SCRIPT, *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=env)
    os.close(writing)
    assert (process.returncode, process.stderr) == (1, "")


def test_command_interrupt_at_its_very_end_exits_without_a_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When what handles Ctrl-C is being removed."""

    @contextmanager
    def interrupted_at_the_end() -> Iterator[Interrupt]:
        yield Interrupt()
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.cli.main.remember_interrupts", interrupted_at_the_end)
    code, _, err = command("models")
    assert (code, err) == (130, "")
