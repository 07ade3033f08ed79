"""A missing package of an extra is reported in one line; any other missing package is a bug."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from convscope._extras import EXTRAS, needs_extra, require_package
from convscope.errors import MissingExtraError, UsageError

RAY = re.compile(r"(ray|s3fs)\b")
MESSAGE = r"^train needs the training extra: pip install 'convscope\[train\]'$"


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("statement", ["import torch", "import torch.nn", "from torch import nn"])
def test_needs_extra_package_of_extra_missing_names_the_extra(statement: str) -> None:
    with pytest.raises(MissingExtraError, match=MESSAGE), needs_extra("train"):
        exec(statement)


def test_needs_extra_other_package_missing_stays_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), needs_extra("train"):
        exec("import no_such_package")


def test_needs_extra_module_of_installed_package_missing_stays_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needs_extra("train"):
        exec("import torch.no_such_module")


def test_require_package_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("torch", "train")
    monkeypatch.setattr("convscope._extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=MESSAGE):
        require_package("torch", "train")


def test_missing_extra_error_exits_with_2() -> None:
    assert issubclass(MissingExtraError, UsageError)
    assert MissingExtraError.exit_code == 2


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])


def test_ray_comes_with_the_cluster_extra_alone() -> None:
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    needs = {"": project["dependencies"], **project["optional-dependencies"]}
    assert [extra for extra, packages in needs.items() if any(map(RAY.match, packages))] == ["cluster"]
