"""Pictures decoded once: the store, what it was made from, and what happens where it cannot be written."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope import _workers as helpers
from convscope.data.cache import decode
from convscope.data.cache import pixel_cache as store
from convscope.data.cache.decode import look
from convscope.data.cache.pixel_cache import Store, open_store
from convscope.data.formats.listing import list_files
from convscope.data.options import LoadOptions
from convscope.errors import ConvscopeError, DataError
from convscope.images.read import encode_png, read_image
from helpers.pictures import Pixels, animals, noise, write
from helpers.reporting import RecordingReporter

Open = Callable[..., Store]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", animals())


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Opens the store of a folder; said and done are what it was told."""

    def open_(folder: Path, reading: LoadOptions | None = None, cache: Path | None = None) -> Store:
        reporter = RecordingReporter()
        store = open_store(list_files(folder), reading or LoadOptions(), cache or tmp_path / "cache", reporter)
        open_.said, open_.done = reporter.messages, [done for _, done, _ in reporter.tasks]  # type: ignore[attr-defined]
        return store

    return open_


def test_a_row_is_what_the_network_would_see_of_the_file(folder: Path, opened: Open) -> None:
    write(folder, {"cat/wide.png": noise(7, 20, 40), "dog/gray.png": noise(8, 30, 10, 1)})
    found, listing = opened(folder, LoadOptions(image_size=16)), list_files(folder)
    assert found.pixels.shape == (14, 16, 16, 3)
    for number in range(14):
        expected, _ = found.preprocessing.transform(read_image(listing.path(number)))
        assert np.array_equal(found.pixels[number], expected), listing.files[number]
    assert isinstance(found.pixels, np.memmap)
    assert not found.pixels.flags.writeable


