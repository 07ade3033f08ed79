"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import convscope
from convscope.cli.main import main
from convscope.data.dataset import Dataset, Split
from convscope.training.recipes import recipe_named
from helpers.command import Answer, Command, required

settings.register_profile("convscope", deadline=None)  # a busy machine must not fail a test
settings.load_profile("convscope")

os.environ.pop("PYTHONUNBUFFERED", None)  # it would hide results that a process forgets to flush


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets named by CONVSCOPE_DATA."""
    folder = os.environ.get("CONVSCOPE_DATA")
    if not folder or not Path(folder, "mnist").is_dir():
        required("set CONVSCOPE_DATA to a folder with mnist/, fashion-mnist/, cifar-10/ and pngsuite/")
    return Path(str(folder)).resolve()


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> convscope.Run:
    """The run of a short training on digits; no test may change its folder."""
    recipe = recipe_named("default").override(epochs=3)
    return convscope.train_model("digits", "small", recipe, threads=1, run=tmp_path_factory.mktemp("digits") / "run")


@pytest.fixture(scope="session")
def stripes() -> Dataset:
    """Vertical and horizontal stripes in noise, 4x4, easy to tell apart."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = random.integers(0, 100, (60, 4, 4, 1), np.uint8)
    images[labels == 0, :, ::2] += 150
    images[labels == 1, ::2, :] += 150
    train, test = Split(images[:40], labels[:40]), Split(images[40:], labels[40:])
    return Dataset("stripes", ("upright", "lying"), train, test, "made here")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """A function that runs the command line in this process and returns its answer."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["convscope", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return Answer(int(end.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here and in child processes, even if the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
