"""Gray values of more than 8 bits: the range in use, and its mapping to 8 bits."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from convscope.images.depth import FULL_RANGE, choose_range, to_eight_bits
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DEEP_NOTE, DecodedImage, read_image


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [
        (0, 0, (0, 0)),
        (0, 200, (0, 255)),
        (0, 255, (0, 255)),
        (3, 1023, (0, 1023)),
        (0, 1024, (0, 2047)),
        (900, 4000, (0, 4095)),
        (0, 60_000, FULL_RANGE),
        (30_000, 31_000, (30_000, 31_000)),
        (65_535, 65_535, (65_535, 65_535)),
    ],
)
def test_choose_range_holds_the_values(lowest: int, highest: int, expected: tuple[int, int]) -> None:
    assert choose_range(lowest, highest) == expected


def test_to_eight_bits_full_range_is_the_high_byte() -> None:
    values = np.arange(65_536, dtype=np.uint16)
    np.testing.assert_array_equal(to_eight_bits(values, *FULL_RANGE), values >> 8)


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (10, 2), (12, 4), (14, 6)])
def test_to_eight_bits_keeps_the_highest_eight(bits: int, shift: int) -> None:
    values = np.arange(2**bits, dtype=np.uint16)
    np.testing.assert_array_equal(to_eight_bits(values, 0, 2**bits - 1), values >> shift)


def test_to_eight_bits_clips_other_values() -> None:
    values = np.array([0, 999, 1000, 1999, 2000, 65_535], np.uint16)
    assert to_eight_bits(values, 1000, 1999).tolist() == [0, 0, 0, 255, 255, 255]


def deep_png(values: np.ndarray, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(stream, "PNG", **options)
    return stream.getvalue()


def test_with_range_maps_gray_and_keeps_transparency() -> None:
    values = np.array([[0, 100, 4095], [16, 32, 48]])
    image = read_image(deep_png(values))
    mapped = image.with_range(0, 4095)
    assert mapped.pixels[..., 0].tolist() == [[0, 6, 255], [1, 2, 3]]
    assert mapped.notes == ("16-bit values 0..4095 mapped to 0..255",)
    assert image.with_range(10, 1000).notes == ("16-bit values 10..1000 mapped to 0..255, others clipped",)
    assert image.with_range(*FULL_RANGE).notes == (DEEP_NOTE,)
    clear = read_image(deep_png(values, transparency=100)).with_range(0, 4095)
    assert clear.pixels[0].tolist() == [[0, 0, 0, 255], [6, 6, 6, 0], [255, 255, 255, 255]]


def test_transform_maps_the_range_of_the_record() -> None:
    record = Preprocessing.plain(np.full((4, 2, 3, 1), 100, np.uint8)).model_copy(update={"uint16_range": (0, 1023)})
    values = np.array([[0, 512, 1023], [4, 8, 12]])
    pixels, notes = record.transform(read_image(deep_png(values)))
    assert pixels[..., 0].tolist() == [[0, 128, 255], [1, 2, 3]]
    assert notes == ("16-bit values 0..1023 mapped to 0..255",)
    eight, notes = record.transform(DecodedImage(np.array([[[0], [128], [255]]] * 2, np.uint8)))
    assert (eight[0, :, 0].tolist(), notes) == ([0, 128, 255], ())


def test_preprocessing_range_that_goes_down_raises() -> None:
    values = Preprocessing.plain(np.full((4, 2, 3, 1), 100, np.uint8)).model_dump()
    with pytest.raises(ValueError, match="expected a lower and an upper value in uint16_range"):
        Preprocessing.model_validate(values | {"uint16_range": (5, 4)})
