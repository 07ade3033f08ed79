"""Fixtures for the command line's text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from convscope import Evaluation
from convscope.cli.console import print_result
from convscope.evaluation.metrics import evaluate

ODD_NAMES = ("[red]", ":cat:", "[/b]", "Ankle boot")  # names that look like rich's markup and emoji
Printed = Callable[[Iterable[Any]], str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Lines and tables as a command prints them."""

    def show(lines: Iterable[Any]) -> str:
        print_result(False, {}, lines)
        return capsys.readouterr().out

    return show


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    """Eight images of four classes; one boot predicted as a cat, two cats as boots."""
    labels = np.array([0, 0, 1, 1, 1, 3, 3, 2])
    predicted = np.array([0, 0, 1, 3, 3, 3, 1, 2])
    return evaluate(np.eye(4, dtype=np.float32)[predicted], labels, ODD_NAMES)
