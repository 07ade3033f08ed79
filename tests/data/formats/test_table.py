"""Tables of files and labels."""

from __future__ import annotations

import json
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
        ("all.csv", ",file,label\n0,a.png,cat\n1,b.png,dog\n"),
        ("all.csv", '"file","label"\r\n"a.png","cat"\r\n"b.png","dog"\r\n'),
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
        ("file,label\na.png,Corn, rust\n", "line 2: 3 cells, but 2 columns: put quotes around values that contain ','"),
        ("file,label,Label\na.png,cat,dog\n", "two columns are called label: rename the one that is not meant"),
        ("file,label,split,split\na.png,cat,train,test\n", "two columns are called split"),
        ('file,label\na.png,"cat\nb.png,"dog, big"\n', "line 2: .*; is a quote missing.* inside a quoted cell twice"),
        ('file,label\nb.png,"dog, big"\na.png,"cat\nc,cat\n', "line 3: unexpected end of data; is a quote missing"),
        (
            'file,label\nb.png,"dog, a"\n"a.png,cat\nc.png",cat\n',
            "line 3: an open quote or a line break in the file, label or split",
        ),
        ('file,label\na.png,"cat\nb.png,dog\n', "line 2: an open quote or a line break in the file, label or split"),
        ("filename,species\na.png,cat\n", "no column of labels: found filename, species; expected one called label"),
        ("image,MEL,NV\na.png,1,0\n", "no column of labels: found image, MEL, NV; expected one called label"),
        ("bild,label\na.png,cat\n", "no column of files: found bild, label; expected one called file"),
        ("file,label\nhttps://x.org/a.png,cat\n", "line 2: https://x.org/a.png is an address: download the files, and"),
        ("file,label,part\na.png,1,train\nb.png,2,half\n", "line 3: unknown split 'half': .* in column part"),
        (
            "file,label,one,two\na.png,1,train,test\nb.png,2,test,train\n",
            "columns one, two hold different splits: call the right one split",
        ),
    ],
)
def test_list_table_bad_csv_raises(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_table(table(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file": "a.png", "label": "cat"}\n{"file"', "line 2: not JSON"),
        ('{"file": "a.png"}', "line 1: no label: expected both on every line"),
        (
            '{"file": "a.png", "label": "cat", "Label": "dog"}',
            "two columns are called label: rename the one that is not",
        ),
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


THREE = ("a.png", "b.png", "deep/c.png")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("all.csv", 'file,label,title\na.png,cat,"5 inch\nb.png,dog,t\ndeep/c.png,cat,t\n'),
        ("all.tsv", 'file\tlabel\ttitle\na.png\tcat\t"Best\nb.png\tdog\tt\ndeep/c.png\tcat\t"So\n'),
        ("all.tsv", 'file\tlabel\ttitle\na.png\t"cat"\t"Best\nb.png\tdog\tt\ndeep/c.png\tcat\tSo"\n'),
        ("all.csv", 'file,label,title\na.png,cat,5" pipe\nb.png,dog,"Best" film\ndeep/c.png,"cat","a, ""b"""\n'),
        ("all.csv", 'file,title,label\na.png,"Best\n",cat\nb.png,"a, b",dog\ndeep/c.png,5",cat\n'),
    ],
)
def test_list_table_quotes_hide_no_rows(tmp_path: Path, name: str, text: str) -> None:
    found = list_table(table(tmp_path, text, name))
    assert found.files == THREE
    assert [found.class_of(i) for i in range(3)] == ["cat", "dog", "cat"]


@pytest.mark.parametrize("broken", ["one, with\na second line", "one\ntwo, three, four"])
def test_list_table_line_break_in_another_column_is_a_warning(tmp_path: Path, broken: str) -> None:
    text = f'file,label,title\na.png,cat,"{broken}"\nb.png,dog,"x"\ndeep/c.png,cat,y\n'
    found = list_table(table(tmp_path, text))
    assert found.files == THREE
    (issue,) = found.issues
    assert (issue.kind, issue.level) == ("line-break", "warning")
    assert issue.text == "1 row with line breaks inside quotes, from line 2"


@pytest.mark.parametrize(
    "column", ["partition", "dataset", "data set", "phase", "Usage", "image_set", "train_test", "mode", "folder"]
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_list_table_column_of_splits_is_found_by_its_values(tmp_path: Path, column: str, kind: str) -> None:
    values = ["train", "Testing", "val"]
    if kind == "csv":
        text = f"file,label,{column}\n" + "".join(f"{file},x{i},{values[i]}\n" for i, file in enumerate(THREE))
    else:
        text = "\n".join(json.dumps({"file": file, "label": i, column: values[i]}) for i, file in enumerate(THREE))
    found = list_table(table(tmp_path, text, f"all.{kind}"))
    assert found.splits == ("train", "test", "validation")
    noted = [issue.text for issue in found.issues]
    assert noted in ([], [f"column {column.replace(' ', '_')} holds test, train, validation"])


def test_list_table_splits_with_other_words_around_are_read(tmp_path: Path) -> None:
    found = list_table(
        table(tmp_path, "file,label,Usage\na.png,1,Training\nb.png,2,PublicTest\ndeep/c.png,1,PrivateTest\n")
    )
    assert found.splits == ("train", "test", "test")


@pytest.mark.parametrize("values", [("head", "leg", "head"), ("0", "1", "1")])
def test_list_table_part_that_is_no_split_is_ignored_with_a_note(tmp_path: Path, values: tuple[str, ...]) -> None:
    rows = "".join(f"{file},{i},{value}\n" for i, (file, value) in enumerate(zip(THREE, values, strict=True)))
    found = list_table(table(tmp_path, f"file,label,part\n{rows}"))
    assert found.splits == ()
    (issue,) = found.issues
    assert (issue.level, issue.action) == ("note", "not used")
    assert issue.text == f"column part holds {', '.join(sorted(set(values)))}, no splits"


@pytest.mark.parametrize("column", ["is_train", "is_training_img", "is_valid", "test"])
def test_list_table_flag_that_may_tell_the_split_is_a_warning(tmp_path: Path, column: str) -> None:
    found = list_table(table(tmp_path, f"file,label,{column}\na.png,1,1\nb.png,2,0\ndeep/c.png,1,1\n"))
    (issue,) = found.issues
    assert (issue.level, issue.text) == ("warning", f"column {column} may tell the split")
    assert found.splits == ()


@pytest.mark.parametrize("column", ["title", "source", "age"])
def test_list_table_other_columns_are_no_splits(tmp_path: Path, column: str) -> None:
    found = list_table(table(tmp_path, f"file,label,{column}\na.png,1,train\nb.png,2,bus\ndeep/c.png,1,train\n"))
    assert (found.splits, found.issues) == ((), ())
