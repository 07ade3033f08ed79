"""Every fault of a cache file ends in decoding again, never in other pixels or a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from convscope._files import open_regular
from convscope.data.cache import checksums as checksums_module
from convscope.data.cache import pixel_cache
from convscope.data.cache.checksums import checksums
from convscope.data.cache.pixel_cache import Store, open_store
from convscope.data.formats.image_folder import list_folder
from convscope.data.options import LoadContext, LoadOptions
from helpers.images import animals, write_images
from helpers.reporting import RecordingReporter

Fault = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "set", animals() | {"cat/broken.png": b"x"})


def opened(folder: Path, cache: Path) -> tuple[Store, int, list[str]]:
    """The store, how many files were decoded, and the messages."""
    reporter = RecordingReporter()
    store = open_store(list_folder(folder), LoadContext(LoadOptions(), cache, reporter))
    return store, reporter.tasks[-1][1] if reporter.tasks else 0, reporter.messages


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def last_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x80
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_by_one(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def extended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def extended_by_a_terabyte(path: Path) -> None:
    os.truncate(path, 2**40)


def half_written(path: Path) -> None:
    """As after a power failure: the size is right, the second half was never written."""
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)


def swapped(path: Path) -> None:
    """Two halves in the other order; sums of bytes are the same."""
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[half:] + content[:half])


def removed(path: Path) -> None:
    path.unlink()


def folder_instead(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def link_to_zeros(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


FILE_FAULTS: list[Fault] = [
    zeroed, flipped, last_flipped, cut, cut_by_one, emptied, extended, extended_by_a_terabyte, half_written, swapped,
    removed, folder_instead, pipe_instead, link_to_nowhere, link_to_zeros, link_to_itself, random_bytes,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pixels.u8", "info.npy", "about.json"])
@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: fault.__name__)
def test_open_store_any_fault_of_a_file_is_decoded_again(folder: Path, tmp_path: Path, name: str, fault: Fault) -> None:
    before, _, _ = opened(folder, tmp_path / "cache")
    expected = np.array(before.pixels)
    place = tmp_path / "cache" / "images" / before.key
    fault(place / name)
    after, decoded, messages = opened(folder, tmp_path / "cache")
    assert decoded == 13
    assert messages == [f"the decoded images in {place} are damaged: decoding again"]
    assert np.array_equal(after.pixels, expected)
    assert (after.key, after.reasons, after.preprocessing) == (before.key, before.reasons, before.preprocessing)
    assert opened(folder, tmp_path / "cache")[1] == 0  # it is mended


@pytest.mark.slow
@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: fault.__name__)
def test_open_store_any_fault_of_a_listing_is_decoded_again(folder: Path, tmp_path: Path, fault: Fault) -> None:
    before, _, _ = opened(folder, tmp_path / "cache")
    (listing,) = (tmp_path / "cache" / "listings").iterdir()
    fault(listing)
    after, _, _ = opened(folder, tmp_path / "cache")
    assert np.array_equal(after.pixels, before.pixels)
    assert after.key == before.key


def changed(**values: Any) -> Fault:
    """Other values in about.json, which is still valid JSON."""

    def fault(place: Path) -> None:
        about = json.loads((place / "about.json").read_text())
        (place / "about.json").write_text(json.dumps({**about, **values}))

    return fault


def emptied_folder(place: Path) -> None:
    shutil.rmtree(place)
    place.mkdir()


def replaced_by_a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.write_text("not a folder")


def replaced_by_another(place: Path) -> None:
    """The store of other images under this name, complete and with valid checksums."""
    write_images(place.parents[2] / "other", animals(start=50) | {"cat/broken.png": b"x"})
    other, _, _ = opened(place.parents[2] / "other", place.parents[2] / "other-cache")
    shutil.rmtree(place)
    shutil.copytree(place.parents[2] / "other-cache" / "images" / other.key, place)


FOLDER_FAULTS: dict[str, Fault] = {
    "the folder is gone": shutil.rmtree,
    "the folder is empty": emptied_folder,
    "the folder is a file": replaced_by_a_file,
    "the folder is that of other images": replaced_by_another,
    "no pixels": lambda place: (place / "pixels.u8").unlink(),
    "another version": changed(format=2),
    "other preprocessing": changed(preprocessing={"height": 8}),
    "other reasons": changed(reasons={"0": "cannot be read"}),
    "no reasons": changed(reasons=None),
    "nested reasons": lambda place: (place / "about.json").write_text("[" * 100_000),
    "other checksums": changed(pixels=[1]),
    "no checksums": changed(pixels=[]),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_open_store_any_fault_of_a_store_is_decoded_again(folder: Path, tmp_path: Path, fault: str) -> None:
    before, _, _ = opened(folder, tmp_path / "cache")
    expected = np.array(before.pixels)
    FOLDER_FAULTS[fault](tmp_path / "cache" / "images" / before.key)
    after, decoded, _ = opened(folder, tmp_path / "cache")
    assert (decoded, after.key) == (13, before.key)
    assert np.array_equal(after.pixels, expected)
    assert opened(folder, tmp_path / "cache")[1] == 0


def test_open_store_that_cannot_be_replaced_is_used_without_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cache that belongs to another user."""
    before, _, _ = opened(folder, tmp_path / "cache")
    expected = np.array(before.pixels)
    place = tmp_path / "cache" / "images" / before.key
    zeroed(place / "pixels.u8")

    rmtree = shutil.rmtree

    def refuse(path: Path, **options: Any) -> None:
        if path == place:
            raise PermissionError(13, "Permission denied")
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    after, decoded, messages = opened(folder, tmp_path / "cache")
    assert decoded == 13
    assert messages[-1] == f"cannot replace {place} (Permission denied): remove it, or images are decoded again"
    assert np.array_equal(after.pixels, expected)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
