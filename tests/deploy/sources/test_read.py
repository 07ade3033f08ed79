"""Archives are read in place, damaged ones as far as they go, and every image comes once."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from convscope.deploy.sources import archives
from convscope.deploy.sources.find import find_images
from convscope.deploy.sources.items import EncodedImage, PassedOver
from convscope.deploy.sources.read import OnceFilter, count_images, read_archives
from convscope.errors import ImageError
from convscope.images.read import encode_png

PNG = encode_png(np.arange(600, dtype=np.uint8).reshape(20, 30, 1))
MEMBERS = {
    "10.png": PNG, "./cat/2.png": PNG, "cat/photo": PNG, "notes.txt": b"text", "data": b"data", "__MACOSX/._2.png": PNG,
    "cat/.hidden.png": PNG, "bad.png": b"bad",
}  # fmt: skip
IMAGES = ["10.png", "cat/2.png", "cat/photo", "bad.png"]


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def read(*sources: Path | str, done: frozenset[str] = frozenset()) -> tuple[list[object], PassedOver]:
    passed_over = PassedOver()
    found = find_images(sources, passed_over)
    return list(read_archives(found, passed_over, OnceFilter(done, passed_over))), passed_over


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_read_archives_yields_the_images_in_order_and_counts_the_rest(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / name, MEMBERS)
    found, passed_over = read(path)
    assert found == [EncodedImage(f"{path}/{image}", b"bad" if image == "bad.png" else PNG) for image in IMAGES]
    assert dict(passed_over.kinds) == {".txt": 1, "without a suffix": 1}


def test_read_archives_names_with_dots_are_no_reason_to_leave_an_image_out(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.zip", {"../../1.png": PNG, ".hidden/2.png": PNG, "/3.png": PNG})
    assert read(path)[0] == [EncodedImage(f"{path}/{name}", PNG) for name in ("../../1.png", "/3.png")]


def test_read_archives_done_images_are_not_read_again(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", MEMBERS)
    found, _ = read(path, done=frozenset({f"{path}/cat/2.png", f"{path}/bad.png"}))
    assert [one.name for one in found if isinstance(one, EncodedImage)] == [f"{path}/10.png", f"{path}/cat/photo"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_read_archives_cut_off_archive_gives_an_error_at_its_end(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    members = {f"{i}.png": encode_png(random.integers(0, 256, (60, 60, 1), np.uint8)) for i in range(9)}
    path = write_archive(tmp_path / name, members)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, _ = read(path)
    assert isinstance(found[-1], ImageError)
    assert found[-1].image == str(path)
    assert str(found[-1]).startswith(f"{path}: the archive is damaged or truncated (")
    assert len(found) >= (1 if name == "a.zip" else 4)  # the directory of a .zip is at its end


def test_read_archives_damaged_member_of_zip_is_an_error_among_the_others(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.zip", {"1.png": PNG, "2.png": PNG[::-1], "3.png": PNG})
    content = bytearray(path.read_bytes())
    at = content.index(b"2.png") + 40
    content[at : at + 8] = bytes(8)
    path.write_bytes(content)
    first, second, third = read(path)[0]
    assert (first, third) == (EncodedImage(f"{path}/1.png", PNG), EncodedImage(f"{path}/3.png", PNG))
    assert isinstance(second, ImageError)
    assert str(second).startswith(f"{path}/2.png: cannot be read (")


def test_read_archives_encrypted_member_is_an_error(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.zip", {"1.png": PNG})
    content = path.read_bytes()
    local, central = content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8
    edited = bytearray(content)
    edited[local] |= 1
    edited[central] |= 1
    path.write_bytes(edited)
    (error,) = read(path)[0]
    assert str(error).startswith(f"{path}/1.png: cannot be read (")
    assert "encrypted" in str(error)


def test_read_archives_huge_member_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1_000_000)
    path = write_archive(tmp_path / "a.zip", {"1.png": bytes(1_000_001), "2.png": PNG})
    error, image = read(path)[0]
    assert str(error) == f"{path}/1.png: more than 0.0 GB, expected one image"
    assert image == EncodedImage(f"{path}/2.png", PNG)


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_read_archives_file_that_is_no_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    (error,) = read(path)[0]
    assert str(error).startswith(f"{path}: the archive is damaged or truncated (")


def test_read_archives_without_images_is_an_error(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", {"a.txt": b"a"})
    (error,) = read(path)[0]
    assert str(error) == f"{path}: no images in this archive (1 other file); name another one"


def test_once_filter_an_image_named_twice_comes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in ("in/1.png", "in/2.png"):
        Path(name).write_bytes(PNG)
    found, passed_over = read("in/2.png", "in", "./in//1.png", "in/*.png")
    assert found == ["in/2.png", "in/1.png"]
    assert passed_over.messages == ["4 images named more than once: classified once"]


def test_count_images_is_known_without_reading_unless_there_is_a_tar(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(PNG)
    packed = write_archive(tmp_path / "a.zip", {"1.png": PNG, "x.txt": b""})
    tar = write_archive(tmp_path / "a.tar", {"1.png": PNG})
    found = list(find_images([tmp_path / "1.png", tmp_path / "2.png", packed], PassedOver()))
    assert count_images(found) == 3
    assert count_images(find_images([tar], PassedOver())) is None
