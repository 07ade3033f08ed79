"""Which files a set of pictures is made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convscope.data.formats.listing import list_files
from convscope.errors import DataError
from helpers.pictures import write


def touched(folder: Path, *names: str) -> Path:
    return write(folder, dict.fromkeys(names, b"x"))


def test_a_folder_per_class_with_whatever_is_in_it(tmp_path: Path) -> None:
    folder = touched(
        tmp_path, "b/1.PNG", "b/deep/er/2.jpeg", "a/3", "a/.hidden.png", "a/Thumbs.db", "a/__MACOSX/4.png",
        ".git/5.png", "readme.txt", "A/6.gif",
    )  # fmt: skip
    found = list_files(folder)
    assert found.classes == ("A", "a", "b")
    assert found.files == ("A/6.gif", "a/3", "b/1.PNG", "b/deep/er/2.jpeg")
    assert [found.class_of(i) for i in range(4)] == ["A", "a", "b", "b"]
    assert found.strays == ("readme.txt",)
    assert found.parts == ()
    assert found.path(1) == folder / "a" / "3"


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    assert list_files(touched(tmp_path, "10/x", "9/x", "other/x")).classes == ("9", "10", "other")


def test_an_archives_only_folder_is_entered(tmp_path: Path) -> None:
    found = list_files(touched(tmp_path, "all/inner/cat/1", "all/inner/dog/2", "__MACOSX/x"))
    assert found.root == tmp_path / "all" / "inner"
    assert found.classes == ("cat", "dog")


def test_links_are_followed_but_never_in_a_circle(tmp_path: Path) -> None:
    folder = touched(tmp_path, "set/cat/1", "set/dog/1", "elsewhere/2")
    (folder / "set" / "cat" / "more").symlink_to(folder / "elsewhere")
    (folder / "set" / "dog" / "up").symlink_to(folder / "set" / "dog")
    (folder / "set" / "dog" / "gone").symlink_to(folder / "nowhere")
    assert list_files(folder / "set").files == ("cat/1", "cat/more/2", "dog/1", "dog/gone")


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "valid", "TEST"), ("train", "dev", "testing")]
)
def test_splits_of_its_own_are_kept(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = list_files(touched(tmp_path, *(f"{name}/{label}/1" for name in names for label in ("cat", "dog"))))
    parts = {found.files[i].partition("/")[0]: found.parts[i] for i in range(len(found))}
    assert parts == dict(zip(names, ("train", "validation", "test"), strict=True))
    assert found.classes == ("cat", "dog")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = list_files(touched(tmp_path, "train/1", "bus/1", "car/1"))
    assert found.classes == ("bus", "car", "train")
    assert found.parts == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no class folders, 0 files: expected one folder of images per class"),
        (("1.png",), "no class folders, 1 files"),
        (("cat/1",), "only one class, cat: expected a folder per class"),
        (("cat/1", "dog/.hidden"), "no files in the class folder dog: put images there"),
        (
            ("train/a/1", "train/b/1", "test/a/1", "test/c/1"),
            "train has other classes than test: it lacks c and has in addition b; name them alike",
        ),
        (tuple(f"{i}/x" for i in range(1001)), "1,001 classes of 1.0 files each: expected at most 1,000"),
    ],
)
def test_what_is_no_set_of_classes(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_files(touched(tmp_path, *names))


CSV = "file,label\na.png,cat\nb.png,dog\n"


def table(
    folder: Path, text: str, name: str = "all.csv", files: tuple[str, ...] = ("a.png", "b.png", "deep/c.png")
) -> Path:
    touched(folder, *files)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("all.csv", CSV),
        ("all.csv", "\ufeffFile, Label\r\nb.png, dog\r\na.png, cat\r\n"),
        ("all.csv", "filename;class\na.png;cat\nb.png;dog\n"),
        ("all.tsv", "class\tpath\tsize\ncat\ta.png\t3\ndog\tb.png\t4\n"),
        ("all.csv", CSV + "a.png,cat\n"),
        ("all.jsonl", '{"image": "a.png", "label": "cat"}\n\n{"image": "b.png", "label": "dog", "x": 1}\n'),
    ],
)
def test_tables(tmp_path: Path, name: str, text: str) -> None:
    found = list_files(table(tmp_path, text, name))
    assert found.files == ("a.png", "b.png")
    assert found.classes == ("cat", "dog")
    assert found.root == tmp_path


def test_a_table_may_split(tmp_path: Path) -> None:
    found = list_files(table(tmp_path, "file,label,split\na.png,1,train\nb.png,2,Training\ndeep/c.png,1,test\n"))
    assert found.parts == ("train", "train", "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png,cat\nb.png,dog\n", "all.csv: no column names: the first line is 'a.png,cat', expected file,label"),
        ("file,label\n", "no rows"),
        ("", "no column names"),
        (CSV + "x.png,cat\ny.png,dog\n", r"2 of 4 files are not there, the first is .*x.png: paths start from"),
        (CSV + "a.png,dog\n", "line 4: a.png is dog, but was cat before: expected one label per file"),
        (CSV + ",dog\n", "line 4: no file: expected both on every line"),
        (CSV + "deep/c.png,\n", "line 4: no label"),
        ("file,label,split\na.png,cat,half\n", "line 2: the split is 'half', expected train, val or test"),
        (
            "file,label,split\na.png,cat,train\nb.png,dog,\n",
            "splits without train or without test: found 1 train, 1 of",
        ),
        ("file,label\na.png,cat\nb.png,cat\n", "only one class, cat"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_files(table(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file": "a.png", "label": "cat"}\n{"file"', "line 2: no JSON"),
        ('{"file": "a.png"}', "line 1: expected"),
        ("[1]", re.escape('line 1: expected {"file": ..., "label": ...}, got [1]')),
    ],
)
def test_wrong_json_lines(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_files(table(tmp_path, text, "all.jsonl"))


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    path = table(tmp_path, "")
    path.write_bytes("file,label\na.png,Käfer\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text: save the table as UTF-8"):
        list_files(path)


def test_another_file_is_neither(tmp_path: Path) -> None:
    touched(tmp_path, "a.png")
    with pytest.raises(
        DataError, match=r"a file: expected a folder with a folder of pictures per class, or one of \.csv"
    ):
        list_files(tmp_path / "a.png")
