"""Decoding images: every accepted format gives the right pixels, every other file one clear line."""

from __future__ import annotations

import json
import re
import struct
import tarfile
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convscope.errors import DataError
from convscope.images.read import MAX_SIDE, DecodedImage, encode_png, read_image

Pixels = NDArray[np.uint8]

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
RGBA = np.random.default_rng(1).integers(0, 256, (5, 7, 4), dtype=np.uint8)
GRAY = RGB[..., :1]
DEEP = np.array([[0, 255, 256], [511, 0x1234, 65535]], np.uint16)
DEEP_HIGH = np.array([[0, 0, 1], [1, 0x12, 255]], np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *between: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", header), *between, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("kind", "pixels", "options"),
    [
        ("PNG", GRAY, {}),
        ("PNG", RGB, {}),
        ("PNG", RGBA, {}),
        ("BMP", GRAY, {}),
        ("BMP", RGB, {}),
        ("TIFF", GRAY, {}),
        ("TIFF", RGB, {"compression": "tiff_lzw"}),
        ("TIFF", RGBA, {}),
        ("TIFF", RGB, {"big_tiff": True}),
        ("WEBP", RGB, {"lossless": True}),
        ("WEBP", RGBA, {"lossless": True, "exact": True}),
        ("PPM", GRAY, {}),
        ("PPM", RGB, {}),
    ],
    ids=lambda value: str(value.shape[2]) if isinstance(value, np.ndarray) else str(value),
)
def test_read_image_lossless_files_give_back_the_pixels(
    kind: str, pixels: Pixels, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "an image.bin"  # the content tells the format, not the name
    path.write_bytes(saved(Image.fromarray(pixels.squeeze()), kind, **options))
    for source in (path, str(path), path.read_bytes()):
        image = read_image(source)
        assert image.pixels.dtype == np.uint8
        np.testing.assert_array_equal(image.pixels, pixels)
        assert image.notes == ()
    assert read_image(path).name == str(path)


def test_read_image_jpeg_is_close_to_original() -> None:
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)[..., None] + np.array([0, 60, 120], np.uint8)
    image = read_image(saved(Image.fromarray(smooth), "JPEG", quality=95))
    assert abs(image.pixels.astype(int) - smooth).max() <= 6
    assert image.notes == ()


def _palette(**info: Any) -> bytes:
    image = Image.new("P", (2, 2))
    image.putdata([0, 1, 2, 1])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return saved(image, "PNG", **info)


A, B, C = [10, 20, 30], [40, 50, 60], [70, 80, 90]


@pytest.mark.parametrize(
    ("data", "pixels", "note"),
    [
        (_palette(), [[A, B], [C, B]], "palette expanded"),
        (_palette(transparency=1), [[[*A, 255], [*B, 0]], [[*C, 255], [*B, 0]]], "palette expanded"),
        (_palette(transparency=b"\x05\x80"), [[[*A, 5], [*B, 128]], [[*C, 255], [*B, 128]]], "palette expanded"),
        (saved(Image.fromarray(np.eye(2, dtype=bool)), "PNG"), [[[255], [0]], [[0], [255]]], "1 bit expanded to 8"),
        (b"P4 3 1 \xa0", [[[0], [255], [0]]], "1 bit expanded to 8"),
        (b"P2 2 1 255 7 200", [[[7], [200]]], None),
        (
            saved(Image.merge("LA", [Image.new("L", (1, 1), 9), Image.new("L", (1, 1), 8)]), "PNG"),
            [[[9, 9, 9, 8]]],
            None,
        ),
        (png(2, 1, 4, 0, b"\x00\x5f", chunk(b"tRNS", b"\x00\x0f")), [[[85, 85, 85, 255], [255, 255, 255, 0]]], None),
        (
            png(2, 1, 8, 2, b"\x00" + bytes([*A, *B]), chunk(b"tRNS", bytes([0, 40, 0, 50, 0, 60]))),
            [[[*A, 255], [*B, 0]]],
            None,
        ),
        (saved(Image.new("L", (2, 1), 8), "GIF"), [[[8, 8, 8]] * 2], "palette expanded"),
        (saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), [[[255, 0, 0]] * 8] * 8, "CMYK converted to RGB"),
    ],
)
def test_read_image_modes_become_gray_rgb_or_rgba(data: bytes, pixels: list[Any], note: str | None) -> None:
    image = read_image(data)
    assert image.pixels.tolist() == pixels
    assert image.notes == ((note,) if note else ())


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.fromarray(DEEP), "PNG"),
        saved(Image.fromarray(DEEP), "TIFF"),
        saved(Image.fromarray(DEEP.astype(">u2")), "TIFF"),
        saved(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
        b"P5 3 2 65535\n" + DEEP.astype(">u2").tobytes(),
    ],
    ids=["png", "tiff", "tiff big endian", "tiff 32 bit", "pgm"],
)
def test_read_image_16_bit_gray_keeps_the_high_byte(data: bytes) -> None:
    image = read_image(data)
    np.testing.assert_array_equal(image.pixels[..., 0], DEEP_HIGH)
    assert image.notes == ("16 bit reduced to 8",)


