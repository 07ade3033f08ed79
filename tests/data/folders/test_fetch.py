"""A data set at an address is read as the same folder on a disk; only what changed is downloaded again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from convscope import _storage, load_data
from convscope._reporting import Reporter
from convscope.data import load
from convscope.data.audit import report
from convscope.data.audit.report import audit_images
from convscope.data.folders import fetch
from convscope.data.options import LoadOptions
from convscope.errors import DataError
from convscope.images.read import encode_png


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A storage in this process, and an empty cache."""
    for module in (load, report):
        monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def write_photos(memory: Any) -> None:
    random = np.random.default_rng(0)
    for i in range(40):
        image = encode_png(random.integers(0, 255, (12, 12, 3), np.uint8))
        memory.pipe_file(f"/data/photos/{'cat' if i % 2 else 'dog'}/{i}.png", image)


def test_load_folder_at_an_address_is_the_folder_on_a_disk(memory: Any) -> None:
    write_photos(memory)
    memory.get("/data/photos", "photos", recursive=True)
    remote, local = load_data("memory:///data/photos"), load_data("photos")
    assert (remote.name, remote.classes) == ("photos", ("cat", "dog"))
    assert "memory:///data/photos" in remote.source
    for one, other in ((remote.train, local.train), (remote.test, local.test)):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)


def test_load_address_again_downloads_what_changed(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(memory)
    load_data("memory:///data/photos")
    read: list[str] = []

    def record(addresses: list[str]) -> list[bytes | OSError]:
        read.extend(addresses)
        return _storage.read_files(addresses)

    monkeypatch.setattr(fetch, "read_files", record)
    load_data("memory:///data/photos")
    assert read == []
    memory.rm_file("/data/photos/cat/1.png")
    memory.pipe_file("/data/photos/cat/3.png", encode_png(np.zeros((12, 12, 3), np.uint8)))
    dataset = load_data("memory:///data/photos")
    assert read == ["memory:///data/photos/cat/3.png"]
    assert len(dataset.train) + len(dataset.test) == 39


def test_fetch_large_file_is_downloaded_alone(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LARGE_BYTES", 10)
    memory.pipe_file("/data/large.bin", bytes(11))
    path = fetch.fetch("memory:///data/large.bin", tmp_path, Reporter())
    assert path.name == "large.bin"
    assert path.read_bytes() == bytes(11)
    assert sorted(one.name for one in path.parent.iterdir()) == ["index.json", "large.bin"]


def test_audit_of_an_address_is_that_of_the_folder_on_a_disk(memory: Any) -> None:
    write_photos(memory)
    memory.get("/data/photos", "photos", recursive=True)
    remote, local = (audit_images(path, LoadOptions(), Reporter()) for path in ("memory:///data/photos", "photos"))
    assert remote.path == "memory:///data/photos"
    assert remote.model_copy(update={"path": "photos"}) == local


def test_load_address_of_nothing_is_an_error(memory: Any) -> None:
    memory.pipe_file("/data/a", b"")
    with pytest.raises(DataError, match=r"no such file or folder: memory:///none; check the spelling and your access"):
        load_data("memory:///none")
