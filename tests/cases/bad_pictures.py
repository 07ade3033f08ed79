"""Rows of the bad-input table: pictures and kernels that `convscope filter` must refuse in one line."""

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


def _filtering(data: bytes, kernel: str = "edge") -> Arrange:
    """Write `data` as a picture file; the command that filters it."""

    def arrange(folder: Path) -> list[str]:
        path = folder / "picture.png"
        path.write_bytes(data)
        return ["filter", str(path), "--kernel", kernel]

    return arrange


def _naming(name: str) -> Arrange:
    """The command on a path that was not written."""
    return lambda folder: ["filter", str(folder / name), "--kernel", "edge"]


PICTURE_ROWS = [
    BadInput("picture with a wrong checksum", _filtering(_wrong_checksum()), 3, r"picture\.png: cannot be decoded"),
    BadInput("cut-off PNG", _filtering(_saved("PNG")[:200]), 3, r"picture\.png: cannot be decoded \(.*[Tt]runcated"),
    BadInput("cut-off JPEG", _filtering(_saved("JPEG")[:900]), 3, r"picture\.png: cannot be decoded \(.*truncated"),
    BadInput("huge picture", _filtering(_huge_header()), 3, r"20000x20000 are 400 megapixels.*--max-megapixels"),
    BadInput(
        "text named .png", _filtering(b"Dear Sir or Madam"), 3, r"picture\.png: not a picture, expected PNG, JPEG"
    ),
    BadInput("empty picture file", _filtering(b""), 3, r"picture\.png: an empty file"),
    BadInput("folder for a picture", _naming("."), 3, r"a folder, expected one picture file"),
    BadInput("missing picture", _naming("missing.png"), 3, r"missing\.png: no such file"),
    BadInput("unknown kernel", _filtering(_saved("PNG"), "edgy"), 2, r"unknown kernel 'edgy': expected edge, blur"),
    BadInput(
        "ragged kernel", _filtering(_saved("PNG"), "1 0 / 1"), 2, r"row 2 of the matrix has 1 numbers where row 1"
    ),
    BadInput(
        "kernel over the picture", _filtering(_saved("PNG"), "0" * 300), 2, r"kernel is 300x1, larger than the pic"
    ),
]
