"""Percentages, shortened lists and durations in messages and options."""

from __future__ import annotations

import re

import pytest

from convscope._text import escape_controls, list_some, parse_duration, percent
from convscope.errors import UsageError


@pytest.mark.parametrize(
    ("fraction", "digits", "text"),
    [
        (0.0, 0, "0 %"), (0.004, 0, "<1 %"), (0.5, 0, "50 %"), (0.994, 0, "99 %"), (0.996, 0, ">99 %"),
        (1.0, 0, "100 %"), (0.0, 2, "0.00 %"), (0.00004, 2, "<0.01 %"), (0.00006, 2, "0.01 %"),
        (0.99994, 2, "99.99 %"), (0.99996, 2, ">99.99 %"), (1.0, 2, "100.00 %"), (0.9996, 1, ">99.9 %"),
    ],
)  # fmt: skip
def test_percent_any_fraction_claims_0_and_100_only_when_exact(fraction: float, digits: int, text: str) -> None:
    assert percent(fraction, digits) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nconvscope: forged", r"a\nconvscope: forged"), ("\r\t\0", r"\r\t\x00"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x7f\x9b31m\x85", r"\x7f\x9b31m\x85"), ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("exe\u202egpj.", r"exe\u202egpj."), ("\u2066a\u2069", r"\u2066a\u2069"),
        ("caf\udce9", r"caf\xe9"), ("\ud800", r"\ud800"),
    ],
)  # fmt: skip
def test_escape_controls_shows_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


@pytest.mark.parametrize(
    "text",
    ["", "a b", "caf\u00e9", "\u732b", "full\u3000width", "no\u00a0break", "a\u200cb", "\U0001f468\u200d\U0001f469",
     "\u05d0\u200f\u200e", "\ufeffa", "C:\\new"],
)  # fmt: skip
def test_escape_controls_leaves_ordinary_text(text: str) -> None:
    assert escape_controls(text) == text


def test_list_some_counts_the_rest_of_all_values() -> None:
    assert list_some([]) == ""
    assert list_some(range(5)) == "0, 1, 2, 3, 4"
    assert list_some(range(2000)) == "0, 1, 2, 3, 4 and 1,995 more"
    assert list_some(range(7), 5, total=10**12) == "0, 1, 2, 3, 4 and 999,999,999,995 more"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("60s", 60), ("2min", 120), ("2 m", 120), ("1.5h", 5400), (" 0.5 s ", 0.5)],
)
def test_parse_duration_units_become_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "soon", "-3s", "1d", "1e3", "3 3", "9" * 400, "9" * 306 + "h"])
def test_parse_duration_other_text_raises(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"--budget {text!r}: expected a time such as 60s, 2min or 1.5h")):
        parse_duration(text)
