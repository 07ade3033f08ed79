"""Fixtures shared by all tests: where the real data sets are, and what to do when they are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def required(reason: str) -> None:
    """Skip on a newcomer's machine; fail where the data or the browser were promised."""
    if os.environ.get("CI") or os.environ.get("CONVSCOPE_DATA"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets named by CONVSCOPE_DATA."""
    folder = os.environ.get("CONVSCOPE_DATA")
    if not folder or not Path(folder, "mnist").is_dir():
        required("set CONVSCOPE_DATA to a folder with mnist/, fashion-mnist/, cifar-10/ and pngsuite/")
    return Path(str(folder)).resolve()