def test_read_image_16_bit_color_keeps_the_high_byte_and_says_so() -> None:
    row = b"\0" + np.array([[0x1234, 0x00FF, 0xFFFF]], ">u2").tobytes()
    image = read_image(png(1, 1, 16, 2, row))
    assert image.pixels.tolist() == [[[0x12, 0, 0xFF]]]
    assert image.notes == ("16 bit reduced to 8",)


def test_read_image_cmyk_jpeg_becomes_rgb() -> None:
    image = read_image(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert abs(image.pixels.astype(int) - [255, 0, 0]).max() <= 3
    assert image.notes == ("CMYK converted to RGB",)


UPRIGHT_TO_STORED = {  # EXIF 2.32, tag 274: which side of the scene the stored row 0 and column 0 are
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.swapaxes(0, 1),  # left, top
    6: lambda a: a[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda a: a[::-1].swapaxes(0, 1),  # left, bottom
}


@pytest.mark.parametrize("orientation", UPRIGHT_TO_STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_read_image_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(UPRIGHT_TO_STORED[orientation](RGB)))
    image = read_image(saved(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(image.pixels, RGB)
    assert image.notes == (() if orientation == 1 else ("rotated by its EXIF orientation",))


def test_read_image_rotated_jpeg_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:, :16] = 255
    stored = Image.fromarray(np.ascontiguousarray(UPRIGHT_TO_STORED[6](upright)))
    image = read_image(saved(stored, "JPEG", exif=exif))
    assert abs(image.pixels.astype(int) - upright).max() <= 3


def test_read_image_damaged_exif_is_ignored() -> None:
    data = saved(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0nonsense")
    np.testing.assert_array_equal(read_image(data).pixels, RGB)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_read_image_first_of_several_frames_is_read(kind: str) -> None:
    first, *rest = (Image.new("L", (4, 3), value) for value in (200, 100, 50))
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(saved(first, kind, save_all=True, append_images=rest, **options))
    assert (image.pixels == 200).all()
    assert image.pixels.shape[:2] == (3, 4)
    assert image.notes[0] == "first of 3 frames"


def test_read_image_accepts_pil_images_and_arrays() -> None:
    np.testing.assert_array_equal(read_image(Image.fromarray(RGBA)).pixels, RGBA)
    np.testing.assert_array_equal(read_image(GRAY[..., 0]).pixels, GRAY)
    np.testing.assert_array_equal(read_image(RGB).pixels, RGB)
    assert read_image(RGB).name == "image"


def _fake_png(width: int, height: int) -> bytes:
    return png(width, height, 8, 2, b"\0")


def _gif_header(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    return struct.pack("<6sHHBBBcHHHHBB", b"GIF89a", *screen, 0, 0, 0, b",", 0, 0, *frame, 0, 2)


WEBP_HEADER = struct.pack("<4sI4s4sII", b"RIFF", 30, b"WEBP", b"VP8X", 10, 0) + b"\xfe\x3f\x00" * 2 + bytes(8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image, which is not supported; convert it to PNG or JPEG"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avif", "an AVIF image, which is not supported"),
        (b"\0\0\0\x1cftypisom\0\0\0\0isom", "a video, which is not supported"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image, which is not supported"),
        (b"%PDF-1.7", "a PDF document, which is not supported"),
        (b"just some text", "not an image, expected PNG, JPEG, BMP, GIF, TIFF, WebP, PGM or PPM"),
        (saved(Image.fromarray(RGB), "PNG")[:-40], r"cannot be decoded \(.*[Tt]runcated.*damaged, truncated"),
        (saved(Image.effect_noise((64, 64), 50), "JPEG")[:600], r"cannot be decoded \(.*truncated"),
        (saved(Image.fromarray(RGB), "BMP")[:-9], "cannot be decoded"),
        (saved(Image.fromarray(RGB), "TIFF")[:100], "cannot be decoded"),
        (saved(Image.fromarray(RGB), "WEBP")[:-9], "cannot be decoded"),
        (saved(Image.fromarray(RGB), "PPM")[:-1], "cannot be decoded"),
        (saved(Image.fromarray(GRAY[..., 0]), "GIF")[:30], "cannot be decoded"),
        (_fake_png(20_000, 20_000), "20000x20000 are 400 megapixels, expected at most 25; .*raise --max-megapixels"),
        (_fake_png(5001, 5000), "5001x5000 are 25.005 megapixels"),
        (_gif_header((1, 1), (20_000, 20_000)), "larger than the largest GIF"),
        (_gif_header((1, 1), (10_000, 9_000)), "10000x9000 are 90 megapixels"),
        (WEBP_HEADER, "larger than the largest WEBP"),
        (_fake_png(MAX_SIDE + 1, 1), f"expected sides of at most {MAX_SIDE}"),
        (saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "floating-point pixels.*save it with 8 or 16"),
        (saved(Image.fromarray(np.full((2, 2), -1, np.int32)), "TIFF"), "32-bit pixels outside 0..65535"),
    ],
)
def test_read_image_unreadable_file_raises_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: .*{message}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_read_image_missing_file_or_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.png: no such file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(DataError, match="a folder, expected one image file"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2)), np.zeros((2, 2, 2), np.uint8), np.zeros((1, 2, 2, 3), np.uint8), np.zeros((0, 2), np.uint8)],
)
def test_read_image_other_arrays_raise(array: Any) -> None:
    with pytest.raises(DataError, match="expected a uint8 array"):
        read_image(array)


def test_read_image_megapixel_limit_can_be_changed() -> None:
    image = np.zeros((1000, 1001), np.uint8)
    for source in (image, Image.fromarray(image), saved(Image.fromarray(image), "PNG")):
        with pytest.raises(DataError, match=r"1001x1000 are 1\.001 megapixels, expected at most 1;"):
            read_image(source, max_megapixels=1)
        assert read_image(source, max_megapixels=1.001).pixels.shape == (1000, 1001, 1)


def test_read_image_suppresses_pillow_warnings() -> None:
    filters = list(warnings.filters)
    broken_animation = png(1, 1, 8, 0, b"\0\x07", chunk(b"acTL", bytes(8)))  # "Invalid APNG"
    assert read_image(broken_animation).pixels.tolist() == [[[7]]]
    assert list(warnings.filters) == filters


@pytest.fixture(scope="module")
def pngsuite(data_folder: Path) -> dict[str, bytes]:
    with tarfile.open(data_folder / "pngsuite" / "pngsuite.tar.gz") as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers() if member.isfile()}
        return {name.removeprefix("pngsuite/"): file.read() for name, file in files.items() if file}


