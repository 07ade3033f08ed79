"""Backbones from model files and run folders: the features are those of the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope import Predictor
from convscope.backends.onnx.read import read_model_file
from convscope.deploy.int8 import to_int8
from convscope.errors import DataError, ModelFileError, UsageError
from convscope.pretrained.load import load_backbone
from convscope.pretrained.store import keep_backbone
from helpers.backbones import features_of, relative_error
from helpers.model_files import float_file
from helpers.networks import NetworkCase, random_images

CASE = NetworkCase(
    "conv 8 3 pad same, batchnorm, relu6, residual(conv 9 3 stride 2 pad same, batchnorm, hardswish, conv 9 1, "
    "batchnorm), relu, maxpool 2 stride 1 pad same, batchnorm, globalavg, dropout 0.2",
    (12, 12, 3),
    5,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file of `CASE` with random weights."""
    path = tmp_path / "run7" / "model.onnx"
    path.parent.mkdir()
    float_file(CASE, path)
    return path


@pytest.mark.parametrize("as_run", [True, False])
def test_backbone_of_model_file_has_its_features(model: Path, as_run: bool) -> None:
    backbone = load_backbone(str(model.parent if as_run else model))
    images = random_images(CASE, 6)
    assert relative_error(features_of(backbone, images), Predictor(model).features(images)) < 1e-5
    assert backbone.architecture == (
        "conv 8 3 pad same, relu6, residual(conv 9 3 stride 2 pad same, hardswish, conv 9 1), "
        "relu, maxpool 2 stride 1 pad same, batchnorm, globalavg"
    )
    assert (backbone.name, backbone.image_size, backbone.channels) == ("run7", 12, 3)


def test_backbone_of_run_names_its_training_data(digits_run: convscope.Run) -> None:
    backbone = load_backbone(digits_run.path)
    metadata = read_model_file(digits_run.model_file).metadata
    assert (backbone.scale, backbone.mean) == (metadata.preprocessing.scale, metadata.preprocessing.mean)
    assert (backbone.provenance.training_data, backbone.provenance.license) == ("digits", None)


def test_backbone_of_int8_model_is_refused(model: Path) -> None:
    int8 = model.with_name("int8.onnx")
    int8.write_bytes(to_int8(read_model_file(model), random_images(CASE, 9)))
    with pytest.raises(
        DataError, match=rf"^{int8}: expected float32 weights, got int8: name the model.onnx of its run$"
    ):
        load_backbone(int8)


def test_backbone_for_other_than_square_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.onnx"
    float_file(NetworkCase("conv 3 3, globalavg", (8, 9, 1), 2), path)
    with pytest.raises(DataError, match=rf"^{path}: expected a network for square images, got 9x8: train one for squ"):
        load_backbone(path)


def test_added_backbone_is_loaded_by_its_name_and_by_its_file(model: Path) -> None:
    path = keep_backbone(load_backbone(model).model_copy(update={"name": "mine"}))
    for source in ("mine", str(path), path):
        found = load_backbone(source)
        assert found.name == "mine"
        np.testing.assert_array_equal(found.weights["conv1.weight"], load_backbone(model).weights["conv1.weight"])


def test_unknown_name_lists_the_known_ones(model: Path) -> None:
    keep_backbone(load_backbone(model).model_copy(update={"name": "mine"}))
    message = r"^expected a backbone \(efficientnet-lite0, .*, mine\), a file or a run folder, but your does not exist$"
    with pytest.raises(UsageError, match=message):
        load_backbone("your")
    with pytest.raises(UsageError, match="mine does not exist"):
        load_backbone(Path("mine"))


def test_folder_without_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=rf"{tmp_path}/model.onnx does not exist"):
        load_backbone(tmp_path)
