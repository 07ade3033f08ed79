"""WebP files whose data was overwritten; the decoder does not mention it (RFC 9649 and RFC 6386).

The pixels of a sound image are complete only with its last bytes. If bytes were overwritten, the decoder loses count:
it wants more data than there is, which is an error, or it leaves data unused, which is no error. So the decoder is
handed the data once more without its last bytes: if it still gets all pixels, the data was damaged.

The transparency is compressed apart, and is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from PIL.WebPImagePlugin import WebPImageFile

SPARE_BYTES = 12  # left unused; the decoder of a sound image misses the last 1 to 4

_FRAME_HEADER = 16  # bytes before the chunks of an animation's frame


def is_sound_webp(content: bytes) -> bool:
    """Whether the decoder needs the last bytes of the first frame; if not, some pixels are wrong.

    Args:
        content: the whole file, of a size that may be decoded. If its pixels cannot be decoded, it counts as sound.
    """
    kind, data = next(_bitstreams(content, 12), (b"", b""))
    if len(data) <= SPARE_BYTES:
        return True
    shortened = kind + (len(data) - SPARE_BYTES).to_bytes(4, "little") + data[:-SPARE_BYTES]
    shortened += b"\0" * (len(data) % 2)
    try:
        WebPImageFile(BytesIO(b"RIFF" + (4 + len(shortened)).to_bytes(4, "little") + b"WEBP" + shortened)).load()
    except Exception:  # whatever the decoder raises, it wants the bytes
        return True
    return False


def _bitstreams(content: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that hold pixels, as their type and body, from a position on."""
    while position + 8 <= len(content):
        kind, size = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8
        if kind in (b"VP8 ", b"VP8L"):
            yield kind, content[position : position + size]
        elif kind == b"ANMF":
            yield from _bitstreams(content[position : position + size], _FRAME_HEADER)
        position += size + size % 2
