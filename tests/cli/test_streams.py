"""Whatever the standard streams are, a command does its work, prints no traceback and loses no training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convscope import Run, open_run
from convscope.images.read import encode_png
from helpers.command import Command

pytestmark = pytest.mark.slow

CLOSED, FULL = "closed", "full"
MODULE = (sys.executable, "-m", "convscope")
TRAIN = ("train", "digits", "--model", "flatten", "--epochs", "1", "--threads", "1")
NAMES = ("x\u2192.png", "\u732b.png", "a\u3000b.png", os.fsdecode(b"caf\xe9.png"))
ENCODINGS = ("cp1252", "ascii", "latin-1", "utf-8:strict", "ascii:strict", "cp1252:strict")


def run_command(
    folder: Path, *words: str, encoding: str = "", out: str = "", err: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a folder, perhaps with an encoding, and with streams that are closed or full."""
    redirections = {CLOSED: "{}>&-", FULL: "{}>/dev/full", "": ""}
    shell = f'exec "$@" {redirections[out].format(1)} {redirections[err].format(2)}'
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    environment |= {"PYTHONIOENCODING": encoding} if encoding else {}
    command = ["sh", "-c", shell, "sh", *MODULE, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=120)


@pytest.fixture
def image() -> bytes:
    return encode_png(np.zeros((8, 8, 1), np.uint8))


# Encodings


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_predict_names_outside_the_encoding_are_escaped(
    digits_run: Run, tmp_path: Path, image: bytes, encoding: str
) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(image)
    done = run_command(tmp_path, "predict", str(digits_run.path), *NAMES, "missing\u2192.png", encoding=encoding)
    codec = encoding.partition(":")[0]
    lines = done.stdout.decode(codec).splitlines()
    shown = [str(name.encode(codec, "backslashreplace"), codec).replace(r"\udce9", r"\xe9") for name in NAMES]
    assert [line.partition(":")[0] for line in lines[::3]] == shown
    assert done.returncode == 3
    assert done.stderr.decode(codec).splitlines()[0].startswith("convscope: missing")


