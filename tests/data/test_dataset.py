"""Data sets: what is read, how it is split, what it says about itself, and every bad input of the table."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from cases.bad_inputs import DATA_ROWS, GOOD_IMAGES, GOOD_LABELS, HUGE, KERAS, BadInput, idx, images, labels, npz
from convscope.data import load as loading
from convscope.data.dataset import Dataset, Split, stratified_group_split
from convscope.data.formats.idx import parse_idx
from convscope.data.load import load_data, load_default
from convscope.data.options import LoadOptions
from convscope.data.statistics import image_as_text, summary
from convscope.errors import DataError, MissingExtraError, UsageError
from convscope.images.preprocessing import Preprocessing
from helpers.reporting import RecordingReporter


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data folder, an empty cache and no network, unless a test says otherwise."""
    monkeypatch.delenv("CONVSCOPE_DATA", raising=False)
    monkeypatch.setattr(loading, "cache_folder", lambda: tmp_path / "cache")

    def refuse(*_: object) -> dict[str, bytes]:
        raise DataError("no mirror gave it")

    monkeypatch.setattr(loading, "fetch", refuse)


@pytest.fixture(scope="session")
def cifar(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the official cifar-10-batches-bin."""
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, data_folder / "unpack_cifar10.py", folder], check=True)
    return folder


def tiny(**changes: object) -> Dataset:
    arguments = {
        "name": "tiny",
        "classes": ("cat", "dog"),
        "train": Split(images(), labels()),
        "test": Split(images(4), labels(4)),
        "source": "here",
    }
    return Dataset(**(arguments | changes))  # type: ignore[arg-type]


# The named sets


def test_digits_are_the_1797_with_a_fixed_fifth_to_test() -> None:
    digits = load_data("digits")
    assert (len(digits.train), len(digits.test), digits.shape) == (1438, 359, (8, 8, 1))
    assert digits.classes == tuple("0123456789")
    levels = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]  # round(v * 255 / 16)
    assert np.unique(digits.train.images).tolist() == levels
    # The 1,797 images hold 174 to 183 of each digit: 35 to 37 of each are a fifth.
    assert np.bincount(digits.test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert digits.fingerprint == "122d3f216d339ce4b8286e41fc7a3f4cd37c8cef4df6b413a5042647650f0800"
    assert digits.source == "scikit-learn; test is a fixed stratified fifth"


def test_a10_mnist_is_70000_gray_28x28_digits(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1, A10 and A11 of the article: uint8, 60,000 + 10,000, (n, 28, 28, 1), digits 0 to 9."""
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    mnist = load_data("mnist")
    assert mnist.train.images.shape == (60000, 28, 28, 1)
    assert mnist.test.images.shape == (10000, 28, 28, 1)
    assert mnist.train.images.dtype == np.uint8
    assert mnist.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    # Known of MNIST: the first nine training digits, and mean 0.1307 and std 0.3081 of the training pixels / 255.
    assert mnist.train.labels[:9].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1]
    train = summary(mnist)["splits"]["train"]
    assert train["mean"] / 255 == pytest.approx(0.1307, abs=5e-5)
    assert train["std"] / 255 == pytest.approx(0.3081, abs=5e-5)
    assert mnist.source == str(data_folder / "mnist")


