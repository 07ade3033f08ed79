"""Folders, patterns and lists become images; what is not one is counted, and nothing blocks or is read in circles."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from convscope.deploy.sources.find import find_images
from convscope.deploy.sources.items import Archive, Found, PassedOver
from convscope.errors import ImageError
from convscope.images.read import encode_png

PNG = encode_png(np.zeros((2, 3, 1), np.uint8))


def write(folder: Path, *names: str, content: bytes = PNG) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def names(found: list[Found]) -> list[str]:
    """Paths; errors as their message after "!"."""
    return [f"!{one}" if isinstance(one, ImageError) else str(one) for one in found]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find(*sources: str | Path) -> tuple[list[str], PassedOver]:
    passed_over = PassedOver()
    return names(list(find_images(sources, passed_over))), passed_over


@pytest.mark.usefixtures("here")
def test_find_images_of_folder_searches_it_in_natural_order_and_counts_the_rest(here: Path) -> None:
    write(here, "in/10.png", "in/9.PNG", "in/b2/x.jpg", "in/b10/x.webp", "in/.hidden.png", "in/b2/Thumbs.db")
    write(here, "in/photo", "in/c/scan.dat")
    write(here, "in/notes.txt", "in/README", "in/c/data", content=b"text")
    found, passed_over = find("in")
    assert found == ["in/9.PNG", "in/10.png", "in/b2/x.jpg", "in/b10/x.webp", "in/c/scan.dat", "in/photo"]
    assert dict(passed_over.kinds) == {".txt": 1, "without a suffix": 2}
    assert passed_over.messages == ["passed over 3 files other than images: 2 without a suffix, 1 .txt"]


def test_find_images_of_folder_without_images_is_an_error(here: Path) -> None:
    write(here, "in/a.txt", "in/b.csv", content=b"")
    (here / "empty").mkdir()
    assert find("in", "empty")[0] == [
        "!in: no images in this folder (2 other files); name another one, or single files",
        "!empty: no images in this folder (0 other files); name another one, or single files",
    ]


def test_find_images_results_of_trainings_are_passed_over(here: Path) -> None:
    write(here, "in/a.png", "in/run/plots/b.png")
    write(here, "in/run/config.json", "in/run/manifest.json", content=b"{}")
    found, passed_over = find("in")
    assert found == ["in/a.png"]
    assert passed_over.messages == ["passed over 1 folder with results of a training: in/run"]
    assert find("in/run")[0] == ["!in/run: a folder with results of a training; name one with images"]


def test_find_images_links_are_followed_but_not_in_circles(here: Path) -> None:
    write(here, "in/a/1.png", "other/2.png")
    for name, target in {
        "in/a/up": "..", "in/a/top": "../..", "in/a/here": ".",
        "in/b": "a", "in/c": "../other", "in/d": "../other", "in/self": "self",
        "in/e.png": "a/1.png", "in/gone.png": "none.png", "in/gone.txt": "none.txt",
    }.items():  # fmt: skip
        (here / name).symlink_to(target)
    found, passed_over = find("in")
    assert found == ["in/a/1.png", "in/c/2.png", "in/e.png", "in/gone.png"]
    assert dict(passed_over.kinds) == {"neither a file nor a folder": 2}


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_find_images_pipes_and_devices_in_a_folder_are_passed_over(here: Path) -> None:
    write(here, "in/1.png")
    os.mkfifo(here / "in/pipe.png")
    (here / "in/zero.png").symlink_to("/dev/zero")
    found, passed_over = find("in")
    assert found == ["in/1.png"]
    assert dict(passed_over.kinds) == {"neither a file nor a folder": 2}


def test_find_images_unreadable_folder_is_an_error_among_the_others(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here, "in/a/1.png", "in/b/2.png", "in/c/3.png")
    scandir = os.scandir

    def refuse(path: str) -> object:  # root may read everything
        if path == "in/b":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find("in")[0]
    assert found == ["in/a/1.png", "!in/b: cannot be read (Permission denied); check its permissions", "in/c/3.png"]


def test_find_images_very_deep_folders_are_searched(here: Path) -> None:
    depth = 1_050  # deeper than Python's limit of recursion
    (here / "in").mkdir()
    os.chdir("in")
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    write(Path(), "1.png")
    os.chdir(here)
    found = find("in")[0]
    os.chdir("/".join(["in", *"d" * depth]))
    Path("1.png").unlink()
    for _ in range(depth):  # pytest cannot remove it
        os.chdir("..")
        Path("d").rmdir()
    assert found == ["/".join(["in", *"d" * depth, "1.png"])]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", ["in/2.png", "in/10.png"]),
        ("in/?.png", ["in/2.png"]),
        ("in/[0-5].png", ["in/2.png"]),
        ("in/**/*.png", ["in/2.png", "in/10.png", "in/a/4.png", "in/a/b/3.png"]),
        ("in/**/b/*.png", ["in/a/b/3.png"]),
        ("in/**/b/**", ["in/a/b/3.png"]),
        ("**/4.png", ["in/a/4.png"]),
        ("in/*", ["in/2.png", "in/10.png", "in/a/4.png", "in/a/b/3.png", "Archive:in/z.zip"]),
        ("in/*.zip", ["Archive:in/z.zip"]),
        ("in/*.gif", ["!in/*.gif: no file matches; check the spelling and the folder"]),
        ("none/**/*.png", ["!none/**/*.png: no file matches; check the spelling and the folder"]),
    ],
)
def test_find_images_of_pattern_is_what_it_matches(here: Path, pattern: str, expected: list[str]) -> None:
    write(here, "in/10.png", "in/2.png", "in/a/b/3.png", "in/a/4.png")
    write(here, "in/x.txt", "in/z.zip", content=b"")
    found = list(find_images([pattern], PassedOver()))
    assert [f"Archive:{one.path}" if isinstance(one, Archive) else names([one])[0] for one in found] == expected


def test_find_images_name_with_brackets_is_a_file_if_there_is_one(here: Path) -> None:
    write(here, "a[1].png", "a1.png")
    assert find("a[1].png")[0] == ["a[1].png"]


def test_find_images_anything_but_paths_stays_as_it_is(here: Path) -> None:
    array = np.zeros((2, 2), np.uint8)
    found = list(find_images([array, PNG, "-", here / "none.png"], PassedOver()))
    assert found[0] is array
    assert found[1:] == [PNG, "-", here / "none.png"]
