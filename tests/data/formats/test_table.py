"""Tables of files and labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convscope.data.formats.table import list_table
from convscope.errors import DataError
from helpers.images import write_images

CSV = "file,label\na.png,cat\nb.png,dog\n"


def table(
    folder: Path, text: str, name: str = "all.csv", files: tuple[str, ...] = ("a.png", "b.png", "deep/c.png")
) -> Path:
    """A table, and files of one byte next to it."""
    write_images(folder, dict.fromkeys(files, b"x"))
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
        ("all.csv", "sep=;\nfile;label\na.png;cat\nb.png;dog\n"),
        ("all.csv", "file,label,,\na.png,cat,,\nb.png,dog,,\n,,,\n"),
        ("all.csv", "file|label\na.png|cat\nb.png|dog\n"),
        ("all.csv", "image_id,label\na,cat\nb,dog\n"),
        ("all.csv", "Image Id,Class Name\na,cat\nb,dog\n"),
        ("all.jsonl", '{"image": "a.png", "label": "cat"}\n\n{"image": "b.png", "label": "dog", "x": 1}\n'),
    ],
)
def test_list_table_reads_csv_and_json_lines(tmp_path: Path, name: str, text: str) -> None:
    found = list_table(table(tmp_path, text, name))
    assert found.files == ("a.png", "b.png")
    assert found.classes == ("cat", "dog")
    assert found.root == tmp_path


def test_list_table_keeps_its_splits(tmp_path: Path) -> None:
    found = list_table(table(tmp_path, "file,label,split\na.png,1,train\nb.png,2,Training\ndeep/c.png,1,test\n"))
    assert found.splits == ("train", "train", "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png,cat\nb.png,dog\n", "no column names: the first line is 'a.png,cat', expected file,label"),
        ("file,label\n", "no rows"),
        ("", "no column names"),
        (CSV + "x.png,cat\ny.png,dog\n", r"2 of 4 files do not exist, the first is .*x.png: paths are relative to"),
        (CSV + "a.png,dog\n", "line 4: a.png is dog, but was cat before: expected one label per file"),
        (CSV + ",dog\n", "line 4: no file: expected both on every line"),
        (CSV + "deep/c.png,\n", "line 4: no label"),
        ("file,label,split\na.png,cat,half\n", "line 2: unknown split 'half': expected train, val or test"),
        (CSV + f"deep/c.png,{'9' * 5000}\n", "line 4: a label of 5,000 characters, expected at most 1000"),
        ("file,label\na,cat\na.png,dog\n", "a and a.png are the same file: expected one row per file"),
        ("file,label\nc.png,cat\nx/c,dog\n", "1 of 2 files do not exist, the first is .*x/c"),
    ],
)
def test_list_table_bad_csv_raises(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_table(table(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file": "a.png", "label": "cat"}\n{"file"', "line 2: not JSON"),
        ('{"file": "a.png"}', "line 1: expected"),
        ("[" * 100_000, "line 1: nested too deeply"),
        (f'{{"file": "a.png", "label": {"9" * 5000}}}', "line 1: a label of 5,000 characters"),
        ("[1]", re.escape('line 1: expected {"file": ..., "label": ...}, got [1]')),
    ],
)
def test_list_table_bad_json_lines_raise(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_table(table(tmp_path, text, "all.jsonl"))


def test_list_table_other_encoding_raises(tmp_path: Path) -> None:
    path = table(tmp_path, "")
    path.write_bytes("file,label\na.png,Käfer\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text: save the table as UTF-8"):
        list_table(path)


def test_list_table_file_names_may_lack_folder_and_suffix(tmp_path: Path) -> None:
    path = table(tmp_path, "id,label\nc,cat\ncafe\u0301,dog\n", files=("images/c.jpg", "images/caf\u00e9.png", "c.txt"))
    assert list_table(path).files == ("images/c.jpg", "images/caf\u00e9.png")


def test_list_table_name_of_several_files_raises(tmp_path: Path) -> None:
    path = table(tmp_path, "id,label\nc,cat\na.png,dog\n", files=("a.png", "one/c.jpg", "two/c.png"))
    with pytest.raises(DataError, match=r"c may be one/c.jpg, two/c.png: write the path below the table's folder"):
        list_table(path)


def test_list_table_rows_without_a_split_are_left_out_with_a_warning(tmp_path: Path) -> None:
    found = list_table(table(tmp_path, "file,label,split\na.png,1,train\nb.png,2,test\ndeep/c.png,1,\n"))
    assert (found.files, found.splits) == (("a.png", "b.png"), ("train", "test"))
    (issue,) = found.issues
    assert (issue.kind, issue.level, issue.files) == ("without-split", "warning", (("deep/c.png",),))
    assert issue.text == "1 row without a split, among rows that have one"