def test_it_is_decoded_once(folder: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(folder)
    assert opened.done[-1] == 12  # type: ignore[attr-defined]
    monkeypatch.setattr(store, "decode", lambda *_: pytest.fail("decoded again"))
    again = opened(folder)
    assert again.key == first.key
    assert np.array_equal(again.pixels, first.pixels)
    assert np.array_equal(again.facts, first.facts)
    assert again.preprocessing == first.preprocessing


@pytest.mark.parametrize("change", ["content", "added", "renamed", "size"])
def test_what_changed_is_decoded_again(folder: Path, opened: Open, change: str) -> None:
    before = opened(folder)
    if change == "content":
        write(folder, {"cat/0.png": noise(99)})
    elif change == "added":
        write(folder, {"cat/new.png": noise(99)})
    elif change == "renamed":
        (folder / "cat" / "0.png").rename(folder / "cat" / "z.png")
    after = opened(folder, LoadOptions(image_size=24) if change == "size" else None)
    assert opened.done  # type: ignore[attr-defined]
    assert after.key != before.key
    assert np.array_equal(opened(folder).pixels, before.pixels) == (change == "size")


def test_a_copied_folder_shares_the_store(folder: Path, opened: Open, tmp_path: Path) -> None:
    before = opened(folder)
    assert opened(Path(shutil.copytree(folder, tmp_path / "copy"))).key == before.key
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 1


@pytest.mark.parametrize("name", ["pixels.u8", "facts.npy", "about.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_damaged_store_is_made_again(folder: Path, opened: Open, tmp_path: Path, name: str, damage: str) -> None:
    before = opened(folder)
    expected = np.array(before.pixels)
    path = tmp_path / "cache" / "images" / before.key / name
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert np.array_equal(opened(folder).pixels, expected)
    assert opened.done[-1] == 12  # type: ignore[attr-defined]


def test_a_store_that_is_deleted_can_be_read_to_the_end(folder: Path, opened: Open, tmp_path: Path) -> None:
    found = opened(folder)
    shutil.rmtree(tmp_path / "cache")
    assert found.pixels.any()


def test_without_a_cache_it_is_decoded_into_a_temporary_folder(
    folder: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    found = opened(folder, cache=tmp_path / "file")
    assert found.pixels.any()
    (said,) = opened.said  # type: ignore[attr-defined]
    assert said.startswith(f"cannot write to the cache {tmp_path / 'file'} (")
    assert said.endswith("): decoding anew at every start")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("call", ["posix_fallocate", "fsync", "replace"])
def test_a_full_disk_leaves_nothing(
    folder: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(os, call, full)
    with pytest.raises(ConvscopeError, match=r"cannot write.*No space left on device.*free some space"):
        opened(folder)
    monkeypatch.undo()
    left = [path for root in (temporary, tmp_path / "cache") for path in root.rglob("*") if path.is_file()]
    assert left == []


def test_what_cannot_be_written_by_a_helper_is_said(
    folder: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "ALONE", 1)
    monkeypatch.setattr(store, "_reserve", lambda *_: None)
    original = decode.decode

    def elsewhere(paths: list[Path], most: float, frame: object = None, store: Path | None = None) -> object:
        return original(paths, most, frame, store and store.parent / "gone" / "pixels")  # type: ignore[arg-type]

    monkeypatch.setattr(store, "decode", elsewhere)
    with pytest.raises(ConvscopeError, match=r"cannot write decoded images to .* \(No such file"):
        opened(folder)


def test_helpers_decode_the_same(folder: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {f"dog/more{i}.png": noise(500 + i, 30, 20) for i in range(70)} | {"cat/x.png": b"no picture"})
    alone = opened(folder)
    monkeypatch.setattr(decode, "ALONE", 1)
    monkeypatch.setattr(decode, "look", lambda *_: pytest.fail("decoded here"))
    shared = opened(folder, cache=tmp_path / "other")
    assert shared.key == alone.key
    assert np.array_equal(shared.pixels, alone.pixels)
    assert np.array_equal(shared.facts, alone.facts)
    assert shared.reasons == alone.reasons
    assert len(shared.reasons) == 1


def test_a_helper_that_dies_costs_nothing(folder: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(helpers.Worker):
        def request(self, message: bytes) -> bytes:
            self.process.kill()
            return super().request(message)

    monkeypatch.setattr(decode, "ALONE", 1)
    monkeypatch.setattr(helpers, "Worker", Dead)
    assert opened(folder).pixels.any()


def test_what_cannot_be_read_is_named_and_stays_empty(folder: Path, opened: Open) -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    bomb += _chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + _chunk(b"IEND", b"")
    write(folder, {"cat/a.txt": b"words", "cat/b.png": b"", "cat/c.png": bomb, "dog/d.png": _cut(noise(3))})
    (folder / "dog" / "e.png").symlink_to(folder / "nowhere")
    found, listing = opened(folder), list_files(folder)
    reasons = {listing.files[number]: reason for number, reason in found.reasons.items()}
    assert set(reasons) == {"cat/a.txt", "cat/b.png", "cat/c.png", "dog/d.png", "dog/e.png"}
    assert reasons["cat/a.txt"].startswith("not an image, expected PNG")
    assert reasons["cat/b.png"].startswith("an empty file")
    assert reasons["cat/c.png"].startswith("50000x50000 are 2500 megapixels, expected at most 50")
    assert reasons["dog/d.png"].startswith("cannot be decoded")
    assert reasons["dog/e.png"] == "cannot be read (No such file or directory)"
    assert not found.pixels[list(found.reasons)].any()
    assert (found.facts["height"][list(found.reasons)] == 0).all()


def test_a_set_without_a_picture(tmp_path: Path, opened: Open) -> None:
    with pytest.raises(DataError, match=r"none of 2 files is a picture; the first, a/1: not an image"):
        opened(write(tmp_path / "set", {"a/1": b"x", "b/2": b"y"}))
    assert not list((tmp_path / "cache" / "images").iterdir())


def test_unfinished_stores_of_killed_processes_go_after_a_day(folder: Path, opened: Open, tmp_path: Path) -> None:
    old, young = (tmp_path / "cache" / "images" / f".unfinished-{name}" for name in ("old", "young"))
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (0, 0))
    opened(folder)
    assert not old.exists()
    assert young.exists()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _cut(pixels: Pixels) -> bytes:
    whole = encode_png(pixels)
    return whole[: len(whole) // 2]


FACTS = [
    (noise(1), {"colored": True, "clear": False, "height": 12, "width": 12}),
    (noise(1, 5, 9, 1), {"colored": False, "height": 5, "width": 9}),
    (np.repeat(noise(1, channels=1), 3, 2), {"colored": False}),
    (np.dstack([noise(1), np.full((12, 12), 255, np.uint8)]), {"clear": False, "colored": True}),
    (np.dstack([noise(1), np.full((12, 12), 7, np.uint8)]), {"clear": True}),
    (np.full((3, 4, 3), 9, np.uint8), {"darkest": 9, "lightest": 9, "border": 9}),
]


@pytest.mark.parametrize(("pixels", "expected"), FACTS)
def test_facts(tmp_path: Path, pixels: Pixels, expected: dict[str, int]) -> None:
    path = write(tmp_path, {"a.png": pixels}) / "a.png"
    (facts,), arranged = look(path, 1.0)
    assert {name: facts[name] for name in expected} == expected
    assert arranged is None
    assert facts["digest"].astype(">u8").tobytes() == hashlib.sha256(path.read_bytes()).digest()
    assert facts["bytes"] == path.stat().st_size


def test_a_picture_that_its_exif_turns(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(1, 10, 20)).save(tmp_path / "a.jpg", exif=exif)
    (facts,), _ = look(tmp_path / "a.jpg", 1.0)
    assert facts["turned"]
    assert (facts["height"], facts["width"]) == (20, 10)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(DataError, match=r"2\.1 GB, at most 0\.3 are read"):
        look(tmp_path / "a.png", 1.0)


@pytest.mark.parametrize(
    ("shapes", "reading", "expected"),
    [
        ([(28, 28)], LoadOptions(), (28, 28)),
        ([(20, 31)], LoadOptions(), (20, 31)),
        ([(100, 100)], LoadOptions(), (80, 80)),
        ([(30, 40), (35, 50), (90, 99)], LoadOptions(), (48, 48)),
        ([(9, 4), (4, 9)], LoadOptions(), (8, 8)),
        ([(28, 28)], LoadOptions(image_size=40), (40, 40)),
    ],
)
def test_the_size_is_chosen_from_the_pictures(
    tmp_path: Path, opened: Open, shapes: list[tuple[int, int]], reading: LoadOptions, expected: tuple[int, int]
) -> None:
    pictures = {f"{name}/{i}.png": noise(i, *shape) for name in "ab" for i, shape in enumerate(shapes)}
    frame = opened(write(tmp_path / "set", pictures), reading).preprocessing
    assert (frame.height, frame.width) == expected


@pytest.mark.parametrize(
    ("level", "channels", "wanted", "fill", "polarity"),
    [
        (255, 3, None, (255, 255, 255), "light"),
        (10, 1, None, (10,), "dark"),
        (128, 3, 4, (127, 127, 127, 255), "mixed"),
    ],
)
def test_padding_is_the_usual_background(
    tmp_path: Path, opened: Open, level: int, channels: int, wanted: int | None, fill: tuple[int, ...], polarity: str
) -> None:
    pictures = {}
    for i in range(4):
        pixels = np.full((20, 20, channels), level, np.uint8)
        pixels[8:12, 8:12] = noise(i, 4, 4, channels)
        pictures[f"{'ab'[i % 2]}/{i}.png"] = pixels
    frame = opened(write(tmp_path / "set", pictures), LoadOptions(channels=wanted)).preprocessing  # type: ignore[arg-type]
    assert (frame.fill, frame.polarity, frame.channels) == (fill, polarity, wanted or channels)
