"""Rows of the bad-input table: folders and tables of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cases.bad_inputs import BadInput
from helpers.images import Pixels, animals, noise, write_images

Content = Mapping[str, Pixels | bytes]
TABLE = "file,label\n" + "".join(f"{name},{name[:3]}\n" for name in animals())


def _set(images: Content, *words: str) -> Callable[[Path], list[str]]:
    """The images in the folder `set`, which the words name."""

    def prepare(folder: Path) -> list[str]:
        write_images(folder / "set", images)
        return list(words)

    return prepare


def _rows(exit_code: int, *rows: tuple[str, Content, str, str]) -> list[BadInput]:
    return [
        BadInput(f"{name}: {line}", _set(images, *line.split()), exit_code, message)
        for name, images, line, message in rows
    ]


def _table(text: str) -> Content:
    return animals() | {"all.csv": text.encode()}


CHECK = "data check set"
CIFAR, CIFAR_100 = ("c/data_batch_1", "c/data_batch_2"), ("train", "test", "meta")
FOLDER_ROWS = [
    *_rows(
        3,
        ("one class", {"cat/1.png": noise(1), "cat/2.png": noise(2)}, CHECK, "^set: only one class, cat: expected a"),
        ("one class", {"cat/1.png": noise(1)}, "train set", "^set: only one class, cat: expected a folder per class"),
        ("no classes", {"1.png": noise(1)}, "train ./set", "^set: no class folders, 1 file: expected one folder"),
        ("empty class", animals() | {"owl/.gitkeep": b""}, "train set", "^set: no files in the class folder owl: put"),
        ("3 images", animals() | {f"owl/{i}.png": noise(i + 40) for i in range(3)}, "train set", r"in owl \(3\): exp"),
        ("a file", {"a.txt": b"cat"}, "data check set/a.txt", "^set/a.txt: a file of another kind: expected a folder"),
        ("an image", {"a.png": noise(1)}, "train set/a.png", "^set/a.png: unknown format; expected a folder with"),
        ("missing", {}, "data check sett", "^sett: no such file or folder; expected a folder with"),
        ("7z", {"x.7z": b"7z"}, "data check set/x.7z", r"a \.zip or .*, \.tsv, .* labels, or a \.parquet$"),
        ("json", {"x.json": b"[]"}, "train set/x.json", r"a \.zip or \.tar of it, a \.csv .*, a \.parquet, an \.npz"),
        ("cifar pickles", dict.fromkeys(CIFAR, b"x"), "train set", "^set: data_batch_1: Python pickles of CIFAR, w"),
        ("cifar files", dict.fromkeys(CIFAR_100, b"x"), CHECK, "^set: meta, test, train: Python pickles of CI"),
        ("zips", {"cat.zip": b"", "dog.zip": b""}, CHECK, "2 archives may hold them: unpack cat.zip, dog.zip$"),
        (
            "one folder and a table",
            {"all/1.png": noise(1), "all/2.png": noise(2), "labels.csv": b"file,label"},
            CHECK,
            "only one class, all: .*; the 1 table next to the class folders: labels.csv may have them$",
        ),
        ("missing files", _table(TABLE + "owl/1.png,owl\n"), "train set/all.csv", "1 of 13 files do not exist, the"),
        ("two labels", _table(TABLE + "cat/1.png,dog\n"), "train set/all.csv", "line 14: cat/1.png is dog, but was"),
        ("no header", _table(TABLE.partition("\n")[2]), "train set/all.csv", "no column names: the first line is"),
        ("nothing", {"a/1.png": b"", "b/2.png": b"x"}, "train set", "none of 2 files is an image; the first, a/1"),
        ("1,200 classes", {f"{i}/1.png": b"x" for i in range(1200)}, "train set", "1,200 classes of 1.0 files"),
        (
            "train copied",
            {f"{part}/{name}": some for part in ("train", "test") for name, some in animals().items()},
            "train set",
            "^set: no usable image in train: its 12 files are excluded: 12 that are also in another split; replace",
        ),
        (
            "a class copied",
            {f"train/{name}": some for name, some in animals().items()}
            | {f"test/{name}": some for name, some in animals(6, 300).items()}
            | {f"test/{name}": some for name, some in animals().items() if name.startswith("cat")},
            "train set",
            "^set: no training image of cat: its images are 6 in test; its training files are excluded: "
            "6 that are also in another split; move",
        ),
        (
            "other classes",
            {f"{part}/{name}/1.png": noise(1) for part, names in (("train", "ab"), ("test", "ac")) for name in names},
            "train set",
            "^set: test has classes that train lacks: c, and no b; use the same names in both$",
        ),
    ),
    *_rows(
        2,
        ("pattern", animals(), "train set --group-by (", r"^--group-by '\(' is not a regular expression: missing"),
        ("no match", animals(), "data check set --group-by owl", "^--group-by 'owl' matches no file name: expected"),
        ("channels", animals(), "train set --channels 2", "^--channels 2: expected 1, 3 or 4$"),
        ("size", animals(), "train set --image-size 1", "^Invalid value for '--image-size': "),
    ),
]  # fmt: skip
