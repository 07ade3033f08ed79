"""IDX files: parsing, pairs of files, and damage."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cases.bad_inputs import GOOD_IMAGES, GOOD_LABELS, HUGE, idx, images, labels
from convscope.data.formats.idx import is_idx, parse_idx, read_idx
from convscope.errors import DataError


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)))
def test_parse_idx_round_trips(array: NDArray[np.uint8]) -> None:
    parsed = parse_idx(idx(array), ranks=[1, 2, 3, 4])
    assert parsed.dtype == np.uint8
    assert np.array_equal(parsed, array)


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"\0\0\x08\x03\0\0\0\x01\0\0\0\x02" + tail))
def test_parse_idx_other_bytes_raise_only_data_errors(content: bytes) -> None:
    try:
        assert parse_idx(content, ranks=[1, 3]).size == len(content) - 4 - 4 * content[3]
    except DataError as error:
        assert "expected" in str(error)


def test_read_idx_header_of_terabytes_needs_no_memory(tmp_path: Path) -> None:
    (tmp_path / "x-images-idx3-ubyte").write_bytes(HUGE)
    tracemalloc.start()
    with pytest.raises(DataError, match="truncated"):
        read_idx(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "spelling", ["{}-images-idx3-ubyte", "{}-images.idx3-ubyte", "emnist-letters-{}-images-idx3-ubyte"]
)
@pytest.mark.parametrize("second", ["t10k", "test"])
def test_read_idx_folder_with_two_pairs_is_train_and_test(tmp_path: Path, spelling: str, second: str) -> None:
    for name, n in (("train", 20), (second, 4)):
        file = spelling.format(name)
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(idx(images(n))))
        (tmp_path / file.replace("images", "labels").replace("idx3", "idx1")).write_bytes(idx(labels(n)))
    (tmp_path / "README").touch()
    dataset = read_idx(tmp_path)
    assert np.array_equal(dataset.train.images[..., 0], images(20))
    assert np.array_equal(dataset.test.images[..., 0], images(4))
    assert (dataset.name, dataset.source) == (tmp_path.name, str(tmp_path))


def test_read_idx_single_pair_is_split(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), np.uint8)
    path = tmp_path / "a-images-idx4-ubyte"
    path.write_bytes(idx(colors))
    (tmp_path / "a-labels-idx1-ubyte.gz").write_bytes(gzip.compress(GOOD_LABELS))
    dataset = read_idx(path)
    assert (len(dataset.train), len(dataset.test), dataset.shape) == (16, 4, (4, 5, 3))
    assert dataset.source == f"{path}; test split: a fixed, stratified 20 %"
    assert read_idx(tmp_path).fingerprint == dataset.fingerprint
    (tmp_path / "b-images-idx3-ubyte").write_bytes(GOOD_IMAGES)
    assert read_idx(path).fingerprint == dataset.fingerprint


def test_read_idx_file_both_plain_and_gzipped_counts_once(tmp_path: Path) -> None:
    for name, content in (("x-images-idx3-ubyte", GOOD_IMAGES), ("x-labels-idx1-ubyte", GOOD_LABELS)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}.gz").write_bytes(b"the plain file is read")
    assert len(read_idx(tmp_path).train) == 16


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x-images-idx3-ubyte.gz", b"damaged", True),  # the reader will say so
        ("pixels", GOOD_IMAGES, True),
        ("pixels", gzip.compress(GOOD_IMAGES), True),
        ("pixels", gzip.compress(b"text"), False),
        ("pixels", gzip.compress(GOOD_IMAGES)[:12], False),
        ("pixels", b"", False),
        ("cat.jpg", b"\xff\xd8\xff\xe0", False),
    ],
    ids=["name", "magic", "gzip", "gzip of text", "truncated gzip", "empty", "other"],
)
def test_is_idx_file_by_name_or_magic(tmp_path: Path, name: str, content: bytes, expected: bool) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_idx(tmp_path / name) == expected


@pytest.mark.parametrize("bomb", ["images", "labels"])
def test_read_idx_gzip_that_unpacks_to_more_is_not_unpacked(tmp_path: Path, bomb: str) -> None:
    for name, content in (("images-idx3", GOOD_IMAGES), ("labels-idx1", GOOD_LABELS)):
        with gzip.open(tmp_path / f"x-{name}-ubyte.gz", "wb") as file:
            file.write(content)
            if bomb in name:
                file.writelines(bytes(2**20) for _ in range(64))
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"x-{bomb}.*too long: the IDX header says .* or more"):
        read_idx(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_read_idx_gzip_with_header_of_terabytes_needs_no_memory(tmp_path: Path) -> None:
    (tmp_path / "x-images-idx3-ubyte.gz").write_bytes(gzip.compress(HUGE))
    tracemalloc.start()
    with pytest.raises(DataError, match="truncated"):
        read_idx(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
