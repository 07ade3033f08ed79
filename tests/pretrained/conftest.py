"""An empty user's folder for backbones."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A new folder in place of the user's cache; it holds `backbones/`."""
    monkeypatch.setattr("convscope.pretrained.store.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "backbones"
