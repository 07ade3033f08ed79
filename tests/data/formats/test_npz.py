"""NumPy archives, with the names of Keras and MedMNIST or as one pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cases.bad_inputs import KERAS, images, labels, npz
from convscope.data.dataset import Split
from convscope.data.formats.npz import read_npz
from convscope.data.splitting import stratified_group_split


@pytest.mark.parametrize(
    "keys",
    ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels"],
    ids=["keras", "medmnist"],
)
def test_read_npz_with_a_test_split(tmp_path: Path, keys: str) -> None:
    (tmp_path / "set.npz").write_bytes(
        npz(**dict(zip(keys.split(), KERAS.values(), strict=True)), val_images=images(3))
    )
    dataset = read_npz(tmp_path / "set.npz")
    assert np.array_equal(dataset.train.images[..., 0], KERAS["x_train"])
    assert np.array_equal(dataset.train.labels, KERAS["y_train"])
    assert np.array_equal(dataset.test.images[..., 0], KERAS["x_test"])
    assert np.array_equal(dataset.test.labels, KERAS["y_test"])
    assert dataset.source == f"{tmp_path}/set.npz; ignored: val_images"
    assert (dataset.name, dataset.classes) == ("set", ("0", "1"))


@pytest.mark.parametrize("keys", ["images labels", "X y", "x y"])
@pytest.mark.parametrize(
    "numbers",
    [labels(), labels().astype(np.uint8), labels()[:, None], np.eye(2)[labels()], np.eye(2, dtype=bool)[labels()]],
    ids=["int64", "uint8", "column", "one-hot", "one-hot bool"],
)
def test_read_npz_single_pair_with_every_kind_of_labels(
    tmp_path: Path, keys: str, numbers: NDArray[np.generic]
) -> None:
    pair = dict(zip(keys.split(), (images(), numbers), strict=True))
    (tmp_path / "set.NPZ").write_bytes(npz(**pair, classes=["cat", "dog"]))
    dataset = read_npz(tmp_path / "set.NPZ")
    train, test = stratified_group_split(Split(images(), labels()), 0.2, seed=0)
    assert np.array_equal(dataset.train.images, train.images)
    assert np.array_equal(dataset.test.labels, test.labels)
    assert dataset.classes == ("cat", "dog")
    assert dataset.source == f"{tmp_path}/set.NPZ; test split: a fixed, stratified 20 %"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_read_npz_floats_in_0_to_1_give_back_all_256_values(tmp_path: Path, dtype: type[np.floating]) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    off = np.where(levels % 2, -0.25, 0.25) * (levels % 255 > 0)  # still nearest to the same level
    scaled = ((levels + off) / 255).astype(dtype)
    (tmp_path / "set.npz").write_bytes(npz(x_train=scaled, y_train=labels(4), x_test=scaled, y_test=labels(4)))
    dataset = read_npz(tmp_path / "set.npz")
    assert np.array_equal(dataset.train.images[..., 0], levels)
    assert dataset.source.endswith("; floats 0..1 scaled to 0..255")
