"""Loading TIFF files: libtiff's messages are errors instead of lines on stderr, and compressed data must be complete.

Pillow goes on after some errors of libtiff, which only prints them. libtiff itself does not check the checksum at the
end of deflated data if it has all pixels, and fills missing JPEG data with gray.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from convscope.images.files.jpeg import load_jpeg

JPEG = 7
JPEG_TABLES, TILE_SIZE = 347, (322, 323)  # tags of TIFF Technical Note 2 and TIFF 6.0
END_OF_JPEG = b"\xff\xd9"
COMPRESSION, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 259, 273, 279, 324, 325  # tags, TIFF 6.0
DEFLATE = {8, 32946}
STDERR = 2
STEP_BYTES = 2**20  # decompressed at a time, which bounds the memory

_MESSAGE = re.compile(r"(?!convscope: )[\w.]{1,40}: .*")  # as libtiff prints them
_ABOUT_PIXELS = re.compile(r"decod|JPEGLib|strip|tile|scanline|code not yet|not enough data", re.IGNORECASE)
_REDIRECTION = threading.Lock()


def load_tiff(image: TiffImageFile) -> bool:
    """Load the pixels of the current page.

    Returns:
        Whether its compressed data is sound, as far as JPEG in it is concerned; if not, some pixels are wrong.

    Raises:
        OSError, zlib.error: some of them are missing or damaged.
    """
    sound = True
    if image.fp is not None and image.tag_v2.get(COMPRESSION) in DEFLATE:
        for part in _parts(image):
            _decompress(part)
    elif image.fp is not None and image.tag_v2.get(COMPRESSION) == JPEG:
        sound = all(_is_sound_jpeg(part, image) for part in _parts(image))
    messages: list[str] = []
    with _capture_messages(messages):
        image.load()
    if wrong := [message for message in messages if _ABOUT_PIXELS.search(message)]:
        raise OSError(wrong[0].rstrip("."))
    return sound


def _parts(image: TiffImageFile) -> Iterator[bytes]:
    """The compressed data of each strip or tile. The position in the file stays the same."""
    assert image.fp is not None
    position = image.fp.tell()
    try:
        for places, sizes in ((STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES)):
            for place, size in zip(image.tag_v2.get(places, ()), image.tag_v2.get(sizes, ()), strict=False):
                image.fp.seek(place)
                yield image.fp.read(size)
    finally:
        image.fp.seek(position)


def _is_sound_jpeg(part: bytes, image: TiffImageFile) -> bool:
    """Whether a strip or tile, which is a JPEG file but for the tables that all of them share, decodes completely."""
    tables = image.tag_v2.get(JPEG_TABLES)
    if isinstance(tables, bytes):
        part = tables.removesuffix(END_OF_JPEG) + part[2:]
    largest = [max(side, image.tag_v2.get(tag, 0)) for side, tag in zip(image.size, TILE_SIZE, strict=True)]
    try:
        jpeg = JpegImageFile(BytesIO(part))
        return jpeg.width > largest[0] or jpeg.height > largest[1] or load_jpeg(jpeg, part)
    except SyntaxError:  # of a kind that only libtiff reads, or not JPEG at all, which libtiff reports
        return True
    except OSError:
        return False


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
