"""Images decoded once: the store, what invalidates it, and what happens if it cannot be written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope import _workers
from convscope.data.cache import decode, pixel_cache
from convscope.data.cache.decode import decode_file
from convscope.data.cache.pixel_cache import Store, open_store
from convscope.data.formats.image_folder import list_folder
from convscope.data.options import LoadContext, LoadOptions
from convscope.errors import ConvscopeError, DataError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import encode_png, read_image
from helpers.images import Pixels, animals, noise, write_images
from helpers.reporting import RecordingReporter

Open = Callable[..., Store]
CACHE = "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "set", animals())


@pytest.fixture
def reporter() -> RecordingReporter:
    """Keeps what `opened` reports."""
    return RecordingReporter()


@pytest.fixture
def opened(tmp_path: Path, reporter: RecordingReporter) -> Open:
    """Opens the store of a folder."""

    def open_(folder: Path, options: LoadOptions | None = None, cache: Path | None = None) -> Store:
        context = LoadContext(options or LoadOptions(), cache or tmp_path / CACHE, reporter)
        return open_store(list_folder(folder), context)

    return open_


def decoded_files(reporter: RecordingReporter) -> int:
    """How many files were decoded since the last call."""
    done = reporter.tasks[-1][1] if reporter.tasks else 0
    reporter.tasks.clear()
    return done


def test_open_store_rows_are_the_transformed_images(folder: Path, opened: Open) -> None:
    write_images(folder, {"cat/wide.png": noise(7, 20, 40), "dog/gray.png": noise(8, 30, 10, 1)})
    found, listing = opened(folder, LoadOptions(image_size=16)), list_folder(folder)
    assert found.pixels.shape == (14, 16, 16, 3)
    for number in range(14):
        expected, _ = found.preprocessing.transform(read_image(listing.path(number)))
        assert np.array_equal(found.pixels[number], expected), listing.files[number]
    assert isinstance(found.pixels, np.memmap)
    assert not found.pixels.flags.writeable


def test_open_store_decodes_once(
    folder: Path, opened: Open, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(folder)
    assert decoded_files(reporter) == 12
    monkeypatch.setattr(pixel_cache, "decode_files", lambda *_: pytest.fail("decoded again"))
    again = opened(folder)
    assert again.key == first.key
    assert np.array_equal(again.pixels, first.pixels)
    assert np.array_equal(again.info, first.info)
    assert again.preprocessing == first.preprocessing


@pytest.mark.parametrize("change", ["content", "added", "renamed", "size"])
def test_open_store_changed_folder_is_decoded_again(
    folder: Path, opened: Open, reporter: RecordingReporter, change: str
) -> None:
    before = opened(folder)
    decoded_files(reporter)
    if change == "content":
        write_images(folder, {"cat/0.png": noise(99)})
    elif change == "added":
        write_images(folder, {"cat/new.png": noise(99)})
    elif change == "renamed":
        (folder / "cat" / "0.png").rename(folder / "cat" / "z.png")
    after = opened(folder, LoadOptions(image_size=24) if change == "size" else None)
    assert decoded_files(reporter) >= 12
    assert after.key != before.key
    assert np.array_equal(opened(folder).pixels, before.pixels) == (change == "size")


def test_open_store_copied_folder_shares_the_store(folder: Path, opened: Open, tmp_path: Path) -> None:
    before = opened(folder)
    assert opened(Path(shutil.copytree(folder, tmp_path / "copy"))).key == before.key
    assert len(list((tmp_path / CACHE / "images").iterdir())) == 1


@pytest.mark.parametrize("name", ["pixels.u8", "info.npy", "about.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_open_store_damaged_store_is_rebuilt(
    folder: Path, opened: Open, reporter: RecordingReporter, tmp_path: Path, name: str, damage: str
) -> None:
    before = opened(folder)
    decoded_files(reporter)
    expected = np.array(before.pixels)
    path = tmp_path / CACHE / "images" / before.key / name
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert np.array_equal(opened(folder).pixels, expected)
    assert decoded_files(reporter) == 12


def test_open_store_info_of_an_impossible_size_is_rebuilt(
    folder: Path, opened: Open, reporter: RecordingReporter, tmp_path: Path
) -> None:
    place = tmp_path / CACHE / "images" / opened(folder).key
    decoded_files(reporter)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999,), }".ljust(117) + b"\n"
    info = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (place / "info.npy").write_bytes(info)
    about = json.loads((place / "about.json").read_text())
    (place / "about.json").write_text(json.dumps(about | {"info": zlib.crc32(info)}))
    opened(folder)
    assert decoded_files(reporter) == 12


def test_store_deleted_while_open_stays_readable(folder: Path, opened: Open, tmp_path: Path) -> None:
    found = opened(folder)
    shutil.rmtree(tmp_path / CACHE)
    assert found.pixels.any()


def test_open_store_without_a_cache_uses_a_temporary_folder(
    folder: Path, opened: Open, reporter: RecordingReporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    found = opened(folder, cache=tmp_path / "file")
    assert found.pixels.any()
    (message,) = reporter.messages
    assert message.startswith(f"cannot write to the cache {tmp_path / 'file'} (")
    assert message.endswith("): images are decoded at every start")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("call", ["posix_fallocate", "fsync", "replace"])
def test_open_store_full_disk_leaves_nothing(
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
    left = [path for root in (temporary, tmp_path / CACHE) for path in root.rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.slow
def test_open_store_worker_that_cannot_write_raises(
    folder: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MIN_FILES_FOR_WORKERS", 1)
    monkeypatch.setattr(pixel_cache, "_reserve", lambda *_: None)
    original = decode.decode_files

    def elsewhere(
        paths: list[Path], limit: float, record: Preprocessing | None = None, store: Path | None = None
    ) -> Any:
        return original(paths, limit, record, store and store.parent / "gone" / "pixels")

    monkeypatch.setattr(pixel_cache, "decode_files", elsewhere)
    with pytest.raises(ConvscopeError, match=r"cannot write decoded images to .* \(No such file"):
        opened(folder)


def test_open_store_workers_decode_the_same(
    folder: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(folder, {f"dog/more{i}.png": noise(500 + i, 30, 20) for i in range(70)} | {"cat/x.png": b"no image"})
    alone = opened(folder)
    monkeypatch.setattr(decode, "MIN_FILES_FOR_WORKERS", 1)
    monkeypatch.setattr(decode, "decode_file", lambda *_: pytest.fail("decoded here"))
    shared = opened(folder, cache=tmp_path / "other")
    assert shared.key == alone.key
    assert np.array_equal(shared.pixels, alone.pixels)
    assert np.array_equal(shared.info, alone.info)
    assert shared.reasons == alone.reasons
    assert len(shared.reasons) == 1


def test_open_store_worker_that_dies_is_replaced(folder: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(_workers.Worker):
        def request(self, message: bytes) -> bytes:
            self.process.kill()
            return super().request(message)

    monkeypatch.setattr(decode, "MIN_FILES_FOR_WORKERS", 1)
    monkeypatch.setattr(_workers, "Worker", Dead)
    assert opened(folder).pixels.any()


def test_open_store_unreadable_files_have_reasons_and_empty_rows(folder: Path, opened: Open) -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    bomb += _chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + _chunk(b"IEND", b"")
    write_images(folder, {"cat/a.txt": b"words", "cat/b.png": b"", "cat/c.png": bomb, "dog/d.png": _cut(noise(3))})
    (folder / "dog" / "e.png").symlink_to(folder / "nowhere")
    found, listing = opened(folder), list_folder(folder)
    reasons = {listing.files[number]: reason for number, reason in found.reasons.items()}
    assert set(reasons) == {"cat/a.txt", "cat/b.png", "cat/c.png", "dog/d.png", "dog/e.png"}
    assert reasons["cat/a.txt"].startswith("not an image, expected PNG")
    assert reasons["cat/b.png"].startswith("an empty file")
    assert reasons["cat/c.png"].startswith("50000x50000 are 2500 megapixels, expected at most 50")
    assert reasons["dog/d.png"].startswith("cannot be decoded")
    assert reasons["dog/e.png"] == "cannot be read (No such file or directory)"
    assert not found.pixels[list(found.reasons)].any()
    assert (found.info["height"][list(found.reasons)] == 0).all()


def test_open_store_no_readable_file_raises(tmp_path: Path, opened: Open) -> None:
    with pytest.raises(DataError, match=r"none of 2 files is an image; the first, a/1: not an image"):
        opened(write_images(tmp_path / "set", {"a/1": b"x", "b/2": b"y"}))
    assert not list((tmp_path / CACHE / "images").iterdir())


def test_open_store_removes_abandoned_stores_after_a_day(folder: Path, opened: Open, tmp_path: Path) -> None:
    old, young = (tmp_path / CACHE / "images" / f".unfinished-{name}" for name in ("old", "young"))
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


INFOS = [
    (noise(1), {"colored": True, "transparent": False, "height": 12, "width": 12}),
    (noise(1, 5, 9, 1), {"colored": False, "height": 5, "width": 9}),
    (np.repeat(noise(1, channels=1), 3, 2), {"colored": False}),
    (np.dstack([noise(1), np.full((12, 12), 255, np.uint8)]), {"transparent": False, "colored": True}),
    (np.dstack([noise(1), np.full((12, 12), 7, np.uint8)]), {"transparent": True}),
    (np.full((3, 4, 3), 9, np.uint8), {"darkest": 9, "lightest": 9, "border": 9}),
]


@pytest.mark.parametrize(("pixels", "expected"), INFOS)
def test_decode_file_fills_the_info(tmp_path: Path, pixels: Pixels, expected: dict[str, int]) -> None:
    path = write_images(tmp_path, {"a.png": pixels}) / "a.png"
    (info,), transformed = decode_file(path, 1.0)
    assert {name: info[name] for name in expected} == expected
    assert transformed is None
    assert info["digest"].astype(">u8").tobytes() == hashlib.sha256(path.read_bytes()).digest()
    assert info["bytes"] == path.stat().st_size


def test_decode_file_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(1, 10, 20)).save(tmp_path / "a.jpg", exif=exif)
    (info,), _ = decode_file(tmp_path / "a.jpg", 1.0)
    assert info["rotated"]
    assert (info["height"], info["width"]) == (20, 10)


def test_decode_file_of_gigabytes_raises(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(DataError, match=r"2\.1 GB, expected at most 0\.3"):
        decode_file(tmp_path / "a.png", 1.0)


@pytest.mark.parametrize(
    ("shapes", "options", "expected"),
    [
        ([(28, 28)], LoadOptions(), (28, 28)),
        ([(20, 31)], LoadOptions(), (20, 31)),
        ([(100, 100)], LoadOptions(), (80, 80)),
        ([(30, 40), (35, 50), (90, 99)], LoadOptions(), (48, 48)),
        ([(9, 4), (4, 9)], LoadOptions(), (8, 8)),
        ([(28, 28)], LoadOptions(image_size=40), (40, 40)),
    ],
)
def test_open_store_size_is_chosen_from_the_images(
    tmp_path: Path, opened: Open, shapes: list[tuple[int, int]], options: LoadOptions, expected: tuple[int, int]
) -> None:
    images = {f"{name}/{i}.png": noise(i, *shape) for name in "ab" for i, shape in enumerate(shapes)}
    record = opened(write_images(tmp_path / "set", images), options).preprocessing
    assert (record.height, record.width) == expected


@pytest.mark.parametrize(
    ("level", "channels", "wanted", "fill", "polarity"),
    [
        (255, 3, None, (255, 255, 255), "light"),
        (10, 1, None, (10,), "dark"),
        (128, 3, 4, (127, 127, 127, 255), "mixed"),
    ],
)
def test_open_store_padding_is_the_usual_background(
    tmp_path: Path, opened: Open, level: int, channels: int, wanted: int | None, fill: tuple[int, ...], polarity: str
) -> None:
    images = {}
    for i in range(4):
        pixels = np.full((20, 20, channels), level, np.uint8)
        pixels[8:12, 8:12] = noise(i, 4, 4, channels)
        images[f"{'ab'[i % 2]}/{i}.png"] = pixels
    record = opened(write_images(tmp_path / "set", images), LoadOptions(channels=wanted)).preprocessing  # type: ignore[arg-type]
    assert (record.fill, record.polarity, record.channels) == (fill, polarity, wanted or channels)
