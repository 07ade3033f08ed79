"""Loading TIFF files: libtiff's messages are errors instead of lines on stderr, and compressed data must be complete.

Pillow goes on after some errors of libtiff, which only prints them. libtiff itself does not check the checksum at the
end of deflated data if it has all pixels.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL.TiffImagePlugin import TiffImageFile

COMPRESSION, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 259, 273, 279, 324, 325  # tags, TIFF 6.0
DEFLATE = {8, 32946}
STDERR = 2
STEP_BYTES = 2**20  # decompressed at a time, which bounds the memory

_MESSAGE = re.compile(r"(?!convscope: )[\w.]{1,40}: .*")  # as libtiff prints them
_ABOUT_PIXELS = re.compile(r"decod|JPEGLib|strip|tile|scanline|code not yet|not enough data", re.IGNORECASE)
_REDIRECTION = threading.Lock()


def load_tiff(image: TiffImageFile) -> None:
    """Load the pixels of the current page.

    Raises:
        OSError, zlib.error: some of them are missing or damaged.
    """
    if image.fp is not None and image.tag_v2.get(COMPRESSION) in DEFLATE:
        _check_deflated(image)
    messages: list[str] = []
    with _capture_messages(messages):
        image.load()
    if wrong := [message for message in messages if _ABOUT_PIXELS.search(message)]:
        raise OSError(wrong[0].rstrip("."))


def _check_deflated(image: TiffImageFile) -> None:
    assert image.fp is not None
    position = image.fp.tell()
    for places, sizes in ((STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES)):
        for place, size in zip(image.tag_v2.get(places, ()), image.tag_v2.get(sizes, ()), strict=False):
            image.fp.seek(place)
            _decompress(image.fp.read(size))
    image.fp.seek(position)


def _decompress(data: bytes) -> None:
    """Raise OSError or zlib.error unless the data end with their checksum."""
    decompressor = zlib.decompressobj()
    while data and not decompressor.eof:
        decompressor.decompress(data, STEP_BYTES)
        data = decompressor.unconsumed_tail
    if not decompressor.eof:
        raise OSError("deflated data without an end")


@contextmanager
def _capture_messages(messages: list[str]) -> Iterator[None]:
    """Collect what libtiff writes to stderr; what other threads write meanwhile is passed on afterwards."""
    with _REDIRECTION:
        try:
            original = os.dup(STDERR)
        except OSError:  # stderr is closed
            yield
            return
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), STDERR)
            try:
                yield
            finally:
                os.dup2(original, STDERR)
                os.close(original)
                file.seek(0)
                lines = file.read().decode(errors="replace").splitlines(keepends=True)
                messages += [line.strip() for line in lines if _MESSAGE.fullmatch(line.strip())]
                others = [line for line in lines if not _MESSAGE.fullmatch(line.strip())]
                if others:
                    os.write(STDERR, "".join(others).encode())
