"""Decode any image file to uint8 pixels, or raise one clear line that says what is wrong with it.

Accepted: PNG, JPEG, BMP, GIF and WebP (first frame), TIFF (first page), PGM, PPM and PBM. What a decoder has to decide:

    palette, CMYK, YCbCr      become RGB; with a transparent color RGBA
    gray with transparency    becomes RGBA
    1 bit                     0 or 255
    16 bit                    the high byte (value >> 8), for gray exactly as Pillow's decoders do it for color; the
                              values of gray are kept, so that a narrower range can be mapped to 0..255
    floating point            rejected: the range of its values is not defined
    EXIF orientation          applied, so that rows run from top to bottom as a viewer shows them
    gamma, color profiles     ignored
    damaged JPEG or WebP      read, with a note; see `convscope.images.files.jpeg` and `.webp`
    checksums of a PNG        all of them are checked, and that no pixel is missing

Pixels are decoded only after the size in the file's header has been checked.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from convscope._text import reason_of
from convscope.errors import DataError
from convscope.images.depth import FULL_RANGE, to_eight_bits
from convscope.images.files.jpeg import DAMAGE_NOTE, load_jpeg
from convscope.images.files.png import check_png
from convscope.images.files.signatures import find_reader, other_kind
from convscope.images.files.source import IMAGE_FORMATS, open_source, source_name
from convscope.images.files.tiff import load_tiff
from convscope.images.files.webp import is_sound_webp

SOURCES = "a path, an open file, its bytes, a PIL image or a uint8 array"
DEEP_NOTE = "16 bit reduced to 8"
STRIP_PIXELS = 2**20
MAX_SIDE = 2**20  # pixels; up to here the resize is exact in float64

_MODE_NOTES = {
    "1": ("1 bit expanded to 8",),
    "P": ("palette expanded",),
    "PA": ("palette expanded",),
    "CMYK": ("CMYK converted to RGB",),
}

# EXIF 2.32, tag 274: the operation that turns the stored image upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EXIF_KEYS = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}  # where getexif() looks, but for TIFF

_WARNING_FILTERS = threading.Lock()


class TooManyPixelsError(DataError):
    """An image has more pixels than the caller accepts; nothing was decoded."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One decoded image.

    Attributes:
        pixels: uint8 (height, width, channels), channels 1 gray, 3 RGB or 4 RGBA (alpha not premultiplied), upright.
        notes: short phrases that say how the stored pixels were changed.
        name: the path, or "image" if it was not a file; for messages.
        deep: the gray values of a 16-bit file, uint16 (height, width); `pixels` has their high bytes.
    """

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    name: str = "image"
    deep: NDArray[np.uint16] | None = None

    def with_range(self, low: int, high: int) -> DecodedImage:
        """The image with its 16-bit values from `low` to `high` mapped to 0..255; an 8-bit image stays the same."""
        if self.deep is None or (low, high) == FULL_RANGE:
            return self
        pixels = np.repeat(to_eight_bits(self.deep, low, high)[..., None], min(self.pixels.shape[2], 3), axis=2)
        if self.pixels.shape[2] == 4:
            pixels = np.concatenate([pixels, self.pixels[..., 3:]], axis=2)
        clipped = (self.deep.min() < low) or (self.deep.max() > high)
        note = f"16-bit values {low}..{high} mapped to 0..255" + (", others clipped" if clipped else "")
        return replace(self, pixels=pixels, notes=tuple(note if old == DEEP_NOTE else old for old in self.notes))


def read_image(
    source: str | Path | bytes | IO[bytes] | Image.Image | NDArray[np.uint8],
    *,
    max_megapixels: float = 25.0,
    name: str = "image",
) -> DecodedImage:
    """Decode an image.

    Args:
        source: a path, "-" for standard input, an open file or its bytes, a PIL image, or a uint8 array (h, w) or
            (h, w, 1, 3 or 4).
        max_megapixels: larger images are rejected, in 10^6 pixels.
        name: what messages call the bytes of a file.

    Raises:
        DataError: the file is missing, not a regular one, empty, not an image, damaged or truncated, has
            floating-point pixels, more than `max_megapixels` or a side over 2^20. The message is one line that names
            the file.

    >>> read_image(np.zeros((2, 3), np.uint8)).pixels.shape
    (2, 3, 1)
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_megapixels)
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "")) or "image"
        _check_size(source.size, name, max_megapixels)
        with _report_damage(name):
            return _pixels(source, name)
    if isinstance(source, bytes):
        return _from_stream(BytesIO(source), name, max_megapixels)
    if hasattr(source, "read"):
        return _from_stream(BytesIO(source.read()), str(getattr(source, "name", name)), max_megapixels)
    if not isinstance(source, str | Path):
        raise DataError(f"{name}: expected {SOURCES}, got {type(source).__name__}")
    with open_source(source) as stream:
        return _from_stream(stream, source_name(source), max_megapixels)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 pixels (h, w, 1, 3 or 4) as the bytes of a PNG file.

    >>> read_image(encode_png(np.full((2, 3, 1), 7, np.uint8))).pixels[0, 0, 0]
    np.uint8(7)
    """
    buffer = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _from_array(pixels: NDArray[np.uint8], max_megapixels: float) -> DecodedImage:
    shaped = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or shaped.ndim != 3 or shaped.shape[2] not in (1, 3, 4) or not pixels.size:
        advice = "convert it to uint8 0..255 first" if pixels.dtype != np.uint8 else "pass several images as a list"
        raise DataError(
            f"image: expected a uint8 array (height, width) or (height, width, 1, 3 or 4), "
            f"got {pixels.dtype} {pixels.shape}; {advice}"
        )
    _check_size((shaped.shape[1], shaped.shape[0]), "image", max_megapixels)
    return DecodedImage(shaped)


def _from_stream(stream: IO[bytes], name: str, max_megapixels: float) -> DecodedImage:
    head = stream.read(16)
    if not head:
        raise DataError(f"{name}: an empty file, expected an image ({IMAGE_FORMATS}); get the file again")
    if kind := other_kind(head):
        raise DataError(f"{name}: {kind}, which is not supported; convert it to PNG or JPEG")
    if (reader := find_reader(head)) is None:
        raise DataError(f"{name}: not an image, expected {IMAGE_FORMATS}; convert it to one of these")
    with _report_damage(name):
        return _decode(stream, reader, name, max_megapixels)


def _decode(stream: IO[bytes], reader: type[ImageFile], name: str, max_megapixels: float) -> DecodedImage:
    with _without_warnings():
        image = _header(stream, reader, name)
        _check_size(image.size, name, max_megapixels)
        if isinstance(image, PngImageFile):
            check_png(stream)
            _widen_transparency(image)
        damage = not _load_checked(image, stream)
        frames = getattr(image, "n_frames", 1)
    notes = [DAMAGE_NOTE] if damage else []
    if frames != 1:
        notes.append(f"first of {frames} frames")
    if image.mode[0] != "I" and any(";16" in str(tile.args) for tile in image.tile):  # color: only Pillow's 8 bits
        notes.append(DEEP_NOTE)
    decoded = _pixels(image, name)
    return replace(decoded, notes=(*notes, *decoded.notes)) if notes else decoded


def _load_checked(image: ImageFile, stream: IO[bytes]) -> bool:
    """Whether the data is sound, in formats whose decoders do not mention it; the pixels of a JPEG are loaded."""
    if not isinstance(image, JpegImageFile | WebPImageFile):
        return True
    stream.seek(0)
    content = stream.read()
    if isinstance(image, WebPImageFile):
        return is_sound_webp(content)
    return load_jpeg(image, content)


def _header(stream: IO[bytes], reader: type[ImageFile], name: str) -> ImageFile:
    stream.seek(0)
    try:
        return reader(stream, name)
    except Image.DecompressionBombError:  # the readers of GIF and WebP allocate the canvas at once
        raise DataError(f"{name}: larger than the largest {reader.format} that can be read; make it smaller") from None


def _widen_transparency(image: ImageFile) -> None:
    """Widen the gray level that a PNG of 2 or 4 bits declares transparent; Pillow widens only the pixels."""
    if "transparency" in image.info:
        image.info["transparency"] *= {"L;2": 85, "L;4": 17}.get(str(image.tile[0].args), 1)


def _check_size(size: tuple[int, int], name: str, max_megapixels: float) -> None:
    width, height = size
    if width * height > round(max_megapixels * 1e6):
        raise TooManyPixelsError(
            f"{name}: {width}x{height} are {width * height / 1e6:g} megapixels, expected at most {max_megapixels:g}; "
            "make it smaller or raise --max-megapixels"
        )
    if max(size) > MAX_SIDE:
        raise DataError(f"{name}: {width}x{height}, expected sides of at most {MAX_SIDE}; cut it into parts")


def _pixels(image: Image.Image, name: str) -> DecodedImage:
    """Load the pixels of an image, and turn them upright."""
    # The EXIF of a TIFF is read before its pixels, because load() applies and removes it. That of others afterwards:
    # getexif() of a PNG loads the pixels, and an exception in there must not be taken for damaged EXIF.
    before, sound = 1, True
    if isinstance(image, TiffImageFile):
        before = _orientation(image)
        sound = load_tiff(image)
    image.load()
    after = _orientation(image)
    if after in _UPRIGHT:
        image = image.transpose(_UPRIGHT[after])
    decoded = _high_bytes(image, name) if image.mode.startswith("I") else _eight_bit(image, name)
    notes = [] if sound else [DAMAGE_NOTE]
    if before in _UPRIGHT or after in _UPRIGHT:
        notes.append("rotated by its EXIF orientation")
    return replace(decoded, notes=(*notes, *decoded.notes)) if notes else decoded


def _orientation(image: Image.Image) -> int:
    if not isinstance(image, TiffImageFile) and _EXIF_KEYS.isdisjoint(image.info):
        return 1
    with _without_warnings():
        try:
            return int(image.getexif().get(274, 1))
        except Exception:  # damaged EXIF must not make an image unreadable; viewers ignore it too
            return 1


def _eight_bit(image: Image.Image, name: str) -> DecodedImage:
    if image.mode == "F":
        raise DataError(f"{name}: floating-point pixels, whose range is not defined; save it with 8 or 16 bits")
    mode = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
    pixels = _to_array(image if image.mode == mode else image.convert(mode))
    return DecodedImage(pixels.reshape(*pixels.shape[:2], -1), _MODE_NOTES.get(image.mode, ()), name)


def _high_bytes(image: Image.Image, name: str) -> DecodedImage:
    """An image of Pillow's gray modes I;16, I;16B and I (32 bits, which must hold 16-bit values)."""
    values = _to_array(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"{name}: 32-bit pixels outside 0..65535; save it with 8 or 16 bits")
    gray = (values >> 8).astype(np.uint8)[..., None]
    clear = image.info.get("transparency")
    if clear is not None:
        alpha = np.where(values == clear, 0, 255).astype(np.uint8)
        gray = np.concatenate([gray, gray, gray, alpha[..., None]], axis=2)
    return DecodedImage(gray, (DEEP_NOTE,), name, values.astype(np.uint16))


def _to_array(image: Image.Image) -> NDArray[Any]:
    """What `np.asarray` returns, without its temporary copy of a large image."""
    rows = max(1, STRIP_PIXELS // image.width)
    if image.height <= rows:
        return np.asarray(image)
    strips = (image.crop((0, top, image.width, min(top + rows, image.height))) for top in range(0, image.height, rows))
    first = np.asarray(next(strips))
    values = np.empty((image.height, *first.shape[1:]), first.dtype)
    values[:rows] = first
    for i, strip in enumerate(strips, 1):
        values[i * rows : (i + 1) * rows] = np.asarray(strip)
    return values


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings about sizes and metadata; one thread at a time, as warning filters are global."""
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _report_damage(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into a DataError."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{name}: not enough memory to decode it; make it smaller, or free some memory") from error
    except Exception as error:  # decoders raise exceptions of any kind for damaged files
        raise DataError(
            f"{name}: cannot be decoded ({reason_of(error)}); "
            "it is damaged, truncated or of a rare kind: save it again as PNG"
        ) from error
