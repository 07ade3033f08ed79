"""Fixtures for the command line: a folder to work in, and the text it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases.bad_commands import write_workspace
from convscope import Evaluation, load_data
from convscope.cli.console import print_result
from convscope.evaluation.metrics import evaluate
from convscope.images.read import encode_png
from helpers.images import animals, write_images

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


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: the files of `bad_commands`, images in `pets/`, and a digit of 24x32 pixels, `big.png`."""
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_images(tmp_path / "pets", animals() | {"cat/x.txt": b"x"})
    digit = load_data("digits").test.images[7]
    (tmp_path / "big.png").write_bytes(encode_png(digit.repeat(4, axis=0).repeat(3, axis=1)))
    return tmp_path