def test_fashion_mnist_has_its_official_classes(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    fashion = load_data("fashion-mnist")
    assert (len(fashion.train), len(fashion.test), fashion.shape) == (60000, 10000, (28, 28, 1))
    readme = (data_folder / "fashion-mnist" / "README.md").read_text()
    assert " ".join(f"{i} {name}" for i, name in enumerate(fashion.classes)) in readme
    assert np.bincount(fashion.train.labels).tolist() == [6000] * 10


@pytest.mark.parametrize("folder", ["", "cifar-10", "cifar10"])
def test_cifar10_is_found_unpacked_and_decoded_plane_by_plane(
    data_folder: Path, cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "cifar-10-batches-bin").symlink_to(cifar / "cifar-10-batches-bin")
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    cifar10 = load_data("cifar10")
    assert (len(cifar10.train), len(cifar10.test), cifar10.shape) == (50000, 10000, (32, 32, 3))
    assert cifar10.classes == tuple((cifar / "cifar-10-batches-bin" / "batches.meta.txt").read_text().split())
    with Image.open(data_folder / "cifar-10" / "train-099.webp") as strip:  # the last 500 training images
        truth = np.asarray(strip.convert("RGB")).reshape(500, 32, 32, 3)
    assert np.array_equal(cifar10.train.images[-500:], truth)
    assert (
        cifar10.test.labels.tobytes()
        == np.fromfile(data_folder / "cifar-10/test-labels.u8", np.uint8).astype(np.int64).tobytes()
    )


def test_cifar10_is_read_from_the_archive_where_it_was_not_unpacked(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz", compresslevel=0) as tar:
        for path in sorted((cifar / "cifar-10-batches-bin").iterdir(), reverse=True):
            tar.add(path, f"./cifar-10-batches-bin/{path.name}")
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    assert load_data("cifar10").fingerprint == "f68bb3dbbcc03c71a1f0ab9956e7fca99aa0acbc9a8f25c2a756622e984c9759"


def test_a_damaged_named_set_is_told_from_a_repacked_one(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    for path in (data_folder / "mnist").glob("*.gz"):
        content = gzip.decompress(path.read_bytes())
        dotted = path.name.replace("-idx", ".idx").removesuffix(".gz")
        (tmp_path / "mnist" / dotted).write_bytes(gzip.compress(content, 1) if "labels" in dotted else content)
    assert load_data("mnist").test.labels[:3].tolist() == [7, 2, 1]
    altered = tmp_path / "mnist" / "t10k-images.idx3-ubyte"
    altered.write_bytes(altered.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match=r"^mnist: .*t10k-images.idx3-ubyte: the content differs from the official"):
        load_data("mnist")


def test_a_named_set_that_cannot_be_had_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"^mnist: not in \$CONVSCOPE_DATA, which is not set, nor in the cache"):
        load_data("mnist")
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    (tmp_path / "cifar-10").mkdir()
    (tmp_path / "cifar-10" / "train-000.webp").touch()
    with pytest.raises(DataError) as error:
        load_data("cifar10")
    places = f"{tmp_path}, {tmp_path}/cifar-10, {tmp_path}/cifar10, nor in the cache {tmp_path}/cache/cifar10"
    advice = "put cifar-10-binary.tar.gz there, plain or packed, or try again with a network"
    assert str(error.value) == f"cifar10: not in {places}; no mirror gave it; {advice}"
    assert error.value.exit_code == 3


def test_with_no_set_named_mnist_is_taken_or_else_digits(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = RecordingReporter()
    assert load_default(reporter).name == "digits"
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    assert load_default(reporter).name == "mnist"
    assert reporter.messages == [
        "No data set named, and MNIST cannot be had (`convscope data show mnist` says why): taking digits",
        f"No data set named: taking mnist from {data_folder}/mnist",
    ]


def test_digits_without_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"^digits needs the training extra: pip install 'convscope\[train\]'$"):
        load_data("digits")


# IDX


@settings(deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)))
def test_idx_is_read_as_it_was_written(array: NDArray[np.uint8]) -> None:
    parsed = parse_idx(idx(array), dimensions=[1, 2, 3, 4])
    assert parsed.dtype == np.uint8
    assert np.array_equal(parsed, array)


@settings(deadline=None)
@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"\0\0\x08\x03\0\0\0\x01\0\0\0\x02" + tail))
def test_bytes_that_are_not_idx_raise_only_data_errors(content: bytes) -> None:
    try:
        assert parse_idx(content, dimensions=[1, 3]).size == len(content) - 4 - 4 * content[3]
    except DataError as error:
        assert "expected" in str(error)


