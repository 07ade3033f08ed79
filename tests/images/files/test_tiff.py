"""Damaged TIFF files raise, and libtiff prints nothing."""

from __future__ import annotations

import os
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from convscope.errors import DataError
from convscope.images.files.jpeg import DAMAGE_NOTE
from convscope.images.files.tiff import _capture_messages
from convscope.images.read import read_image

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def encoded(compression: str, image: Image.Image | None = None) -> bytes:
    stream = BytesIO()
    (image or Image.fromarray(NOISE)).save(stream, "TIFF", compression=compression)
    return stream.getvalue()


def tiled_jpeg(step: int) -> bytes:
    """The image in tiles of 32x32, each a complete JPEG file, with one color for step x step pixels."""
    tiles = []
    for y in range(0, 60, 32):
        for x in range(0, 80, 32):
            stream = BytesIO()
            Image.fromarray(NOISE).crop((x, y, x + 32, y + 32)).save(stream, "JPEG", subsampling={1: 0, 2: 2}[step])
            tiles.append(stream.getvalue())
    tags = ImageFileDirectory_v2()
    tags[256], tags[257], tags[258], tags[259], tags[262], tags[277] = 80, 60, (8, 8, 8), 7, 6, 3
    tags[322], tags[323], tags[530] = 32, 32, (step, step)
    tags[325] = tuple(map(len, tiles))
    tags[324] = tuple(1000 + sum(tags[325][:place]) for place in range(len(tiles)))
    return (b"II*\0\x08\0\0\0" + tags.tobytes(8)).ljust(1000, b"\0") + b"".join(tiles)


JPEG_KINDS = {
    "RGB": encoded("jpeg"),
    "gray": encoded("jpeg", Image.fromarray(NOISE[..., 0])),
    "YCbCr": encoded("jpeg", Image.fromarray(NOISE).convert("YCbCr")),
    "CMYK": encoded("jpeg", Image.fromarray(NOISE).convert("CMYK")),
    "tiles": tiled_jpeg(1),
    "subsampled tiles": tiled_jpeg(2),
}


def with_damaged_parts(content: bytes, fill: bytes) -> bytes:
    """The second half of each strip or tile replaced."""
    damaged = bytearray(content)
    with TiffImageFile(BytesIO(content)) as image:
        tags = image.tag_v2
        for place, size in zip(tags.get(273, ()) or tags[324], tags.get(279, ()) or tags[325], strict=True):
            half = size // 2
            damaged[place + size - half : place + size] = (fill * half)[:half]
    return bytes(damaged)


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


@pytest.mark.parametrize("kind", JPEG_KINDS)
def test_read_image_sound_jpeg_in_a_tiff_has_no_note(kind: str) -> None:
    found = read_image(JPEG_KINDS[kind])
    assert DAMAGE_NOTE not in found.notes
    with Image.open(BytesIO(JPEG_KINDS[kind])) as expected:
        rgb = expected if expected.mode == "L" else expected.convert("RGB")
        np.testing.assert_array_equal(found.pixels.squeeze(), np.asarray(rgb))


@pytest.mark.parametrize("kind", JPEG_KINDS)
@pytest.mark.parametrize("fill", [b"\0", b"\xff\xd9", b"\xff\xfe\xff\xff"], ids=["zeros", "ends", "comments"])
def test_read_image_damaged_jpeg_in_a_tiff_gets_a_note(
    kind: str, fill: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = with_damaged_parts(JPEG_KINDS[kind], fill)
    try:
        assert DAMAGE_NOTE in read_image(damaged).notes
    except DataError as error:
        assert "cannot be decoded" in str(error)
    assert capfd.readouterr() == ("", "")