def test_predict_json_of_any_name_is_ascii(digits_run: Run, tmp_path: Path, image: bytes) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(image)
    done = run_command(tmp_path, "predict", str(digits_run.path), *NAMES, "--json", encoding="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [one["image"] for one in json.loads(done.stdout)["predictions"]] == list(NAMES)


def test_train_with_every_name_in_another_encoding_writes_a_run(tmp_path: Path) -> None:
    """Class names that the terminal lacks, and files whose names are no UTF-8."""
    random = np.random.default_rng(0)
    for name in ("\u732b", "\u72ac"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(0, 256, (12, 12, 1), np.uint8)
            (tmp_path / "set" / name / os.fsdecode(b"\xe9%d.png" % i)).write_bytes(encode_png(pixels))
    words = ("train", "set", "--model", "flatten", "--epochs", "1", "--threads", "1", "--run", "run")
    done = run_command(tmp_path, *words, encoding="cp1252:strict")
    assert done.returncode == 0, done.stderr
    assert open_run(tmp_path / "run").classes == ("\u72ac", "\u732b")
    done = run_command(tmp_path, "evaluate", "run", encoding="cp1252:strict")
    assert b"\\u732b" in done.stdout
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)


def test_train_path_that_is_no_utf8_is_refused_before_training(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    for i, name in enumerate("abab"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for j in range(6):
            pixels = np.random.default_rng(10 * i + j).integers(0, 256, (12, 12, 1), np.uint8)
            (folder / name / f"{i}{j}.png").write_bytes(encode_png(pixels))
    done = run_command(tmp_path, "train", str(folder), "--model", "flatten", "--epochs", "1", "--run", "run")
    last = done.stderr.decode().splitlines()[-1]
    assert (done.returncode, (tmp_path / "run").exists()) == (3, False)
    assert last.endswith(r"caf\xe9: the run folder cannot record a path that is not UTF-8: rename it")


def test_train_run_folder_that_is_no_utf8_is_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    done = run_command(tmp_path, *TRAIN, "--run", name, "--json", encoding="ascii")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == name
    assert open_run(tmp_path / name).manifest.status == "complete"


# Closed and full streams


@pytest.mark.parametrize(("out", "err"), [("", CLOSED), ("", FULL)])
def test_train_without_stderr_writes_the_run_and_prints_the_result(tmp_path: Path, out: str, err: str) -> None:
    done = run_command(tmp_path, *TRAIN, "--run", "run", out=out, err=err)
    assert (done.returncode, done.stdout.startswith(b"test accuracy")) == (0, True)
    assert open_run(tmp_path / "run").manifest.status == "complete"


def test_train_without_any_stream_writes_the_run(tmp_path: Path) -> None:
    assert run_command(tmp_path, *TRAIN, "--run", "run", out=CLOSED, err=CLOSED).returncode == 0
    assert open_run(tmp_path / "run").manifest.status == "complete"


def test_train_without_stdout_writes_the_run_and_says_so(tmp_path: Path) -> None:
    done = run_command(tmp_path, *TRAIN, "--run", "run", out=CLOSED)
    assert done.returncode == 0
    assert done.stderr.decode().splitlines()[-1] == "convscope: standard output is closed: the result was not printed"
    assert open_run(tmp_path / "run").manifest.status == "complete"


def test_train_with_full_stdout_writes_the_run_and_fails_in_one_line(tmp_path: Path) -> None:
    done = run_command(tmp_path, *TRAIN, "--run", "run", out=FULL)
    last = done.stderr.decode().splitlines()[-1]
    assert (done.returncode, last) == (1, "convscope: cannot write to standard output: No space left on device")
    assert b"Traceback" not in done.stderr
    assert open_run(tmp_path / "run").manifest.status == "complete"


def test_train_whose_reader_of_stderr_is_gone_writes_the_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [*MODULE, *TRAIN, "--run", "run"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=writing, check=False
    )
    os.close(writing)
    assert (process.returncode, process.stdout.startswith(b"test accuracy")) == (0, True)
    assert open_run(tmp_path / "run").manifest.status == "complete"


@pytest.mark.parametrize("words", [("--help",), ("models",), ("models", "--json"), ("--version",), ("train", "--help")])
def test_command_without_stdout_prints_no_traceback(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run_command(tmp_path, *words, out=CLOSED)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)


def test_error_without_stderr_has_its_exit_code(tmp_path: Path) -> None:
    assert run_command(tmp_path, "predict", "nowhere", "x.png", err=CLOSED).returncode == 4
    assert run_command(tmp_path, "predict", "nowhere", "x.png", out=CLOSED, err=CLOSED).returncode == 4


# The current folder


def in_deleted_folder(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    (tmp_path / "gone").mkdir()
    shell = 'cd gone && rmdir ../gone && exec "$@"'
    command = ["sh", "-c", shell, "sh", *MODULE, *words]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize("words", [TRAIN, ("models",), ("predict", "/nowhere", "/nowhere.png")])
def test_command_in_a_deleted_folder_is_refused_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = in_deleted_folder(tmp_path, *words)
    message = b"convscope: the current folder does not exist anymore: change to another one\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", message)


# Control characters


def test_messages_escape_control_characters_of_names(command: Command, digits_run: Run, tmp_path: Path) -> None:
    names = ["a\nconvscope: forged", "\x1b]0;title\x07", "\x9b31m", "a\u2028b", "exe\u202egpj", "\r"]
    for name in names:
        (tmp_path / name).write_bytes(b"no image")
    answer = command("predict", digits_run.path, *(tmp_path / name for name in names))
    assert (answer.code, answer.out) == (3, "")
    assert len(answer.err.split("\n")) == len(answer.err.splitlines()) + 1 == len(names) + 1
    assert all(line.isprintable() for line in answer.err.splitlines())


def test_results_and_tables_escape_control_characters_of_names(command: Command, tmp_path: Path) -> None:
    for i, name in enumerate(("a\nb", "\x1b[31mred", "\x85c")):
        for label in ("cat", "dog"):
            (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (12, 12, 1), np.uint8)
            (tmp_path / "set" / label / f"{name}.png").write_bytes(encode_png(pixels))
    (tmp_path / "set" / "cat" / "x\n.png").write_bytes(b"no image")
    answer = command("data", "check", tmp_path / "set")
    assert r"x\n.png" in answer.out
    assert all(line.isprintable() for line in (*answer.out.split("\n"), *answer.err.split("\n")))


def test_usage_error_escapes_control_characters_of_options(command: Command) -> None:
    answer = command("train", "--\x1b[31mcolor\nforged")
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.isprintable()


def test_interrupt_is_ignored_where_the_shell_ignores_it() -> None:
    """As under nohup, or in the background of a script."""
    code = (
        "import os, signal, sys; signal.signal(2, signal.SIG_IGN); from convscope.__main__ import run;"
        "from convscope.network import cost; costs = cost.preset_costs;"
        "cost.preset_costs = lambda: [os.kill(os.getpid(), 2), costs()][1]; run()"
    )
    done = subprocess.run([sys.executable, "-c", code, "models"], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
