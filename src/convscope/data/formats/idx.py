"""IDX, the file format of MNIST (LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/), plain or gzipped.

Two zero bytes, a type byte, the number of dimensions, one big-endian 32-bit integer per dimension, then the values.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from convscope.data.archives import find_file, read_bytes
from convscope.data.dataset import Dataset, Split
from convscope.data.labeled import LabeledImages, describe_measured, numbered_images
from convscope.data.options import LoadContext
from convscope.data.splitting import DEFAULT_TEST_SPLIT_NOTE, default_test_split
from convscope.data.types import Images
from convscope.data.validation import error_prefix, numbered_classes
from convscope.errors import DataError

UNSIGNED_BYTE = 0x08
MAGIC = bytes([0, 0, UNSIGNED_BYTE])
IMAGE_RANKS, LABEL_RANKS = (3, 4), (1,)  # allowed numbers of dimensions


def is_idx(path: Path) -> bool:
    """Whether a path is an IDX file, by its name or its first bytes, or a folder with IDX files of images."""
    if path.is_dir():
        return any(_has_image_name(inner) for inner in path.iterdir())
    if _has_image_name(path):
        return True
    with suppress(DataError):
        return read_bytes(path, len(MAGIC)) == MAGIC
    return False


def read_idx(path: Path, _context: LoadContext | None = None) -> Dataset:
    """Read an IDX file of images, or a folder with one pair of files or with a train and a test pair.

    Images have 3 dimensions (n, height, width) or 4 (n, height, width, channels). The labels of `x-images-idx3-ubyte`
    are `x-labels-idx1-ubyte` in the same folder; either may end in .gz. In a folder with two pairs, the name of one
    contains `train`, that of the other `t10k` or `test`. A single pair gets the `default_test_split`.

    Args:
        path: the file or folder.

    Raises:
        DataError: files are missing, damaged or of another kind.
    """
    with error_prefix(str(path)):
        files = _image_files(path) if path.is_dir() else [path]
    pairs = [_read_pair(file) for file in files]
    with error_prefix(str(path)):
        train, test = pairs if len(pairs) == 2 else default_test_split(pairs[0])
        source = str(path) if len(pairs) == 2 else f"{path}; {DEFAULT_TEST_SPLIT_NOTE}"
        return Dataset(path.resolve().name, numbered_classes(train.labels), train, test, source)


def read_labeled_idx(path: Path, _context: LoadContext | None = None) -> LabeledImages:
    """Read the images of an IDX file or folder that measure a network: the test pair, or the only pair.

    Raises DataError as `read_idx` does.
    """
    with error_prefix(str(path)):
        files = _image_files(path) if path.is_dir() else [path]
    images = _read_pair(files[-1])
    split = "test" if len(files) == 2 else ""
    return numbered_images(images, describe_measured(str(path), split, len(images)))


def decode_idx_pairs(contents: Sequence[bytes]) -> tuple[Split, Split]:
    """Train and test split from the contents of train images, train labels, test images and test labels."""
    train_images, train_labels, test_images, test_labels = contents
    return _decode_pair(train_images, train_labels), _decode_pair(test_images, test_labels)


def decode_idx_images(content: bytes) -> Images:
    """Images, uint8 (n, h, w, 1), from the contents of a file of them."""
    return parse_idx(content, IMAGE_RANKS)[..., None]


def parse_idx(content: bytes, ranks: Sequence[int]) -> Images:
    """Parse an uncompressed IDX file.

    Args:
        content: the whole file.
        ranks: the allowed numbers of dimensions.

    Returns:
        uint8, of the shape in the header; it shares the memory of `content`.

    Raises:
        DataError: the values are not unsigned bytes, or header and length do not match.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]), ranks=[1])
    array([7, 2, 1], dtype=uint8)
    """
    shape = _parse_header(content, ranks)
    start = _header_size(len(shape))
    size = start + math.prod(shape)
    if len(content) != size:
        problem, got = ("truncated", len(content)) if len(content) < size else ("too long", f"{len(content)} or more")
        raise DataError(f"{problem}: the IDX header says {shape}, expected {size} bytes, got {got}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _parse_header(content: bytes, ranks: Sequence[int]) -> tuple[int, ...]:
    """The shape in the header; see `parse_idx`."""
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"not an IDX file: it begins with {content[:4].hex(' ') or 'nothing'}, expected 00 00 08")
    if content[2] != UNSIGNED_BYTE:
        raise DataError(f"IDX values of type 0x{content[2]:02x}: expected unsigned bytes, type 0x08")
    rank = content[3]
    if rank not in ranks:
        expected = " or ".join(map(str, ranks))
        raise DataError(f"an IDX array of rank {rank}: expected {expected}; are images and labels swapped?")
    start = _header_size(rank)
    if len(content) < start:
        raise DataError(f"truncated in the IDX header: {len(content)} bytes, expected {start} or more")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if 0 in shape:
        raise DataError(f"empty: the IDX header says {shape}, expected at least one value")
    return shape


def _header_size(rank: int) -> int:
    return 4 + 4 * rank


def _read_idx_file(path: Path, ranks: Sequence[int]) -> Images:
    """Read and parse one IDX file, of which at most one byte more is decompressed than its header says."""
    shape = _parse_header(read_bytes(path, _header_size(max(ranks))), ranks)
    return parse_idx(read_bytes(path, _header_size(len(shape)) + math.prod(shape) + 1), ranks)


def _decode_pair(images: bytes, labels: bytes) -> Split:
    return Split(parse_idx(images, IMAGE_RANKS), parse_idx(labels, LABEL_RANKS).astype(np.int64))


def _read_pair(path: Path) -> Split:
    with error_prefix(str(path)):
        images, labels_path = _read_idx_file(path, IMAGE_RANKS), _find_labels(path)
    with error_prefix(str(labels_path)):
        labels = _read_idx_file(labels_path, LABEL_RANKS).astype(np.int64)
    with error_prefix(f"{path} and {labels_path.name}"):
        return Split(images, labels)


def _image_files(folder: Path) -> list[Path]:
    """The only file of images in a folder, or the train and the test file."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):  # if both exist, the plain file comes before the .gz
        if _has_image_name(path):
            files.setdefault(path.name.removesuffix(".gz"), path)
    train = [path for name, path in files.items() if "train" in name]
    test = [path for name, path in files.items() if "t10k" in name or "test" in name]
    if len(files) == 1:
        return list(files.values())
    if len(train) != 1 or len(test) != 1 or {*train, *test} != {*files.values()}:
        names = ", ".join(files)
        raise DataError(f"ambiguous: expected one train and one t10k or test file, found {names}: name one file")
    return train + test


def _has_image_name(path: Path) -> bool:
    return "images" in path.name and "idx" in path.name


def _find_labels(images: Path) -> Path:
    name = images.name.removesuffix(".gz")
    wanted = name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    if wanted == name:
        raise DataError("cannot tell the file of labels: expected names like x-images-idx3-ubyte, x-labels-idx1-ubyte")
    labels = find_file(images.parent, wanted)
    if labels is None:
        raise DataError(f"no labels: expected {wanted} in the same folder, plain or .gz")
    return labels
