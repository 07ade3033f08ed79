"""Writing to the terminal: nothing truncated or styled in a pipe, never colored, numbers and names exact."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
from pydantic import BaseModel

from convscope import Evaluation
from convscope._text import duration
from convscope.cli.console import plain_table, print_result, short_number, stdout_console
from convscope.cli.format_evaluation import evaluation_lines

from .conftest import ODD_NAMES, Printed


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (999, "999"), (999.4, "999"), (999.6, "1 k"), (1000, "1 k"), (999_499, "999 k"), (999_500, "1 M"),
     (1_234_567, "1.23 M"), (9_011_256_552, "9.01 G"), (2e12, "2 T"), (3e16, "3e+04 T"), (-2500, "-2.5 k")],
)  # fmt: skip
def test_short_number_has_three_digits_and_a_prefix(number: float, expected: str) -> None:
    assert short_number(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (10.4, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (3599.4, "59 min 59 s"),
     (3599.6, "1 h"), (7170, "2 h"), (90_000, "25 h")],
)  # fmt: skip
def test_duration_has_two_units_at_most(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_print_result_in_a_pipe_truncates_and_styles_nothing(
    evaluation: Evaluation, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert "\x1b" not in printed([*evaluation_lines(evaluation), "x" * 500])
    table = plain_table(("a", "b"), [("x" * 90, "y" * 90)])
    assert printed([table, "z" * 500]).splitlines()[1:] == [f"{'x' * 90}  {'y' * 90}", "z" * 500]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_print_result_on_a_terminal_is_styled_but_never_colored(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, no_color: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    stdout = stdout_console()
    for line in evaluation_lines(evaluation):
        stdout.print(line, markup=False)
    codes = set(re.findall(r"\x1b\[([0-9;]*)m", terminal.getvalue()))
    assert codes == {"1", "0"}
    assert all(name in terminal.getvalue() for name in ODD_NAMES)


def test_print_result_as_json_has_null_for_what_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(True, {"a": [float("nan"), 1.5], "b": {"c": float("-inf")}}, [])
    answer = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert answer == {"a": [None, 1.5], "b": {"c": None}}


def test_print_result_as_json_prints_a_record_as_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    class Result(BaseModel):
        name: str

    print_result(True, Result(name="\u00e9"), ["not printed"])
    print_result(True, {"name": "b"}, [])
    first, second = capsys.readouterr().out.replace("}\n{", "}\0{").split("\0")
    assert (json.loads(first), json.loads(second)) == ({"name": "\u00e9"}, {"name": "b"})