def _rgba(image: DecodedImage) -> NDArray[np.int64]:
    color = image.pixels if image.pixels.shape[2] > 1 else np.repeat(image.pixels, 3, axis=2)
    alpha = np.full((*color.shape[:2], 4), 255)
    alpha[..., : color.shape[2]] = color
    return alpha


def test_read_image_pngsuite_pngs_equal_references(pngsuite: dict[str, bytes]) -> None:
    names = [name[4:-4] for name in pngsuite if name.startswith("png/") and not name.startswith("png/x")]
    for name in names:
        reference = np.array(json.loads(pngsuite[f"json/{name}.json"]))
        pixels = _rgba(read_image(pngsuite[f"png/{name}.png"]))
        expected = reference >> 8 if name.endswith("16") else reference
        np.testing.assert_array_equal(pixels, expected.reshape(pixels.shape), err_msg=name)
    assert len(names) == 161


def test_read_image_pngsuite_bmps_equal_pngs(pngsuite: dict[str, bytes]) -> None:
    names = [name[4:-4] for name in pngsuite if name.startswith("bmp/")]
    for name in names:
        from_bmp, from_png = (_rgba(read_image(pngsuite[f"{kind}/{name}.{kind}"])) for kind in ("bmp", "png"))
        if name != "tbbn0g04":  # its BMP was written without transparency
            assert abs(from_bmp - from_png).max() <= (1 if name.endswith("g16") else 0), (
                name
            )  # BMPs of 16-bit gray were rounded
    assert len(names) == 161


def test_read_image_pngsuite_damaged_files_raise(pngsuite: dict[str, bytes]) -> None:
    damaged = [name for name in pngsuite if name.startswith("png/x")]
    for name in damaged:
        with pytest.raises(DataError, match=r"cannot be decoded|not an image"):
            read_image(pngsuite[name])
    assert len(damaged) == 14


def test_read_image_without_memory_does_not_call_the_file_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("convscope.images.read._pixels", fail)
    with pytest.raises(
        DataError, match=r"^image: not enough memory to decode it; make it smaller, or free some memory$"
    ):
        read_image(encode_png(np.zeros((2, 2, 1), np.uint8)))
