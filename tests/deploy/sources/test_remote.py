"""Addresses and Parquet files become the images that a folder would: same order, same answers, same errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from convscope import _storage
from convscope.deploy.sources.find import find_images
from convscope.deploy.sources.items import EncodedImage, PassedOver, name_of
from convscope.deploy.sources.read import OnceFilter, count_images, read_archives
from convscope.errors import ConvscopeError, ImageError, UsageError
from convscope.images.read import encode_png

PNG = encode_png(np.zeros((2, 3, 1), np.uint8))
TOP = "memory:///photos"


@pytest.fixture
def memory() -> Iterator[Any]:
    """A storage in this process."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def write(memory: Any, *names: str, content: bytes = PNG) -> None:
    for name in names:
        memory.pipe_file(f"/{name}", content)


def read(*sources: str) -> tuple[list[str], PassedOver]:
    """Names of the images as they are read; errors as their message after "!"."""
    passed_over = PassedOver()
    images = read_archives(find_images(sources, passed_over), passed_over, OnceFilter(frozenset(), passed_over))
    return [f"!{one}" if isinstance(one, ImageError) else name_of(one) for one in images], passed_over


def test_find_address_of_folder_lists_as_a_folder_on_disk(memory: Any) -> None:
    write(memory, "photos/10.png", "photos/2.png", "photos/b/1.png", "photos/notes.txt", "photos/.hidden.png")
    write(memory, "photos/run/config.json", "photos/run/model.onnx", "photos/run/1.png")
    found, passed_over = read(TOP)
    assert found == [f"{TOP}/{name}" for name in ("2.png", "10.png", "b/1.png", "run/1.png")]
    assert passed_over.messages == ["passed over 3 files other than images: 1 .txt, 1 .json, 1 .onnx"]


def test_find_address_of_file_and_pattern_and_twice(memory: Any) -> None:
    write(memory, "photos/1.png", "photos/2.png", "photos/a.bin", "photos/[x].png")
    assert read(f"{TOP}/a.bin")[0] == [f"{TOP}/a.bin"]
    found, passed_over = read(f"{TOP}/*.png", f"{TOP}/2.png")
    assert sorted(found) == [f"{TOP}/{name}.png" for name in ("1", "2", "[x]")]
    assert passed_over.repeated == 1


def test_find_address_of_nothing_is_an_error(memory: Any) -> None:
    write(memory, "photos/notes.txt", "photos/a.zip")
    assert read("memory:///none/1.png")[0] == ["!memory:///none/1.png: no such file; check the spelling and the folder"]
    assert read("memory:///none/*.png")[0] == [
        "!memory:///none/*.png: no file matches; check the spelling and the folder"
    ]
    assert read(TOP)[0] == [
        f"!{TOP}/a.zip: an archive at an address; download it, or upload the images in it",
    ]
    write(memory, "texts/notes.txt")
    assert read("memory:///texts")[0] == [
        "!memory:///texts: no images in this folder (1 other file); name another one, or single files"
    ]


def test_find_address_of_unknown_scheme_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"nosuch://b/1.png: Protocol not known: nosuch"):
        list(find_images(["nosuch://b/1.png"], PassedOver()))


@pytest.mark.parametrize(
    "address",
    ["s3://AKIAKEY:secret@bucket/a.png", "https://host/a.png?X-Amz-Signature=secret", "https://host/a?token=secret"],
)
def test_find_address_with_credentials_is_refused_without_repeating_them(address: str) -> None:
    with pytest.raises(UsageError, match="with credentials in it: leave them out") as refusal:
        list(find_images([address], PassedOver()))
    assert "secret" not in str(refusal.value)


def test_read_images_at_addresses_comes_in_order_with_their_contents(memory: Any) -> None:
    contents = {f"{TOP}/{i}.png": bytes([i]) * 10 for i in range(150)}
    for name, content in contents.items():
        memory.pipe_file(name, content)
    found = list(read_archives(find_images([TOP], PassedOver()), PassedOver()))
    assert [(one.name, one.content) for one in found if isinstance(one, EncodedImage)] == list(contents.items())


