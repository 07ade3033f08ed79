"""Folders of images: which files belong to the data set, with which class and split."""

from __future__ import annotations

from pathlib import Path

import pytest

from convscope._reporting import SilentReporter
from convscope.data.folders.layout import Reading
from convscope.data.formats.image_folder import list_folder
from convscope.data.load import load_data
from convscope.data.options import LoadOptions
from convscope.errors import DataError
from helpers.images import noise, write_images


def touched(folder: Path, *names: str) -> Path:
    """Files of one byte."""
    return write_images(folder, dict.fromkeys(names, b"x"))


def test_list_folder_has_the_files_in_class_folders(tmp_path: Path) -> None:
    folder = touched(
        tmp_path, "b/1.PNG", "b/deep/er/2.jpeg", "a/3", "a/.hidden.png", "a/Thumbs.db", "a/__MACOSX/4.png",
        ".git/5.png", "readme.txt", "A/6.gif",
    )  # fmt: skip
    found = list_folder(folder)
    assert found.classes == ("A", "a", "b")
    assert found.files == ("A/6.gif", "a/3", "b/1.PNG", "b/deep/er/2.jpeg")
    assert [found.class_of(i) for i in range(4)] == ["A", "a", "b", "b"]
    assert found.strays == ("readme.txt",)
    assert found.splits == ()
    assert found.split_of(1) == ""
    assert found.path(1) == folder / "a" / "3"


def test_list_folder_classes_are_in_natural_order(tmp_path: Path) -> None:
    assert list_folder(touched(tmp_path, "10/x", "9/x", "s10/x", "s2/x", "s1/x")).classes == (
        "9", "10", "s1", "s2", "s10",
    )  # fmt: skip


def test_list_folder_enters_the_only_folder_of_an_archive(tmp_path: Path) -> None:
    found = list_folder(touched(tmp_path, "all/inner/cat/1", "all/inner/dog/2", "__MACOSX/x"))
    assert found.root == tmp_path / "all" / "inner"
    assert found.classes == ("cat", "dog")


def test_list_folder_follows_links_but_not_in_a_circle(tmp_path: Path) -> None:
    folder = touched(tmp_path, "set/cat/1", "set/dog/1", "elsewhere/2")
    (folder / "set" / "cat" / "more").symlink_to(folder / "elsewhere")
    (folder / "set" / "dog" / "up").symlink_to(folder / "set" / "dog")
    (folder / "set" / "dog" / "gone").symlink_to(folder / "nowhere")
    assert list_folder(folder / "set").files == ("cat/1", "cat/more/2", "dog/1", "dog/gone")


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "valid", "TEST"), ("train", "dev", "testing")]
)
def test_list_folder_keeps_its_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = list_folder(touched(tmp_path, *(f"{name}/{label}/1" for name in names for label in ("cat", "dog"))))
    splits = {found.files[i].partition("/")[0]: found.split_of(i) for i in range(len(found))}
    assert splits == dict(zip(names, ("train", "validation", "test"), strict=True))
    assert found.classes == ("cat", "dog")


def test_list_folder_class_may_be_called_train(tmp_path: Path) -> None:
    found = list_folder(touched(tmp_path, "train/1", "bus/1", "car/1"))
    assert found.classes == ("bus", "car", "train")
    assert found.splits == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no class folders, 0 files: expected one folder of images per class"),
        (("1.png",), "no class folders, 1 file:"),
        (("1.png", "labels.csv"), "no class folders, 2 files: .*; if labels.csv has their labels, name it instead"),
        (("cat/1", "dog/.hidden"), "no files in the class folder dog: put images there"),
        (
            ("train/a/1", "train/b/1", "test/a/1", "test/c/1"),
            "test has classes that train lacks: c, and no b; use the same names in both",
        ),
    ],
)
def test_list_folder_without_classes_raises(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_folder(touched(tmp_path, *names))


def test_list_folder_unicode_normal_forms_are_the_same_class(tmp_path: Path) -> None:
    found = list_folder(touched(tmp_path, "train/caf\u00e9/1", "train/tea/1", "val/cafe\u0301/1", "val/tea/1"))
    assert found.classes == ("caf\u00e9", "tea")
    assert found.files[2] == "val/cafe\u0301/1"


@pytest.mark.parametrize(
    ("train", "other", "split"), [("train", "validate", "validation"), ("trainval", "test", "test")]
)
@pytest.mark.parametrize("level", [None, 2])
def test_list_folder_trainval_and_validate_are_splits(
    tmp_path: Path, train: str, other: str, split: str, level: int | None
) -> None:
    files = [f"{part}/{name}/1" for part in (train, other) for name in "ab"]
    found = list_folder(touched(tmp_path, *files), Reading(level))
    assert (found.classes, set(found.splits)) == (("a", "b"), {"train", split})


@pytest.mark.parametrize("odd", [{}, {f"cat/broken{i}.png": bytes([i]) for i in range(4)}])
def test_load_data_file_side_is_the_shorter_one_of_the_median_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: dict[str, bytes]
) -> None:
    """Of the files that can be read, whatever size the network's images have."""
    sides = [20, 20, 20, 20, 33, 33, 33, 90, 90, 90]
    images = {f"{'cat' if i % 2 else 'dog'}/{i}.png": noise(i, side, side + 7 * i) for i, side in enumerate(sides)}
    folder = write_images(tmp_path / "set", {**images, **odd})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = load_data(folder, LoadOptions(image_size=16), SilentReporter())
    assert (found.file_side, found.shape) == (33, (16, 16, 3))


def test_load_data_arrays_have_no_file_side() -> None:
    assert load_data("digits").file_side is None
