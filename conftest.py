"""Every test and every example in the documentation runs in an empty folder of its own, on one thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: several test processes share the cores
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before onnxruntime is loaded by a test itself

collect_ignore = ["tests/core"]  # `make test-core` runs these in an environment of their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The examples of the README, which train, are slow tests."""
    for item in items:
        if item.path.name == "README.md":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
