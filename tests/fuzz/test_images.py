"""Damaged images are rejected in one line or read; nothing crashes, hangs, prints or eats memory."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from convscope.images.read import read_image
from fuzz.inputs import inputs
from fuzz.mutations import damaged
from fuzz.outcome import refused_or_accepted

pytestmark = pytest.mark.slow

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)


def encoded(mode: str, name: str, **options: Any) -> bytes:
    file = BytesIO()
    image = Image.fromarray(PIXELS)
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    image.save(file, name, **options)
    return file.getvalue()


EXIF = Image.Exif()
EXIF[274] = 6

IMAGES = [
    encoded("RGB", "PNG"),
    encoded("P", "PNG", transparency=0),
    encoded("1", "PNG"),
    encoded("LA", "PNG"),
    encoded("I;16", "PNG"),
    encoded("RGB", "PNG", exif=EXIF),
    encoded("RGB", "JPEG", exif=EXIF),
    encoded("L", "JPEG", progressive=True),
    encoded("CMYK", "JPEG"),
    encoded("RGB", "BMP"),
    encoded("P", "GIF"),
    encoded("RGB", "WEBP"),
    encoded("RGBA", "WEBP", lossless=True),
    encoded("RGB", "TIFF"),
    encoded("RGB", "TIFF", compression="tiff_lzw"),
    encoded("1", "TIFF", compression="group4"),
    encoded("I;16", "TIFF"),
    encoded("L", "PPM"),
    b"P3\n2 2\n255\n1 2 3 4 5 6 7 8 9 10 11 12\n",
]


@inputs(400)
@given(damaged(IMAGES))
def test_read_image_damaged_file_is_read_or_rejected(content: bytes) -> None:
    with refused_or_accepted():
        image = read_image(content, max_megapixels=5)
        assert image.pixels.dtype == np.uint8
        assert image.pixels.ndim == 3
        assert image.pixels.shape[2] in (1, 3, 4)
