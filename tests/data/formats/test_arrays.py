"""Arrays given as data: pairs, dicts of pairs, conversions, and everything that is rejected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases.bad_inputs import images, labels
from convscope import load_data, train_model
from convscope.errors import DataError

PAIR = (images(), labels())


def test_load_data_one_pair_gets_the_default_test_split() -> None:
    dataset = load_data(PAIR)
    assert (dataset.name, dataset.classes, dataset.shape) == ("arrays", ("0", "1"), (4, 4, 1))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 16, "test": 4}
    assert dataset.source == "arrays; test split: a fixed, stratified 20 %"
    assert dataset.kind == "gray"
    everything = np.concatenate([dataset.train.images, dataset.test.images])[..., 0]
    assert sorted(map(bytes, everything)) == sorted(map(bytes, images()))


def test_load_data_pair_with_class_names() -> None:
    assert load_data((images(), labels(), ["cat", "dog"])).classes == ("cat", "dog")


def test_load_data_dict_keeps_its_splits() -> None:
    source = {
        "train": PAIR,
        "validation": (images(6), labels(6)),
        "test": (images(4), labels(4)),
        "classes": ("a", "b"),
    }
    dataset = load_data(source)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 20, "validation": 6, "test": 4}
    assert np.array_equal(dataset.train.images[..., 0], images())
    assert np.array_equal(dataset.test.labels, labels(4))
    assert dataset.classes == ("a", "b")
    assert dataset.source == "arrays"


def test_load_data_dict_without_test_gets_the_default_test_split() -> None:
    dataset = load_data({"train": PAIR, "validation": (images(6), labels(6))})
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 16, "validation": 6, "test": 4}


@pytest.mark.parametrize(
    ("pixels", "numbers"),
    [
        (images() / 255, labels()),
        ((images() / 255).astype(np.float32), labels().astype(np.uint8)),
        (images()[..., None], labels()[:, None]),
        (images().tolist(), labels()),  # a list of lists has 64-bit integers
        (list(images()), list(labels())),
        (images(), np.eye(2)[labels()]),
    ],
    ids=["float64", "float32", "channel axis", "lists", "list of arrays", "one-hot"],
)
def test_load_data_converts_arrays_to_the_same_dataset(pixels: Any, numbers: Any, request: Any) -> None:
    if request.node.callspec.id == "lists":
        with pytest.raises(DataError, match=r"images are int64 \(20, 4, 4, 1\): expected uint8"):
            load_data((pixels, numbers))
        return
    assert load_data((pixels, numbers)).fingerprint == load_data(PAIR).fingerprint


def test_load_data_color_images_have_kind_color() -> None:
    dataset = load_data((np.zeros((20, 8, 8, 3), np.uint8), labels()))
    assert (dataset.shape, dataset.kind) == ((8, 8, 3), "color")


def test_load_data_copies_no_pixels_and_leaves_them_writable() -> None:
    mine = images()
    dataset = load_data((mine, labels()))
    assert np.shares_memory(dataset.train.store, mine)
    assert mine.flags.writeable


def test_load_data_dataset_is_returned() -> None:
    dataset = load_data(PAIR)
    assert load_data(dataset) is dataset


BAD = {
    "counts": ((images(), labels(19)), "arrays: train images and train labels: 20 images but 19 labels"),
    "NaN": ((np.full((20, 4, 4), np.nan), labels()), "arrays: train images: 320 of 320 values are NaN or infinite"),
    "floats over 1": (
        (images() * 1.0, labels()),
        r"arrays: train images: floats from 0 to 250: expected floats in 0..1",
    ),
    "channels first": ((np.zeros((20, 3, 8, 8), np.uint8), labels()), "images have 8 channels.*as the last axis"),
    "float labels": ((images(), labels() / 2), "labels are float64 .20,.: expected integers"),
    "not one-hot": ((images(), np.ones((20, 2))), r"arrays: train labels: labels \(20, 2\) are not one-hot"),
    "label gap": ((images(), labels() * 2), "no training image of class 1, expected every class 0..2"),
    "one class": ((images(), labels() * 0), "arrays: only one class .0.: expected at least two"),
    "too few names": ((images(), labels(), ["cat"]), "only one class .cat."),
    "names of numbers": ((images(), labels(), [1, 2]), "classes is int64 .2,.: expected one string per class"),
    "one array": (images(), "arrays: ndarray: expected .images, labels., .images, labels, class_names., or"),
    "four things": ((images(), labels(), [], []), "arrays: tuple of 4: expected .images, labels."),
    "keras": (((images(), labels()), (images(4), labels(4))), "items of different shapes: expected an array"),
    "no train": ({"test": PAIR}, "arrays: no train split: expected .images, labels."),
    "unknown split": ({"train": PAIR, "tset": PAIR}, "arrays: unknown split 'tset': expected train, test, validation"),
    "no pair": ({"train": images()}, "arrays: train is no pair: expected .images, labels."),
    "shapes": (
        {"train": PAIR, "test": (np.zeros((4, 5, 4), np.uint8), labels(4))},
        "train images are 4x4x1, test images 5x4x1: expected the same height, width and channels",
    ),
    "test label": (
        {"train": PAIR, "test": (images(4), labels(4) + 1)},
        "labels out of range in the test split: found 2",
    ),
    "empty": ((images(0), labels(0)), r"empty split: images are \(0, 4, 4, 1\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_load_data_bad_arrays_raise_one_line(name: str) -> None:
    source, message = BAD[name]
    with pytest.raises(DataError) as caught:
        load_data(source)  # type: ignore[arg-type]
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_train_model_on_arrays_has_no_path(tmp_path: Path) -> None:
    run = train_model(PAIR, "flatten", epochs=1, threads=1, run=tmp_path / "run")
    assert (run.config.dataset.name, run.config.dataset.path) == ("arrays", "")
