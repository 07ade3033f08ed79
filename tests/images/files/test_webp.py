"""Damaged WebP files get a note, and sound ones do not."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope.errors import DataError
from convscope.images.files.jpeg import DAMAGE_NOTE
from convscope.images.files.webp import is_sound_webp
from convscope.images.read import read_image

Y, X = np.mgrid[:150, :200]
WAVES = np.stack([128 + 90 * np.sin(X / step) * np.cos(Y / 9) for step in (4, 7, 11)], axis=2)
SCENE = Image.fromarray((WAVES + np.random.default_rng(0).normal(0, 6, WAVES.shape)).clip(0, 255).astype(np.uint8))
EMPTY = Image.new("RGB", SCENE.size, (200, 90, 10))
DISK = Image.fromarray(np.where((X - 90) ** 2 + (Y - 70) ** 2 < 900, 255, 0).astype(np.uint8))
TRANSPARENT = SCENE.convert("RGBA")
TRANSPARENT.putalpha(DISK)

OPTIONS: dict[str, dict[str, Any]] = {
    "small": {"quality": 5},
    "lossy": {"quality": 80},
    "fast": {"quality": 80, "method": 0},
    "lossless": {"lossless": True},
    "fast lossless": {"lossless": True, "quality": 0, "method": 0},
    "animation": {"save_all": True, "append_images": [EMPTY]},
    "with EXIF": {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"},
}


def encoded(options: str, image: Image.Image = SCENE) -> bytes:
    stream = BytesIO()
    further = [frame.resize(image.size) for frame in OPTIONS[options].get("append_images", ())]
    image.save(stream, "WEBP", **OPTIONS[options] | ({"append_images": further} if further else {}))
    return stream.getvalue()


def damaged(content: bytes, first: float, count: float, fill: bytes = b"\0") -> bytes:
    """A range of the compressed data overwritten; both numbers are fractions of its size."""
    start = re.search(rb"VP8[ L]", content).start()  # type: ignore[union-attr]
    size = int.from_bytes(content[start + 4 : start + 8], "little")
    begin, end = start + 8 + int(first * size), start + 8 + int((first + count) * size)
    return content[:begin] + (fill * size)[: end - begin] + content[end:]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [(200, 150), (17, 31), (8, 8), (1, 1)])
def test_read_image_sound_webp_has_no_note(options: str, size: tuple[int, int]) -> None:
    for image in (SCENE, EMPTY, DISK, TRANSPARENT):
        assert DAMAGE_NOTE not in read_image(encoded(options, image.resize(size))).notes


def test_read_image_flat_webp_with_many_zeros_has_no_note() -> None:
    content = encoded("lossy", Image.new("RGB", (2000, 1500), (200, 90, 10)))
    assert bytes(200) in content
    assert read_image(content).notes == ()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("first", "count", "fill"),
    [(0.5, 0.5, b"\0"), (0.8, 0.2, b"\0"), (0.5, 0.2, b"\0"), (0.5, 0.5, b"\xff"), (0.5, 0.5, b"U")],
    ids=["tail", "end", "middle", "ones", "pattern"],
)
def test_read_image_webp_that_was_overwritten_gets_a_note_or_is_refused(
    options: str, first: float, count: float, fill: bytes
) -> None:
    try:
        assert DAMAGE_NOTE in read_image(damaged(encoded(options), first, count, fill)).notes
    except DataError as error:
        assert "cannot be decoded" in str(error)


def test_is_sound_webp_without_data_is_left_to_the_decoder() -> None:
    assert is_sound_webp(b"RIFF\x0c\0\0\0WEBPVP8 \0\0\0\0")
    assert is_sound_webp(b"RIFF\x04\0\0\0WEBP")