@settings(deadline=None)
@given(st.data(), st.sampled_from(["gz", "npz"]))
def test_a_damaged_file_is_a_data_error_or_was_not_damaged(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject, kind: str
) -> None:
    """Cut anywhere, or with any one byte changed: never another exception, never other pixels."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "x-labels-idx1-ubyte").write_bytes(GOOD_LABELS)
    path = folder / ("set.npz" if kind == "npz" else "x-images-idx3-ubyte.gz")
    whole = npz(images=images(), labels=labels()) if kind == "npz" else gzip.compress(GOOD_IMAGES, mtime=0)
    at = draw.draw(st.integers(0, len(whole) - 1))
    byte = draw.draw(st.none() | st.integers(0, 255))
    path.write_bytes(whole[:at] + (b"" if byte is None else bytes([byte]) + whole[at + 1 :]))
    try:
        found = load_data(path)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        everything = np.concatenate([found.train.images, found.test.images])
        assert sorted(everything.reshape(20, 16).tolist()) == sorted(images().reshape(20, 16).tolist())


def test_a_header_that_claims_terabytes_costs_no_memory(tmp_path: Path) -> None:
    (tmp_path / "x-images-idx3-ubyte").write_bytes(HUGE)
    tracemalloc.start()
    with pytest.raises(DataError, match="truncated"):
        load_data(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "spelling", ["{}-images-idx3-ubyte", "{}-images.idx3-ubyte", "emnist-letters-{}-images-idx3-ubyte"]
)
@pytest.mark.parametrize("second", ["t10k", "test"])
def test_a_folder_with_two_pairs_is_train_and_test(tmp_path: Path, spelling: str, second: str) -> None:
    for name, n in (("train", 20), (second, 4)):
        file = spelling.format(name)
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(idx(images(n))))
        (tmp_path / file.replace("images", "labels").replace("idx3", "idx1")).write_bytes(idx(labels(n)))
    (tmp_path / "README").touch()
    dataset = load_data(tmp_path)
    assert np.array_equal(dataset.train.images[..., 0], images(20))
    assert np.array_equal(dataset.test.images[..., 0], images(4))
    assert (dataset.name, dataset.source) == (tmp_path.name, str(tmp_path))


def test_one_pair_is_split_by_folder_or_by_file(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), np.uint8)
    path = tmp_path / "a-images-idx4-ubyte"
    path.write_bytes(idx(colors))
    (tmp_path / "a-labels-idx1-ubyte.gz").write_bytes(gzip.compress(GOOD_LABELS))
    dataset = load_data(path)
    assert (len(dataset.train), len(dataset.test), dataset.shape) == (16, 4, (4, 5, 3))
    assert dataset.source == f"{path}; test is a fixed stratified fifth"
    assert load_data(str(tmp_path)).fingerprint == dataset.fingerprint
    (tmp_path / "b-images-idx3-ubyte").write_bytes(GOOD_IMAGES)
    assert load_data(path).fingerprint == dataset.fingerprint


def test_a_file_that_lies_there_plain_and_packed_counts_once(tmp_path: Path) -> None:
    for name, content in (("x-images-idx3-ubyte", GOOD_IMAGES), ("x-labels-idx1-ubyte", GOOD_LABELS)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}.gz").write_bytes(b"the plain one is read")
    assert len(load_data(tmp_path).train) == 16


def test_a_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "x-images-idx3-ubyte").write_bytes(GOOD_IMAGES)
    (tmp_path / "digits" / "x-labels-idx1-ubyte").write_bytes(GOOD_LABELS)
    monkeypatch.chdir(tmp_path)
    assert load_data("digits").shape == (8, 8, 1)
    assert load_data("./digits").shape == (4, 4, 1)


# NPZ


@pytest.mark.parametrize(
    "keys",
    ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels"],
    ids=["keras", "medmnist"],
)
def test_npz_with_a_test_split(tmp_path: Path, keys: str) -> None:
    (tmp_path / "set.npz").write_bytes(
        npz(**dict(zip(keys.split(), KERAS.values(), strict=True)), val_images=images(3))
    )
    dataset = load_data(tmp_path / "set.npz")
    assert np.array_equal(dataset.train.images[..., 0], KERAS["x_train"])
    assert np.array_equal(dataset.train.labels, KERAS["y_train"])
    assert np.array_equal(dataset.test.images[..., 0], KERAS["x_test"])
    assert np.array_equal(dataset.test.labels, KERAS["y_test"])
    assert dataset.source == f"{tmp_path}/set.npz; left out: val_images"
    assert (dataset.name, dataset.classes) == ("set", ("0", "1"))


@pytest.mark.parametrize("keys", ["images labels", "X y", "x y"])
@pytest.mark.parametrize(
    "numbers",
    [labels(), labels().astype(np.uint8), labels()[:, None], np.eye(2)[labels()], np.eye(2, dtype=bool)[labels()]],
    ids=["int64", "uint8", "column", "one-hot", "one-hot bool"],
)
def test_npz_of_one_pair_and_every_kind_of_labels(tmp_path: Path, keys: str, numbers: NDArray[np.generic]) -> None:
    pair = dict(zip(keys.split(), (images(), numbers), strict=True))
    (tmp_path / "set.NPZ").write_bytes(npz(**pair, classes=["cat", "dog"]))
    dataset = load_data(tmp_path / "set.NPZ")
    train, test = stratified_group_split(Split(images(), labels()), 0.2, seed=0)
    assert np.array_equal(dataset.train.images, train.images)
    assert np.array_equal(dataset.test.labels, test.labels)
    assert dataset.classes == ("cat", "dog")
    assert dataset.source == f"{tmp_path}/set.NPZ; test is a fixed stratified fifth"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_0_to_1_give_back_all_256_values(tmp_path: Path, dtype: type[np.floating]) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    off = np.where(levels % 2, -0.25, 0.25) * (levels % 255 > 0)  # still nearest to the same level
    scaled = ((levels + off) / 255).astype(dtype)
    (tmp_path / "set.npz").write_bytes(npz(x_train=scaled, y_train=labels(4), x_test=scaled, y_test=labels(4)))
    dataset = load_data(tmp_path / "set.npz")
    assert np.array_equal(dataset.train.images[..., 0], levels)
    assert dataset.source.endswith("; floats 0..1 became 0..255")


@pytest.mark.parametrize("row", DATA_ROWS, ids=lambda row: row.name)
def test_bad_input(row: BadInput, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_data(row.arrange(tmp_path)[-1])
    assert re.search(row.message, str(error.value))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == row.exit_code


def test_the_rows_of_the_table_have_names_of_their_own() -> None:
    assert len({row.name for row in DATA_ROWS}) == len(DATA_ROWS)


# Splits


def numbered(n: int) -> NDArray[np.uint8]:
    """n images of 1x1 pixel, four channels: the number of the image."""
    return np.arange(n, dtype="<u4").view(np.uint8).reshape(n, 1, 1, 4)


def numbers(split: Split) -> NDArray[np.uint32]:
    return np.ascontiguousarray(split.images).view("<u4").reshape(-1)


@settings(deadline=None)
@given(
    hnp.arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 4)),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
)
def test_hold_out_is_stratified_disjoint_complete_and_repeatable(
    wanted: NDArray[np.int64], fraction: float, seed: int
) -> None:
    counts = np.bincount(wanted)
    split = Split(numbered(len(wanted)), wanted)
    if counts.max() < 2:
        with pytest.raises(DataError, match="nothing can be held out"):
            stratified_group_split(split, fraction, seed)
        return
    train, held = stratified_group_split(split, fraction, seed)
    assert sorted([*numbers(train), *numbers(held)]) == list(range(len(wanted)))
    for part in (train, held):
        assert np.array_equal(part.labels, wanted[numbers(part)])
        assert np.all(np.diff(numbers(part).astype(int)) > 0)
    for label in np.unique(wanted):
        n, out = counts[label], np.count_nonzero(held.labels == label)
        assert n - out >= 1
        assert out >= min(n - 1, 1)
        assert abs(out - fraction * n) <= 0.5 or out in (1, n - 1)
    assert np.array_equal(numbers(stratified_group_split(split, fraction, seed)[1]), numbers(held))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), min_size=2, max_size=60),
    st.floats(0.05, 0.6),
    st.integers(0, 9),
)
def test_hold_out_keeps_groups_whole(members: list[tuple[int, int]], fraction: float, seed: int) -> None:
    wanted, groups = np.array(members, np.int64).T
    split = Split(numbered(len(wanted)), wanted, groups=groups)
    try:
        train, held = stratified_group_split(split, fraction, seed)
    except DataError:
        for label in set(wanted):  # every group is all that there is of one of its classes
            for group in set(groups[wanted == label]):
                touched = [k for k in range(3) if (groups[wanted == k] == group).any()]
                assert any((groups[wanted == k] == group).all() for k in touched)
        return
    assert sorted([*numbers(train), *numbers(held)]) == list(range(len(wanted)))
    assert train.groups is not None
    assert held.groups is not None
    assert set(train.groups).isdisjoint(held.groups)
    assert set(train.labels) == set(wanted)
    largest = max(np.bincount(groups))
    for label in set(wanted):
        assert (held.labels == label).sum() <= max(1, fraction * (wanted == label).sum() + 0.5) + largest
    again = stratified_group_split(split, fraction, seed)
    assert np.array_equal(numbers(again[1]), numbers(held))


def test_a_class_of_large_groups_gives_its_smallest() -> None:
    groups = np.repeat([0, 1, 2, 3, 4], [9, 4, 7, 20, 20])
    wanted = (groups > 2).astype(np.int64)
    _, held = stratified_group_split(Split(numbered(60), wanted, groups=groups), 0.1, seed=0)
    assert held.groups is not None
    assert sorted(set(held.groups[held.labels == 0])) == [1]
    assert np.bincount(held.labels).tolist() == [4, 20]


def test_groups_of_one_are_held_out_as_stratified_as_images() -> None:
    wanted = np.arange(600) % 3
    _, held = stratified_group_split(Split(numbered(600), wanted, groups=np.arange(600)), 0.2, seed=0)
    assert np.bincount(held.labels).tolist() == [40, 40, 40]


def test_a_split_of_rows_copies_nothing() -> None:
    whole = Split(numbered(50), np.arange(50) % 2)
    train, held = stratified_group_split(whole, 0.2, seed=0)
    for part in (train, held, held.take(np.array([3, 1])), held.subsample(2)):
        assert np.shares_memory(part.store, whole.store)
        assert np.array_equal(part.images, np.stack([part.image(i) for i in range(len(part))]))
        assert np.array_equal(part.images, np.concatenate(list(part.chunks(3))))
        assert np.array_equal(part.labels, numbers(part) % 2)
    assert numbers(held.subsample(2)).tolist() == [numbers(held)[0], numbers(held)[-1]]
    assert held.subsample(99) is held


def test_hold_out_never_changes() -> None:
    """Pinned: another choice would put yesterday's test images into today's training set."""
    split = Split(numbered(1797), np.arange(1797) % 10)
    held = stratified_group_split(split, 0.2, seed=0)[1]
    assert numbers(held)[:8].tolist() == [2, 3, 11, 13, 15, 20, 21, 32]
    assert hashlib.sha256(numbers(held).tobytes()).hexdigest()[:16] == "674c2b39a7b087a8"
    assert not np.array_equal(numbers(stratified_group_split(split, 0.2, seed=1)[1]), numbers(held))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_leaves_no_two_parts_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="expected a number between 0 and 1"):
        stratified_group_split(Split(images(), labels()), fraction, seed=0)


# What a data set says about itself


def test_arrays_are_read_only_and_the_callers_are_not() -> None:
    mine = images()[..., np.newaxis], labels()
    split = Split(*mine)
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        split.labels[0] = 1
    assert all(array.flags.writeable for array in mine)


def test_labels_of_any_integer_type_become_int64() -> None:
    for dtype in (np.uint8, np.int32, np.uint64, np.int64):
        assert Split(images(), labels().astype(dtype)).labels.dtype == np.int64


def test_the_fingerprint_is_of_the_content_alone() -> None:
    dataset = tiny()
    other_pixel = images()
    other_pixel[7, 2, 2] ^= 1
    changed = [
        tiny(train=Split(other_pixel, labels())),
        tiny(train=Split(images(), labels()[::-1])),
        tiny(test=Split(images(3), labels(3))),
        tiny(classes=("cat", "cow")),
        tiny(train=Split(images().reshape(20, 2, 8), labels()), test=Split(images(4).reshape(4, 2, 8), labels(4))),
    ]
    assert len({one.fingerprint for one in [dataset, *changed]}) == 6
    assert re.fullmatch("[0-9a-f]{64}", dataset.fingerprint)
    assert tiny(name="other", source="there").fingerprint == dataset.fingerprint


def test_repr_is_one_line() -> None:
    assert repr(tiny()) == "Dataset(tiny: 20 train + 4 test images, 4x4x1, 2 classes, here)"
    assert repr(tiny().test) == "Split(4 images, 4x4x1)"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_notebook_shows_the_first_nine_and_escapes_names(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 5, channels), np.uint8)
    dataset = tiny(classes=("<b>", "a&b"), train=Split(pixels, labels()), test=Split(pixels, labels()))
    page = dataset._repr_html_()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    for picture, image in zip(pictures, pixels[:9], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(picture))) as decoded:
            assert np.array_equal(np.asarray(decoded).reshape(4, 5, channels), image)
    assert page.count("<figcaption>&lt;b&gt;</figcaption>") == 5
    assert page.count("<figcaption>a&amp;b</figcaption>") == 4


def test_summary_agrees_with_numpy_and_is_json() -> None:
    rng = np.random.default_rng(0)
    train = Split(rng.integers(3, 250, (30, 5, 6, 3), np.uint8), np.arange(30) % 3)
    test = Split(rng.integers(0, 256, (4, 5, 6, 3), np.uint8), np.arange(4) % 2)
    dataset = Dataset("noise", ("a", "b", "c"), train, test, "here")
    numbers = json.loads(json.dumps(summary(dataset)))
    assert {key: numbers[key] for key in ("name", "source", "fingerprint", "shape", "classes")} == {
        "name": "noise",
        "source": "here",
        "fingerprint": dataset.fingerprint,
        "shape": [5, 6, 3],
        "classes": ["a", "b", "c"],
    }
    for name, split in dataset.splits.items():
        found = numbers["splits"][name]
        assert (found["n"], found["shape"]) == (len(split), list(split.images.shape))
        parts = [(found, split.images)]
        parts += [(found["classes"][k], split.images[split.labels == k]) for k in range(3) if (split.labels == k).any()]
        for part, pixels in parts:
            truth = pixels.astype(np.float64)
            assert part["n"] == len(pixels)
            assert (part["min"], part["max"]) == (pixels.min(), pixels.max())
            assert part["mean"] == pytest.approx(truth.mean(), rel=1e-12)
            assert part["std"] == pytest.approx(truth.std(), rel=1e-12)
    assert numbers["splits"]["test"]["classes"][2] == {
        "name": "c",
        "n": 0,
        "min": None,
        "mean": None,
        "std": None,
        "max": None,
    }


def test_a1_an_image_is_a_matrix_of_numbers() -> None:
    """A1 of the article: 0..255, and color as a third dimension, here 2x3x3 RGB."""
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 5
    assert image_as_text(image) == ("red\n 0 15 30\n45 60 75\n\ngreen\n 5 20 35\n50 65 80\n\nblue\n10 25 40\n55 70 85")
    assert image_as_text(image[..., :1]) == " 0 15 30\n45 60 75"
    assert image_as_text(np.zeros((1, 1, 4), np.uint8)).split() == ["red", "0", "green", "0", "blue", "0", "alpha", "0"]


def test_the_environment_is_read_when_a_set_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "CONVSCOPE_DATA" not in os.environ
    monkeypatch.setenv("CONVSCOPE_DATA", "")
    with pytest.raises(DataError, match="which is not set"):
        load_data("mnist")


@pytest.mark.parametrize(
    ("shape", "reading", "kind"),
    [
        ((28, 28, 1), None, "gray"),
        ((64, 64, 1), {}, "images"),
        ((32, 32, 1), {"image_size": 32}, "gray"),
        ((32, 32, 3), None, "color"),
        ((32, 64, 3), {}, "small images"),
        ((48, 64, 4), {"channels": 4}, "images"),
        ((48, 48, 3), {"image_size": 48}, "sized images"),
    ],
)
def test_kinds_of_data(shape: tuple[int, int, int], reading: dict[str, Any] | None, kind: str) -> None:
    split = Split(np.zeros((2, *shape), np.uint8), np.arange(2))
    frame = None if reading is None else Preprocessing.plain(split.images)
    found = tiny(
        train=split, test=split, preprocessing=frame, load_options=None if reading is None else LoadOptions(**reading)
    )
    assert found.kind == kind
