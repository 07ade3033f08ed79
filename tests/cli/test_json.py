"""`--json`: one object on stdout, valid by its published schema, for every command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from helpers.command import Command
from helpers.commands import all_commands

pytestmark = pytest.mark.usefixtures("interruptible", "workspace")


SCHEMA_FOLDER = Path(__file__).parents[2] / "docs" / "schemas"

COMMANDS = {  # with the published schema of their output
    "train digits --epochs 1 --model flatten": "train",
    "evaluate run": "evaluate",
    "predict run big.png seven.png": "predict",
    "explain run big.png --cell conv1,0,0,0": "explain",
    "bench --seconds 1 --threads 1": "bench",
    "models": "presets",
    "models flatten --data digits": "models",
    "filter 11011/10101/11110/00110/11000 --kernel 101/010/110 --cell 0,0": "filter",
    "filter big.png --kernel edge": "filter",
    "data check pets": "data-check",
    "data show digits": "data-show",
}


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("words", COMMANDS)
def test_json_output_is_valid_by_its_published_schema(command: Command, words: str) -> None:
    answer = command(*shlex.split(words), "--json")
    assert answer.code == 0

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    values = json.loads(answer.out, parse_constant=refuse)
    schema = json.loads((SCHEMA_FOLDER / f"{COMMANDS[words]}.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(values)
    assert answer.err == "" or words.startswith("train")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("words", [words for words in COMMANDS if not words.startswith("train")])
def test_command_in_a_pipe_prints_no_escape_codes_and_no_messages(command: Command, words: str) -> None:
    answer = command(*shlex.split(words))
    assert (answer.code, answer.err) == (0, "")
    assert answer.out
    assert "\x1b" not in answer.out


def test_json_keys_of_every_command_are_listed() -> None:
    assert {path for path, _ in all_commands()} == {
        path for path, _ in all_commands() if any(f"{words} ".startswith(f"{path} ") for words in COMMANDS)
    }
