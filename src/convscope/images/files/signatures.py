"""Formats of image files, told by their first bytes."""

from __future__ import annotations

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from convscope.images.files.png import SIGNATURE as PNG_SIGNATURE

# Called directly, because the size limit of Image.open is global to the process.
READERS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (PNG_SIGNATURE, PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"BM", BmpImageFile),
    (b"GIF8", GifImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),  # BigTIFF
    (b"MM\0+", TiffImageFile),
    (b"RIFF", WebPImageFile),
    *((b"P%d" % kind, PpmImageFile) for kind in range(1, 7)),
)

OTHER_KINDS = (  # that people take for images, or that are images
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"\0\0\1\0", "a Windows icon"),
    (b"<svg", "an SVG drawing"),
)


HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"}  # ISO/IEC 23008-12


def find_reader(head: bytes) -> type[ImageFile] | None:
    """The class of Pillow that reads a file with these first 16 bytes; None if no accepted format begins so."""
    return next((reader for magic, reader in READERS if head.startswith(magic)), None)


def other_kind(head: bytes) -> str:
    """What a file of another format is, by its first 16 bytes; "" if they do not tell."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "an AVIF image" if brand.startswith(b"avi") else "a HEIC image" if brand in HEIC_BRANDS else "a video"
    return next((kind for magic, kind in OTHER_KINDS if head.startswith(magic)), "")
