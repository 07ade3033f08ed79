"""Checks of a PNG file that decoders leave out: every checksum, and that no pixel is missing (PNG specification, W3C).

A decoder leaves missing rows black, and does not say so if the compressed data ends early but in the right form.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
# First column and row, and steps between columns and between rows, of the passes of an interlaced image
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_STEP_BYTES = 2**20  # decompressed at a time, which bounds the memory


def check_png(stream: IO[bytes]) -> None:
    """Check every chunk and the pixel data of a PNG file. The stream's position stays the same.

    Args:
        stream: a file that starts with SIGNATURE, of a size that may be decompressed.

    Raises:
        ValueError: the file is truncated, a checksum is wrong, or there are too few pixels.
        zlib.error: the compressed data is damaged.
    """
    position = stream.tell()
    stream.seek(len(SIGNATURE))
    kind, header = _read_chunk(stream)
    if kind != b"IHDR" or len(header) != 13:
        raise ValueError("a PNG without a header")
    pixels = _PixelData(_data_size(header))
    while kind != b"IEND":
        kind, body = _read_chunk(stream)
        if kind == b"IDAT":
            pixels.add(body)
    pixels.check()
    stream.seek(position)


def _read_chunk(stream: IO[bytes]) -> tuple[bytes, bytes]:
    """The type and the body of the next chunk."""
    start = stream.read(8)
    length, kind = struct.unpack(">I4s", start) if len(start) == 8 else (0, b"")
    body, checksum = stream.read(length), stream.read(4)
    if len(checksum) < 4:
        raise ValueError("the file is truncated")
    if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
        raise ValueError(f"wrong checksum in chunk {kind!r}")
    return kind, body


def _data_size(header: bytes) -> int:
    """The number of bytes of all rows, each with its filter byte."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    total = 0
    for left, top, right, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * depth * _CHANNELS.get(color, 1) + 7) // 8)
    return total


class _PixelData:
    """Counts the decompressed bytes; the decompressor checks their checksum when it reaches the end."""

    def __init__(self, expected: int) -> None:
        self._expected, self._count = expected, 0
        self._decompressor = zlib.decompressobj()

    def add(self, data: bytes) -> None:
        """Decompress more data, up to a little more than expected."""
        while data and not self._decompressor.eof and self._count <= self._expected:
            step = min(_STEP_BYTES, self._expected - self._count + 1)
            self._count += len(self._decompressor.decompress(data, step))
            data = self._decompressor.unconsumed_tail

    def check(self) -> None:
        """Raise ValueError if there were fewer bytes than expected."""
        if self._count < self._expected:
            raise ValueError(f"{self._count} of {self._expected} bytes of pixel data")
