"""`--json`: every command prints one object that its published schema accepts, and nothing else."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from helpers.command import Command
from helpers.commands import all_commands

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("interruptible", "workspace")]
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"

COMMANDS = {  # command: name of its schema
    "train digits --epochs 1 --model flatten": "train",
    "crossval digits --folds 2 --epochs 1 --model flatten": "crossval",
    "search digits --trials 2 --epochs 1 --model flatten": "search",
    "evaluate run": "evaluate",
    "predict run big.png seven.png": "predict",
    "explain run big.png --cell conv1,0,0,0": "explain",
    "export run --best --out new.onnx": "export",
    "verify run --images pets --no-http": "verify",
    "backbones": "backbones",
    "backbones add run --as mine": "backbones-add",
    "bench --seconds 1 --threads 1": "bench",
    "models": "presets",
    "models flatten --data digits": "models",
    "filter 11011/10101/11110/00110/11000 --kernel 101/010/110 --cell 0,0": "filter",
    "filter big.png --kernel edge": "filter",
    "data check pets": "data-check",
    "data show digits": "data-show",
}
TRAINING = ("train", "crossval", "search")  # they say how far they are
ENDLESS = {"serve", "lab", "learn"}  # tests/deploy/server, tests/lab, tests/api/test_lab.py


def reject_constant(constant: str) -> None:
    """NaN and Infinity are not JSON."""
    pytest.fail(f"{constant} is not JSON")


@pytest.mark.parametrize("words", COMMANDS)
def test_json_of_command_is_accepted_by_its_schema(command: Command, words: str) -> None:
    answer = command(*shlex.split(words), "--json")
    assert answer.code == 0
    schema = json.loads((SCHEMAS / f"{COMMANDS[words]}.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(json.loads(answer.out, parse_constant=reject_constant))
    assert answer.err == "" or words.startswith(TRAINING)


@pytest.mark.parametrize("words", [words for words in COMMANDS if not words.startswith(TRAINING)])
def test_command_in_a_pipe_prints_no_escape_codes_and_no_messages(command: Command, words: str) -> None:
    answer = command(*shlex.split(words))
    assert (answer.code, answer.err) == (0, "")
    assert answer.out
    assert "\x1b" not in answer.out


def test_json_of_every_command_is_tested() -> None:
    tested = {path for path, _ in all_commands() if any(f"{words} ".startswith(f"{path} ") for words in COMMANDS)}
    assert tested | ENDLESS == {path for path, _ in all_commands()}
