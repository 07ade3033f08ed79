"""IDX, the file format of MNIST (LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/), plain or gzip.

Two zero bytes, a type byte, the number of dimensions, one big-endian 32-bit integer per dimension, then the values.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convscope.data.archives import find, naming, read_bytes
from convscope.data.dataset import DEFAULT_TEST_SPLIT, Dataset, Images, Split, default_test_split, numbered_classes
from convscope.errors import DataError

UNSIGNED_BYTE = 0x08
IMAGES, LABELS = (3, 4), (1,)  # the numbers of dimensions either kind of file may have


def parse_idx(content: bytes, dimensions: Sequence[int]) -> Images:
    """The array in an uncompressed IDX file: uint8, of the shape in its header, without a copy.

    dimensions: how many dimensions are allowed. Raises DataError for anything else than unsigned bytes, and where
    header and length do not agree.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]), dimensions=[1])
    array([7, 2, 1], dtype=uint8)
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"not an IDX file: it begins with {content[:4].hex(' ') or 'nothing'}, expected 00 00 08")
    if content[2] != UNSIGNED_BYTE:
        raise DataError(f"IDX values of type 0x{content[2]:02x}: expected unsigned bytes, type 0x08")
    if content[3] not in dimensions:
        expected = " or ".join(map(str, dimensions))
        raise DataError(f"an IDX array of rank {content[3]}: expected {expected}; are images and labels mixed up?")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"truncated in the IDX header: {len(content)} bytes, expected {start} or more")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if 0 in shape:
        raise DataError(f"empty: the IDX header says {shape}, expected at least one value")
    if len(content) != start + math.prod(shape):
        fault = "truncated" if len(content) < start + math.prod(shape) else "bytes left over"
        raise DataError(
            f"{fault}: the IDX header says {shape}, expected {start + math.prod(shape)} bytes, got {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def decode_pairs(contents: Sequence[bytes]) -> tuple[Split, Split]:
    """Train and test from the contents of train images, train labels, test images and test labels."""
    train_images, train_labels, test_images, test_labels = contents
    return _pair(train_images, train_labels), _pair(test_images, test_labels)


def read_idx(path: Path) -> Dataset:
    """The data set at `path`: an IDX file of images, or a folder of one pair of files or of a train and a test pair.

    Images: 3 dimensions (n, height, width) or 4 (n, height, width, channels). The labels of `x-images-idx3-ubyte` are
    `x-labels-idx1-ubyte` beside it; either may end in .gz. In a folder with two pairs the name of one has `train` in
    it, that of the other `t10k` or `test`. One pair alone is split, see `default_test_split`.
    """
    with naming(str(path)):
        files = _image_files(path) if path.is_dir() else [path]
    pairs = [_read_pair(file) for file in files]
    with naming(str(path)):
        train, test = pairs if len(pairs) == 2 else default_test_split(pairs[0])
        source = str(path) if len(pairs) == 2 else f"{path}; {DEFAULT_TEST_SPLIT}"
        return Dataset(path.resolve().name, numbered_classes(train.labels), train, test, source)


def has_idx(folder: Path) -> bool:
    """Whether a folder is one of IDX files."""
    with naming(str(folder)):
        return any(_is_images(path) for path in folder.iterdir())


def _pair(images: bytes, labels: bytes) -> Split:
    return Split(parse_idx(images, IMAGES), parse_idx(labels, LABELS).astype(np.int64))


def _read_pair(path: Path) -> Split:
    with naming(str(path)):
        images, labels_path = parse_idx(read_bytes(path), IMAGES), _labels_of(path)
    with naming(str(labels_path)):
        labels = parse_idx(read_bytes(labels_path), LABELS).astype(np.int64)
    with naming(f"{path} and {labels_path.name}"):
        return Split(images, labels)


def _image_files(folder: Path) -> list[Path]:
    """The only file of images in a folder, or the train and the test one."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):  # the plain file before the .gz, where both are there
        if _is_images(path):
            files.setdefault(path.name.removesuffix(".gz"), path)
    train = [path for name, path in files.items() if "train" in name]
    test = [path for name, path in files.items() if "t10k" in name or "test" in name]
    if len(files) == 1:
        return list(files.values())
    if not files:
        raise DataError("no IDX images in this folder: expected train-images-idx3-ubyte or the like, plain or .gz")
    if len(train) != 1 or len(test) != 1 or {*train, *test} != {*files.values()}:
        names = ", ".join(files)
        raise DataError(f"which images? Expected one train and one t10k or test file, found {names}: name one file")
    return train + test


def _is_images(path: Path) -> bool:
    return "images" in path.name and "idx" in path.name


def _labels_of(images: Path) -> Path:
    name = images.name.removesuffix(".gz")
    wanted = name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    if wanted == name:
        raise DataError("which labels? Expected file names such as x-images-idx3-ubyte and x-labels-idx1-ubyte")
    labels = find(images.parent, wanted)
    if labels is None:
        raise DataError(f"no labels: expected {wanted} beside it, plain or .gz")
    return labels
