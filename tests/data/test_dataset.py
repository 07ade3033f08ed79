"""Splits and data sets: what they hold, and how they describe themselves."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cases.bad_inputs import images, labels
from convscope.data.dataset import Dataset, Split
from convscope.data.options import LoadOptions
from convscope.data.splitting import stratified_group_split
from convscope.errors import DataError
from convscope.images.preprocessing import Preprocessing
from helpers.splits import image_numbers, numbered_images


def tiny(**changes: Any) -> Dataset:
    """A data set of 20 + 4 images of two classes."""
    arguments: dict[str, Any] = {
        "name": "tiny",
        "classes": ("cat", "dog"),
        "train": Split(images(), labels()),
        "test": Split(images(4), labels(4)),
        "source": "here",
    }
    return Dataset(**(arguments | changes))


def test_split_of_rows_shares_its_store() -> None:
    whole = Split(numbered_images(50), np.arange(50) % 2)
    train, held = stratified_group_split(whole, 0.2, seed=0)
    for part in (train, held, held.take(np.array([3, 1])), held.subsample(2)):
        assert np.shares_memory(part.store, whole.store)
        assert np.array_equal(part.images, np.stack([part.image(i) for i in range(len(part))]))
        assert np.array_equal(part.images, np.concatenate(list(part.chunks(3))))
        assert np.array_equal(part.labels, image_numbers(part) % 2)
        assert np.array_equal(part.indices(np.arange(len(part))), image_numbers(part))


def test_subsample_is_evenly_spaced_from_first_to_last() -> None:
    split = Split(numbered_images(50), np.arange(50) // 25)
    assert image_numbers(split.subsample(2)).tolist() == [0, 49]
    assert np.bincount(split.subsample(10).labels).tolist() == [5, 5]
    assert split.subsample(99) is split


def test_split_arrays_are_read_only_but_not_those_of_the_caller() -> None:
    mine = images()[..., np.newaxis], labels()
    split = Split(*mine)
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        split.labels[0] = 1
    assert all(array.flags.writeable for array in mine)


@pytest.mark.parametrize("name", ["full\u3000width", "a\u200cb", "no\u00a0break", "\U0001f468\u200d\U0001f469"])
def test_dataset_class_names_may_be_any_ordinary_text(name: str) -> None:
    assert tiny(classes=("cat", name)).classes == ("cat", name)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\x9b", "a\u2028b", "a\u202eb", "caf\udce9"])
def test_dataset_class_name_with_control_characters_raises_in_one_line(name: str) -> None:
    with pytest.raises(DataError, match=r"class names with control characters .*: expected UTF-8 text") as caught:
        tiny(classes=("cat", name))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.int64])
def test_split_labels_become_int64(dtype: type[np.integer]) -> None:
    assert Split(images(), labels().astype(dtype)).labels.dtype == np.int64


def test_fingerprint_depends_on_content_alone() -> None:
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
def test_repr_html_shows_nine_images_and_escapes_names(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 5, channels), np.uint8)
    dataset = tiny(classes=("<b>", "a&b"), train=Split(pixels, labels()), test=Split(pixels, labels()))
    page = dataset._repr_html_()
    shown = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    for encoded, image in zip(shown, pixels[:9], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as decoded:
            assert np.array_equal(np.asarray(decoded).reshape(4, 5, channels), image)
    assert page.count("<figcaption>&lt;b&gt;</figcaption>") == 5
    assert page.count("<figcaption>a&amp;b</figcaption>") == 4


@pytest.mark.parametrize(
    ("shape", "options", "kind"),
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
def test_kind_depends_on_shape_and_options(
    shape: tuple[int, int, int], options: dict[str, Any] | None, kind: str
) -> None:
    split = Split(np.zeros((2, *shape), np.uint8), np.arange(2))
    record = None if options is None else Preprocessing.plain(split.images)
    asked = None if options is None else LoadOptions(**options)
    assert tiny(train=split, test=split, preprocessing=record, load_options=asked).kind == kind


def test_split_hashes_are_the_first_64_bits_of_blake2b_in_the_order_of_the_rows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), np.uint8)
    expected = [int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little") for image in pixels]
    whole = Split(pixels, np.zeros(7, np.int64))
    assert whole.hashes().tolist() == expected
    assert whole.take(np.array([6, 0])).hashes().tolist() == [expected[6], expected[0]]
    assert Split(pixels[:, ::2, ::-1], np.zeros(7, np.int64)).hashes().tolist() != expected
