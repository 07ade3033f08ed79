"""Damaged TIFF files raise, and libtiff prints nothing."""

from __future__ import annotations

import os
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from convscope.errors import DataError
from convscope.images.files.tiff import _capture_messages
from convscope.images.read import read_image

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def encoded(compression: str, image: Image.Image | None = None) -> bytes:
    stream = BytesIO()
    (image or Image.fromarray(NOISE)).save(stream, "TIFF", compression=compression)
    return stream.getvalue()


def overwritten(content: bytes, place: float) -> bytes:
    start = int(place * len(content))
    return content[:start] + b"\xff" * 40 + content[start + 40 :]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg"])
def test_read_image_sound_tiff_gives_its_pixels(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = encoded(compression)
    with Image.open(BytesIO(content)) as expected:
        np.testing.assert_array_equal(read_image(content).pixels, np.asarray(expected))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate"])
def test_read_image_overwritten_tiff_raises_and_prints_nothing(
    compression: str, place: float, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"^image: cannot be decoded \(.*\); it is damaged"):
        read_image(overwritten(encoded(compression), place))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_read_image_overwritten_fax_raises_and_prints_nothing(place: float, capfd: pytest.CaptureFixture[str]) -> None:
    y, x = np.mgrid[:60, :80]
    content = encoded("group4", Image.fromarray(np.sin(x / 6) * np.cos(y / 9) > 0))
    with pytest.raises(DataError, match=r"Bad code word|cannot be decoded"):
        read_image(overwritten(content, place))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_read_image_truncated_tiff_raises_and_prints_nothing(
    compression: str, place: float, capfd: pytest.CaptureFixture[str]
) -> None:
    content = encoded(compression)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(content[: int(place * len(content))])
    assert capfd.readouterr() == ("", "")


def test_read_image_without_strips_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff names the file in lower case before it says what is wrong."""
    content = encoded("tiff_lzw")
    rows_per_strip = content.index(bytes([0x16, 0x01, 0x03, 0x00]))
    damaged = content[: rows_per_strip + 8] + b"\0\0\0\0" + content[rows_per_strip + 12 :]
    with pytest.raises(DataError, match=r"^image: cannot be decoded"):
        read_image(damaged)
    assert capfd.readouterr() == ("", "")


def test_capture_messages_passes_on_the_lines_of_others(capfd: pytest.CaptureFixture[str]) -> None:
    messages: list[str] = []
    with _capture_messages(messages):
        os.write(2, b"ZIPDecode: Decoding error at scanline 0.\nepoch 3 of 10\n")
    assert messages == ["ZIPDecode: Decoding error at scanline 0."]
    assert capfd.readouterr().err == "epoch 3 of 10\n"


def test_read_image_pil_tiff_is_checked_too() -> None:
    image = TiffImageFile(BytesIO(overwritten(encoded("tiff_adobe_deflate"), 0.5)))
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(image)
