"""Foreign images: what was changed, and how they differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convscope.data.labeled import Changes
from convscope.data.load import load_data
from convscope.evaluation.foreign import ForeignImages
from convscope.images.preprocessing import Preprocessing


def transformed(foreign: ForeignImages, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate(list(foreign.transform(iter([images[:30], images[30:]]))))


def test_foreign_images_report_what_was_changed(data_folder: object) -> None:
    assert data_folder
    dataset = load_data("mnist")
    preprocessing = Preprocessing.plain(dataset.train.images)
    digits = dataset.test.images[:60]

    same = ForeignImages(preprocessing)
    np.testing.assert_array_equal(transformed(same, digits), digits)
    assert list(same.messages()) == []

    inverted = ForeignImages(preprocessing)
    np.testing.assert_array_equal(transformed(inverted, 255 - digits), digits)
    assert list(inverted.messages()) == ["60 of 60 images were inverted to the dark background of training"]

    cut = ForeignImages(preprocessing)
    assert transformed(cut, digits[:, 3:-3, 3:-3]).shape == digits.shape
    assert list(cut.messages()) == [
        "60 of 60 images were redrawn in the frame of the training images: ink of 20 pixels, centered by mass"
    ]


def test_foreign_images_preprocessed_before_stay_and_their_changes_are_reported() -> None:
    images = np.random.default_rng(0).integers(0, 100, (60, 8, 8, 1), np.uint8)
    foreign = ForeignImages(Preprocessing.plain(images), Changes(inverted=40, framed=0))
    np.testing.assert_array_equal(transformed(foreign, 255 - images), 255 - images)
    assert next(foreign.messages()) == "40 of 60 images were inverted to the dark background of training"


def test_foreign_images_that_look_different_are_reported() -> None:
    random = np.random.default_rng(0)
    foreign = ForeignImages(Preprocessing.plain(random.integers(0, 100, (500, 8, 8, 3), np.uint8)))
    transformed(foreign, random.integers(150, 250, (60, 8, 8, 3), np.uint8))
    assert list(foreign.messages()) == ["these images differ from the training images: brighter (100 % of the images)"]
