"""Damaged PNG files: every chunk has its right checksum, and pixels are missing or wrong all the same."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from convscope.errors import DataError
from convscope.images.files.png import check_png
from convscope.images.read import read_image

SIDE = 64
NOISE = np.random.default_rng(0).integers(1, 256, (SIDE, SIDE), np.uint8)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def rows(interlaced: bool) -> bytes:
    """The bytes of the rows of NOISE before compression, without a filter."""
    parts = [NOISE[top::down, left::right] for left, top, right, down in PASSES] if interlaced else [NOISE]
    return b"".join(b"\0" + row.tobytes() for part in parts for row in part)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(stream: bytes, interlaced: bool, parts: int = 1) -> bytes:
    """A PNG file with this compressed pixel data, in some chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, interlaced))
    step = -(-len(stream) // parts)
    data = b"".join(chunk(b"IDAT", stream[i : i + step]) for i in range(0, len(stream), step))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def overwritten(stream: bytes, start: int, value: int) -> bytes:
    return stream[:start] + bytes([value]) * 40 + stream[start + 40 :]


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("parts", [1, 5])
def test_read_image_sound_png_gives_its_pixels(interlaced: bool, parts: int) -> None:
    image = read_image(png(zlib.compress(rows(interlaced)), interlaced, parts))
    np.testing.assert_array_equal(image.pixels[..., 0], NOISE)


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize("value", [0, 0xFF])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.98])
def test_read_image_png_with_broken_data_raises(interlaced: bool, parts: int, value: int, place: float) -> None:
    stream = zlib.compress(rows(interlaced))
    with pytest.raises(DataError, match=r"^image: cannot be decoded"):
        read_image(png(overwritten(stream, int(place * len(stream)), value), interlaced, parts))


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.999])
def test_read_image_png_with_too_few_rows_raises(interlaced: bool, place: float) -> None:
    content = rows(interlaced)
    ended = png(zlib.compress(content[: int(place * len(content))]), interlaced)
    with pytest.raises(DataError, match=r"of 4(160|279) bytes of pixel data|cannot be decoded"):
        read_image(ended)
    stream = zlib.compress(content)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(png(stream[: int(place * len(stream)) - 4], interlaced))


def test_read_image_png_with_wrong_checksum_of_its_pixels_raises() -> None:
    stream = zlib.compress(rows(False))
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(png(stream[:-1] + bytes([stream[-1] ^ 1]), False))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 2), (40, 33)])
def test_check_png_knows_the_size_of_every_mode(mode: str, size: tuple[int, int]) -> None:
    stream = BytesIO()
    Image.new(mode, size).save(stream, "PNG")
    stream.seek(11)
    check_png(stream)
    assert stream.tell() == 11
