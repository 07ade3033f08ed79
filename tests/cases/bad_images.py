"""Rows of the bad-input table: images and kernels that `convscope filter` must reject with one line."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image

from cases.bad_inputs import BadInput

Arrange = Callable[[Path], list[str]]


def _saved(kind: str) -> bytes:
    stream = BytesIO()
    Image.linear_gradient("L").convert("RGB").save(stream, kind)
    return stream.getvalue()


def _wrong_checksum() -> bytes:
    data = bytearray(_saved("PNG"))
    data[data.index(b"IDAT") + 20] ^= 1
    return bytes(data)


def _huge_header() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, b"IDAT")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _filter(data: bytes, kernel: str = "edge") -> Arrange:
    """Write `data` as an image file; the command filters it."""

    def prepare(folder: Path) -> list[str]:
        path = folder / "image.png"
        path.write_bytes(data)
        return ["filter", str(path), "--kernel", kernel]

    return prepare


def _filter_path(name: str) -> Arrange:
    """The command on a path that was not written."""
    return lambda folder: ["filter", str(folder / name), "--kernel", "edge"]


IMAGE_ROWS = [
    BadInput("image with a wrong checksum", _filter(_wrong_checksum()), 3, r"image\.png: cannot be decoded"),
    BadInput("truncated PNG", _filter(_saved("PNG")[:200]), 3, r"image\.png: cannot be decoded \(.*[Tt]runcated"),
    BadInput("truncated JPEG", _filter(_saved("JPEG")[:900]), 3, r"image\.png: cannot be decoded \(.*truncated"),
    BadInput("huge image", _filter(_huge_header()), 3, r"20000x20000 are 400 megapixels.*--max-megapixels"),
    BadInput("text named .png", _filter(b"Dear Sir or Madam"), 3, r"image\.png: not an image, expected PNG, JPEG"),
    BadInput("empty image file", _filter(b""), 3, r"image\.png: an empty file"),
    BadInput("folder instead of an image", _filter_path("."), 3, r"a folder, expected one image file"),
    BadInput("missing image", _filter_path("missing.png"), 3, r"missing\.png: no such file"),
    BadInput("unknown kernel", _filter(_saved("PNG"), "edgy"), 2, r"unknown kernel 'edgy': expected edge, blur"),
    BadInput("ragged kernel", _filter(_saved("PNG"), "1 0 / 1"), 2, r"row 2 of the matrix has 1 numbers, row 1 has 2"),
    BadInput("kernel over the image", _filter(_saved("PNG"), "0" * 300), 2, r"kernel is 300x1, larger than the image"),
]