def test_read_image_that_is_gone_is_an_error_of_that_image(memory: Any) -> None:
    write(memory, "photos/1.png", "photos/2.png")
    listed = list(find_images([TOP], PassedOver()))
    memory.rm_file("/photos/1.png")
    first, second = read_archives(listed, PassedOver())
    assert isinstance(first, ImageError)
    assert str(first).startswith(f"{TOP}/1.png: cannot be read (")
    assert second == EncodedImage(f"{TOP}/2.png", PNG)


def test_read_transfer_that_breaks_is_tried_again(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(memory, "photos/1.png")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    read_range, failures = type(memory).cat_ranges, 3

    def break_down(*arguments: Any, **options: Any) -> Any:
        if len(waits) < failures:
            raise ConnectionResetError("broken pipe")
        return read_range(*arguments, **options)

    monkeypatch.setattr(type(memory), "cat_ranges", break_down)
    assert read(TOP)[0] == [f"{TOP}/1.png"]
    assert waits == [0.5, 1.0, 2.0]
    failures = 99
    with pytest.raises(ConvscopeError, match=r"1\.png cannot be reached \(broken pipe\); check your connection"):
        read(TOP)


def table(path: Path, images: list[Any], rows: int = 1000) -> None:
    parquet.write_table(pa.table({"image": images, "label": [0] * len(images)}), path, row_group_size=rows)


def test_read_parquet_names_rows_and_reports_those_without_an_image(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", [{"bytes": PNG, "path": "x"}, {"bytes": None, "path": "y"}, None, {"bytes": PNG}])
    assert read("a.parquet")[0] == [
        "a.parquet/0",
        "!a.parquet/1: a row without the bytes of an image; remove it, or add them",
        "!a.parquet/2: a row without the bytes of an image; remove it, or add them",
        "a.parquet/3",
    ]
    assert count_images(find_images(["a.parquet"], PassedOver())) == 4


def test_read_folder_of_parquet_files_at_an_address_or_not(tmp_path: Path, memory: Any) -> None:
    (tmp_path / "data").mkdir()
    table(tmp_path / "data/1.parquet", [PNG, PNG], rows=1)
    table(tmp_path / "data/2.parquet", [PNG])
    assert read("data")[0] == ["data/1.parquet/0", "data/1.parquet/1", "data/2.parquet/0"]
    assert read("data/*.parquet")[0] == read("data")[0]
    for name in ("1.parquet", "2.parquet"):
        write(memory, f"data/{name}", content=(tmp_path / "data" / name).read_bytes())
    assert read("memory:///data")[0] == [f"memory:///{name}" for name in read("data")[0]]
    write(memory, "data/1.png")
    assert read("memory:///data")[0] == ["memory:///data/1.png"]
    Path("data/1.png").write_bytes(PNG)
    found, passed_over = read("data")
    assert found == ["data/1.png"]
    assert passed_over.messages == ["passed over 2 files other than images: 2 .parquet"]


def test_read_parquet_damaged_or_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 broken")
    parquet.write_table(pa.table({"label": [1, 2]}), tmp_path / "labels.parquet")
    (bad,), _ = read("bad.parquet")
    assert bad.startswith("!bad.parquet: damaged (")
    assert bad.endswith("): download it again")
    assert read("labels.parquet")[0] == ["!labels.parquet: no column of images: found label; expected image and label"]


def test_write_and_remove_file_at_an_address(memory: Any) -> None:
    _storage.write_file("memory:///new/folder/a.txt", b"content")
    assert memory.cat_file("/new/folder/a.txt") == b"content"
    _storage.remove_file("memory:///new/folder/a.txt")
    _storage.remove_file("memory:///new/folder/a.txt")
    assert _storage.find_entry("memory:///new/folder/a.txt") is None
