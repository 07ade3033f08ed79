"""Folders of 12-bit images in 16-bit files, and of damaged JPEGs: what the data set, its issues and the plan say."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.data.load import load_data
from helpers.images import animals, write_images


def encoded(image: Image.Image, kind: str) -> bytes:
    stream = BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def deep_images(bits: int, offset: int = 0, kind: str = "PNG") -> dict[str, bytes]:
    """Images of noise of so many bits, on a light background."""
    random = np.random.default_rng(bits)
    images = {}
    for name in (f"{label}/{i}" for label in ("cat", "dog") for i in range(8)):
        values = random.integers(0, 2**bits, (16, 16)).astype(np.uint16)
        values[[0, -1]] = values[:, [0, -1]] = 2**bits - 1
        images[name] = encoded(Image.fromarray(values + np.uint16(offset)), kind)
    return images


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("bits", "offset", "low", "high"),
    [(10, 0, 0, 1023), (12, 0, 0, 4095), (16, 0, 0, 65_535), (10, 32_768, 32_768, 33_791)],
)
def test_load_data_deep_images_keep_their_levels(
    bits: int, offset: int, low: int, high: int, kind: str, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "set", deep_images(bits, offset, kind))
    dataset = load_data(folder)
    record = dataset.preprocessing
    assert record is not None
    assert low <= record.uint16_range[0] <= low + 5
    assert high - 5 <= record.uint16_range[1] <= high
    assert record.polarity == "light"
    assert len(np.unique(dataset.train.images)) > 200
    low, high = record.uint16_range
    (issue,) = (issue for issue in dataset.issues if issue.kind == "depth")
    assert (issue.text, issue.action) == ("16 images of 16 bits per pixel", f"values {low}..{high} mapped to 0..255")
    assert not [issue for issue in dataset.issues if issue.kind == "constant"]
    assert ("mapped to 0..255" in dataset.source) == (bits < 16)
    config = make_plan(dataset, TrainOptions(model="conv 2 3, relu, flatten"), "set").config
    assert config.preprocessing.uint16_range == record.uint16_range


def test_load_data_eight_bit_images_have_the_full_range(tmp_path: Path) -> None:
    dataset = load_data(write_images(tmp_path, animals()))
    assert dataset.preprocessing is not None
    assert dataset.preprocessing.uint16_range == (0, 65_535)
    assert not [issue for issue in dataset.issues if issue.kind == "depth"]


def test_load_data_damaged_jpeg_is_an_issue(tmp_path: Path) -> None:
    images = animals()
    random = np.random.default_rng(0)
    content = encoded(Image.fromarray(random.integers(0, 256, (40, 40), np.uint8)), "JPEG")
    images["cat/damaged.jpg"] = content[: len(content) // 2] + b"\xff\xd9"
    dataset = load_data(write_images(tmp_path / "set", images))
    (issue,) = (issue for issue in dataset.issues if issue.kind == "damaged")
    assert issue.files == (("cat/damaged.jpg",),)
    assert (issue.level, issue.text) == ("warning", "1 image whose compressed data is partly missing or wrong")
