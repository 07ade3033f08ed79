"""Rows of the bad-input table: files in an empty folder, the command line, its exit code and the line it must print."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BadInput:
    """`prepare(folder)` writes the bad files and returns argv; `message` is a regular expression for the line."""

    name: str
    prepare: Callable[[Path], list[str]]
    exit_code: int
    message: str


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: NDArray[Any], kind: int = 8) -> bytes:
    """An IDX file, written by the definition of the format."""
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def images(n: int = 20) -> NDArray[np.uint8]:
    """n different gray images of 4x4 pixels."""
    return (np.arange(n * 16) % 251).astype(np.uint8).reshape(n, 4, 4)


def labels(n: int = 20) -> NDArray[np.int64]:
    """0 and 1 alternating."""
    return np.arange(n) % 2


GOOD_IMAGES, GOOD_LABELS = idx(images()), idx(labels())
HUGE = struct.pack(">HBB3I", 0, 8, 3, 1 << 31, 28, 28)  # the header of a file of 1.7 TB


KERAS: dict[str, NDArray[Any]] = {"x_train": images(), "y_train": labels(), "x_test": images(4), "y_test": labels(4)}


def _show(path: Path | str) -> list[str]:
    return ["data", "show", str(path)]


def _named(name: str) -> Callable[[Path], list[str]]:
    return lambda _: _show(name)


def _folder(files: dict[str, bytes]) -> Callable[[Path], list[str]]:
    """A folder of files."""

    def prepare(folder: Path) -> list[str]:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return _show(folder)

    return prepare


def _pair(images: bytes = GOOD_IMAGES, labels: bytes = GOOD_LABELS) -> Callable[[Path], list[str]]:
    return _folder({IMAGES: images, LABELS: labels})


def _file(name: str, content: bytes) -> Callable[[Path], list[str]]:
    """One file, which the command names."""

    def prepare(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return _show(folder / name)

    return prepare


def npz(**arrays: Any) -> bytes:
    """The bytes of an .npz."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _npz(**arrays: Any) -> Callable[[Path], list[str]]:
    return _file("set.npz", npz(**arrays))


def _object_npz() -> bytes:
    """An .npz whose images claim to be Python objects; it contains no pickle, because none may be read."""
    header, buffer = io.BytesIO(), io.BytesIO(npz(**{**KERAS, "x_train": labels()}))
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (20,)})
    with zipfile.ZipFile(buffer) as valid, zipfile.ZipFile(result := io.BytesIO(), "w") as archive:
        for name in valid.namelist():
            archive.writestr(name, header.getvalue() if name == "x_train.npy" else valid.read(name))
    return result.getvalue()


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def _rows(*rows: tuple[str, Callable[[Path], list[str]], str]) -> list[BadInput]:
    return [BadInput(name, prepare, 3, message) for name, prepare, message in rows]


NAMES = "expected digits, mnist, fashion-mnist, cifar10, or the path of a folder"

