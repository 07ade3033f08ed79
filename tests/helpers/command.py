"""What a command leaves, and what to do where something that a test needs is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import pytest


def required(reason: str) -> None:
    """Skip on a newcomer's machine; fail where the data or the browser were promised."""
    if os.environ.get("CI") or os.environ.get("CONVSCOPE_DATA"):
        pytest.fail(reason)
    pytest.skip(reason)


class Answer(NamedTuple):
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]
