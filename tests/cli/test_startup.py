"""Starting the command line: version, shell completion, old option names, and commands that load when they run."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from PIL import Image

from convscope import Run
from convscope.cli.main import COMMANDS, RENAMED, current_options, load_command
from helpers.command import Command

SCRIPT = Path(sys.executable).with_name("convscope")


def complete(*words: str) -> list[str]:
    """What bash offers to complete the last of these words."""
    environment = {**os.environ, "_CONVSCOPE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(("convscope", *words))}
    environment["COMP_CWORD"] = str(len(words))
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_version_option_prints_the_installed_version(command: Command) -> None:
    assert command("--version") == (0, f"convscope {metadata.version('convscope')}\n", "")


def test_python_m_convscope_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "convscope", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"convscope {metadata.version('convscope')}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["data", "sh"], ["show"]),
        (["train", "--target"], ["--target-accuracy"]),
        (["predict", "run", "--max"], ["--max-megapixels"]),
    ],
)
def test_completion_offers_commands_and_options(words: list[str], expected: list[str]) -> None:
    assert complete(*words) == expected


@pytest.mark.skipif(os.name == "nt", reason="needs bash")
def test_show_completion_prints_a_script_for_the_shell_it_runs_in() -> None:
    # The exit status after it keeps bash from replacing itself with the command.
    line = f'"{SCRIPT}" --show-completion; exit $?'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert "_CONVSCOPE_COMPLETE=complete_bash" in done.stdout


def test_help_lists_every_command_with_its_line(command: Command) -> None:
    text = " ".join(command("--help").out.split())
    for name, (_, line) in COMMANDS.items():
        assert f"{name} {line}" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_load_command_every_command_exists(name: str) -> None:
    assert load_command(name).name == name


@pytest.mark.parametrize("old", RENAMED)
def test_current_options_old_name_becomes_the_new_one(old: str) -> None:
    words = [old, "1", f"{old}=2", "--", old, f"{old}=3"]
    assert current_options(words) == [RENAMED[old], "1", f"{RENAMED[old]}=2", "--", old, f"{old}=3"]


@pytest.mark.parametrize("word", ["--batch-sizes", "--batches=1", "-b", "batch", "--batch size", "x=--batch"])
def test_current_options_other_words_stay(word: str) -> None:
    assert current_options(["train", word]) == ["train", word]


def test_train_old_option_names_are_accepted_and_hidden(command: Command) -> None:
    answer = command("train", "digits", "--batch", "0")
    assert answer.code == 2
    assert "Invalid value for '--batch-size'" in answer.err
    shown = command("train", "--help").out.split()
    assert not set(RENAMED) & set(shown)
    assert {RENAMED[old] for old in RENAMED if old != "--top"} <= set(shown)


PRINT_THREADS = """
import os
from convscope.cli.main import main
try:
    main()
except SystemExit:
    print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
@pytest.mark.skipif(os.cpu_count() == 1, reason="OpenBLAS has a thread per processor at most")
@pytest.mark.parametrize(("variables", "expected"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)])
def test_predict_starts_no_blas_threads_unless_told(
    digits_run: Run, tmp_path: Path, variables: dict[str, str], expected: int
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    files = [str(digits_run.model_file), str(tmp_path / "image.png")]
    words = [sys.executable, "-c", PRINT_THREADS, "predict", *files]
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [*words, "--threads", "1"], env={**kept, **variables}, capture_output=True, text=True, check=True
    )
    assert int(done.stdout.splitlines()[-1]) == expected