DATA_ROWS = _rows(
    ("name unknown", _named("mnits"), f"^unknown data set 'mnits', did you mean 'mnist'\\? {NAMES}"),
    ("name in capitals", _named("CIFAR10"), f"^unknown data set 'CIFAR10', did you mean 'cifar10'\\? {NAMES}"),
    ("name like no other", _named("zebra"), f"^unknown data set 'zebra': {NAMES}"),
    ("name empty", _named(""), f"^unknown data set '': {NAMES}"),
    ("path missing", _named("no/such/set.npz"), f"^no such file or folder: no/such/set.npz; {NAMES}"),
    ("path too long", _named("a" * 5000), "cannot be read .File name too long"),
    ("folder empty", _folder({}), "no class folders, 0 files: expected one folder of images per class"),
    (
        "folder of three",
        _folder({f"{name}-images-idx3-ubyte": GOOD_IMAGES for name in ("a", "b", "c")}),
        "ambiguous: expected .*found a-images-idx3-ubyte, b-images-idx3-ubyte, c-images-idx3-ubyte: name one file$",
    ),
    (
        "folder of train twice",
        _folder({f"{name}-images-idx3-ubyte": GOOD_IMAGES for name in ("train-test", "more")}),
        "ambiguous: expected one train.*found more-images-idx3-ubyte, train-test-images-idx3-ubyte: name one file$",
    ),
    (
        "unknown format",
        _file("cat.jpg", b"\xff\xd8\xff\xe0"),
        "cat.jpg: unknown format; expected a folder with one folder of images per class, a .zip",
    ),
    ("idx of no bytes", _pair(images=b""), f"{IMAGES}: not an IDX file: it begins with nothing"),
    ("idx magic", _pair(labels=_flip(GOOD_LABELS, 0)), f"{LABELS}: not an IDX file: it begins with ff 00 08 01"),
    ("idx of floats", _pair(images=idx(images(), kind=0x0D)), "values of type 0x0d: expected unsigned bytes"),
    ("idx header truncated", _pair(images=GOOD_IMAGES[:9]), "truncated in the IDX header: 9 bytes, expected 16"),
    ("idx truncated", _pair(images=GOOD_IMAGES[:-1]), r"truncated: .*\(20, 4, 4\), expected 336 bytes, got 335"),
    ("idx too long", _pair(labels=GOOD_LABELS + b"\0"), r"too long: .*\(20,\), expected 28 bytes, got 29"),
    ("idx of 1.7 TB", _pair(images=HUGE), r"truncated: .*\(2147483648, 28, 28\), expected 1683627180048 bytes, got 16"),
    ("idx of no images", _pair(images=idx(images(0)), labels=idx(labels(0))), r"empty: .* \(0, 4, 4\)"),
    ("idx of no height", _pair(images=idx(np.zeros((20, 0, 4)))), r"empty: .* \(20, 0, 4\)"),
    ("idx swapped", _pair(GOOD_LABELS, GOOD_IMAGES), f"{IMAGES}: an IDX array of rank 1: expected 3 or 4"),
    ("idx of 2 channels", _pair(images=idx(np.zeros((20, 4, 4, 2)))), "images have 2 channels.*expected 1, 3 or 4"),
    ("idx counts", _pair(labels=idx(labels(19))), f"{IMAGES} and {LABELS}: 20 images but 19 labels"),
    (
        "idx without labels",
        _folder({IMAGES: GOOD_IMAGES}),
        f"{IMAGES}: no labels: expected {LABELS} in the same folder",
    ),
    (
        "idx name without images",
        _file("pixels", GOOD_IMAGES),
        "pixels: cannot tell the file of labels.*x-images-idx3-ubyte",
    ),
    ("idx one class", _pair(labels=idx(np.zeros(20))), "only one class .0.: expected at least two"),
    (
        "idx label gap",
        _pair(labels=idx(labels() * 9)),
        r"labels with a gap: no training image of class 1, 2, 3, 4, 5 and 3 more,",
    ),
    (
        "idx one image per class",
        _pair(idx(images(2)), idx(labels(2))),
        "nothing can be held out: expected a class with two",
    ),
    (
        "idx test shape",
        _folder(
            {
                IMAGES: GOOD_IMAGES,
                LABELS: GOOD_LABELS,
                "t10k-images-idx3-ubyte": idx(np.zeros((20, 5, 4))),
                "t10k-labels-idx1-ubyte": GOOD_LABELS,
            }
        ),
        "train images are 4x4x1, test images 5x4x1",
    ),
    (
        "gz truncated",
        _folder({f"{IMAGES}.gz": gzip.compress(GOOD_IMAGES)[:-9], LABELS: GOOD_LABELS}),
        f"{IMAGES}.gz: the gzip is truncated or damaged",
    ),
    (
        "gz damaged",
        _folder({f"{IMAGES}.gz": _flip(gzip.compress(GOOD_IMAGES), 40), LABELS: GOOD_LABELS}),
        f"{IMAGES}.gz: the gzip is truncated or damaged",
    ),
    (
        "npz not a zip",
        _file("set.npz", b"x_train"),
        "set.npz: not an .npz, or a truncated one: expected a complete archive",
    ),
    ("npz truncated", _file("set.npz", npz(**KERAS)[:-30]), "set.npz: not an .npz, or a truncated one"),
    ("npz damaged", _file("set.npz", _flip(npz(**KERAS), 300)), "x_train: damaged .Bad CRC-32"),
    ("npz is npy", _file("set.npz", idx(images())), "not an .npz"),
    ("npz of objects", _file("set.npz", _object_npz()), "x_train: Python objects, which are never loaded"),
    ("npz empty", _npz(), "no known arrays, found none: expected x_train, y_train, x_test, y_test; train_images"),
    ("npz other arrays", _npz(a=images(), b=labels()), "no known arrays, found a, b: expected x_train"),
    ("npz NaN", _npz(**{**KERAS, "x_test": np.full((4, 4, 4), np.nan)}), "x_test: 64 of 64 values are NaN or infinite"),
    (
        "npz floats",
        _npz(**{**KERAS, "x_train": images() * 1.0}),
        r"x_train: floats from 0 to 250: expected floats in 0\.\.1",
    ),
    (
        "npz int images",
        _npz(**{**KERAS, "x_train": images().astype(int)}),
        r"images are int64 \(20, 4, 4, 1\): expected uint8",
    ),
    (
        "npz rank",
        _npz(images=images()[0], labels=labels(4)),
        r"images and labels: images are uint8 \(4, 4\): expected uint8",
    ),
    ("npz scalar", _npz(x=np.float64(1), y=labels()), r"x and y: images are uint8 \(\): expected uint8"),
    (
        "npz channels first",
        _npz(X=np.zeros((20, 3, 8, 8), np.uint8), y=labels()),
        "images have 8 channels.*as the last axis",
    ),
    ("npz counts", _npz(X=images(), y=labels(21)), "X and y: 20 images but 21 labels"),
    ("npz empty split", _npz(**{**KERAS, "x_test": images(0), "y_test": labels(0)}), "x_test and y_test: empty split"),
    ("npz float labels", _npz(X=images(), y=labels() / 2), "y: labels are float64 .20,.: expected integers"),
    ("npz words as labels", _npz(X=images(), y=np.array(["cat"] * 20)), "labels are <U3 .20,.: expected integers"),
    ("npz not one-hot", _npz(X=images(), y=np.ones((20, 2))), r"y: labels \(20, 2\) are not one-hot"),
    ("npz negative", _npz(X=images(), y=labels() - 1), "labels out of range in the train split: found -1"),
    (
        "npz wild label",
        _npz(X=images(), y=labels() * 10**12),
        r"no training image of class 1, 2, 3, 4, 5 and 999,999,999,994 more,.* 0\.\.10{12} among",
    ),
    (
        "npz test label",
        _npz(**{**KERAS, "y_test": labels(4) + 1}),
        r"labels out of range in the test split: found 2, expected 0\.\.1 for 2 classes",
    ),
    ("npz one class", _npz(X=images(), y=labels() * 0), "only one class .0.: expected at least two"),
    (
        "npz unused class",
        _npz(**KERAS, classes=["cat", "dog", "emu"]),
        r"no training image of class 2 .emu., expected every class 0\.\.2 among",
    ),
    ("npz too few names", _npz(**KERAS, classes=["cat"]), "only one class .cat."),
    ("npz same names", _npz(**KERAS, classes=["cat", "cat"]), "duplicate class names: cat"),
    (
        "npz control characters in names",
        _npz(**KERAS, classes=["cat", "do\x1b[31mg"]),
        "class names with control characters .*rename the classes",
    ),
    ("npz numbers as names", _npz(**KERAS, classes=[1, 2]), "classes is int64 .2,.: expected one string per class"),
)
