"""The entry point: help, missing commands, what is loaded, and environment variables."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.command import Command
from helpers.commands import all_commands
from helpers.process import SCRIPT


@pytest.mark.parametrize(("path", "inner"), all_commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_help_of_every_command_has_json_and_a_valid_example(command: Command, path: str, inner: Any) -> None:
    answer = command(*path.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "--json" in answer.out
    example = re.search(rf"Example: convscope ({path}(?: .*)?)$", " ".join(answer.out.split()))
    assert example is not None
    words = shlex.split(example[1])[len(path.split()) :]
    assert inner.make_context(path, words).params["as_json"] is False


@pytest.mark.parametrize("words", [(), ("data",)])
def test_group_without_command_lists_its_commands(command: Command, words: tuple[str, ...]) -> None:
    answer = command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert re.match(rf"Usage: .*{' '.join(words)} \[OPTIONS\] COMMAND", answer.err)
    assert all(
        path.split()[len(words)] in answer.err for path, _ in all_commands() if path.split()[: len(words)] == [*words]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        ("--help", "torch numpy rich pydantic PIL matplotlib onnxruntime"),
        ("train --help", "torch numpy matplotlib"),
        ("evaluate run", "torch matplotlib onnx tensorboardX"),
        ("predict run big.png", "torch sklearn matplotlib onnx"),
        ("models", "torch sklearn matplotlib onnx"),
    ],
)
def test_command_imports_only_what_it_needs(workspace: Path, words: str, unwanted: str) -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", SCRIPT, *words.split()],
        capture_output=True,
        text=True,
        cwd=workspace,
        check=True,
    )
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in process.stderr.splitlines()}
    assert "convscope" in loaded
    assert loaded & set(unwanted.split()) == set()


@pytest.mark.parametrize(("given", "kept"), [(None, "20000"), ("7", "7")])
def test_main_sets_spin_count_unless_the_user_did(
    command: Command, monkeypatch: pytest.MonkeyPatch, given: str | None, kept: str
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", given or "")
    if given is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    command("models")
    assert os.environ["GOMP_SPINCOUNT"] == kept


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to "),
    ],
)
def test_command_out_of_memory_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("convscope.network.cost.preset_costs", fail)
    message = (
        "convscope: not enough memory: choose a smaller --batch-size, --image-size or network, or free some memory\n"
    )
    assert command("models") == (1, "", message)


def test_predict_out_of_memory_names_its_own_options(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("convscope.deploy.predictor.Predictor.__init__", fail)
    code, out, err = command("predict", "model.onnx", "a.png")
    assert (code, out) == (1, "")
    assert err.startswith(
        "convscope: not enough memory: choose a smaller --batch-size or --max-megapixels, fewer --threa"
    )
    shown = command("predict", "--help").out
    assert all(option in shown for option in ("--batch-size", "--max-megapixels", "--threads"))


def test_command_other_runtime_error_is_raised(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr("convscope.network.cost.preset_costs", fail)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        command("models")