@pytest.mark.parametrize("name", ["pixels.u8", "info.npy", "about.json"])
def test_open_store_unreadable_file_is_decoded_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: OSError
) -> None:
    """Root can read everything, so the error is raised here."""
    before, _, _ = opened(folder, tmp_path / "cache")
    unreadable = tmp_path / "cache" / "images" / before.key / name
    number = unreadable.stat().st_ino

    def refuse(path: Path) -> IO[bytes]:
        if path.stat().st_ino == number:
            raise error
        return open_regular(path)

    for module in (pixel_cache, checksums_module):
        monkeypatch.setattr(module, "open_regular", refuse)
    assert opened(folder, tmp_path / "cache")[1] == 13


OPEN = """
import sys
from pathlib import Path
from convscope import load_data
print(load_data(sys.argv[1]).fingerprint)
"""


def start_open(folder: Path, cache: Path, code: str = OPEN) -> subprocess.Popen[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_open_store_of_several_processes_at_once_gives_all_the_same(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", animals())
    for _ in range(2):  # with an empty cache, and with a damaged one
        processes = [start_open(folder, tmp_path / "cache") for _ in range(4)]
        answers = [process.communicate(timeout=120) for process in processes]
        assert len({out for out, _ in answers}) == 1, answers
        assert all(len(out) == 65 for out, _ in answers), answers
        (pixels,) = (tmp_path / "cache").rglob("pixels.u8")
        zeroed(pixels)


TRUNCATED = """
import os, sys
from pathlib import Path
from convscope import load_data
data = load_data(sys.argv[1])
(pixels,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("pixels.u8")
os.truncate(pixels, 0)
if len(sys.argv) > 2:
    import threading
    thread = threading.Thread(target=data.train.images.sum)
    thread.start()
    thread.join()
print(data.train.images.sum())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a truncated map behaves in other ways")
@pytest.mark.parametrize(
    "code", [TRUNCATED, TRUNCATED.replace("len(sys.argv) > 2", "True")], ids=["here", "in a thread"]
)
def test_store_truncated_while_in_use_ends_in_one_line(tmp_path: Path, code: str) -> None:
    folder = write_images(tmp_path / "set", animals(each=60))
    process = start_open(folder, tmp_path / "cache", code)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (3, "")
    (line,) = err.splitlines()
    assert line.startswith("convscope: /")
    assert line.endswith("pixels.u8 was truncated or cannot be read while it is in use: run the command again")


# Checksums


@pytest.mark.parametrize("size", [0, 1, 999, 2**12, 3 * 2**12, 3 * 2**12 + 1])
def test_checksums_have_one_number_per_chunk_and_see_every_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(checksums_module, "CHUNK_BYTES", 2**12)
    monkeypatch.setattr(checksums_module, "BLOCK_BYTES", 2**10)
    path = tmp_path / "a"
    path.write_bytes(np.random.default_rng(0).bytes(size))
    before = checksums(path)
    assert len(before) == -(-size // 2**12)
    for _ in range(min(size, 3)):
        flipped(path)
        assert checksums(path) != before
        flipped(path)
    assert checksums(path) == before
