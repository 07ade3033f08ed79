"""JPEG files with missing or wrong data, which libjpeg fills with gray and Pillow does not mention (ITU-T T.81).

The compressed data are segments that end at a marker: a restart marker, the next scan or the end of the image. A
segment is sound if its last pixels come from its last bytes. If it was cut, it ends before the decoder has all its
pixels. If bytes in it were overwritten, the decoder loses count, and usually ends before or after it.

The decoder is handed each segment without its marker. After the last pixel it skips all further bytes; before that, it
leaves some of them until the next blocks are complete.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

DAMAGE_NOTE = "damaged: some of its data is missing or wrong"
PROBE_BYTES = 9  # handed over one by one; the decoder reads up to 8 ahead
MAX_SEGMENTS = 2_000  # checked; more would take longer than decoding

_MARKER = re.compile(rb"\xff+[^\x00\xff]")  # \xff\x00 is data
_STRAY = re.compile(rb"\xff\xff+\x00")  # no encoder writes it
_DATA = re.compile(rb"\xff\x00|.", re.DOTALL)
_END_OF_IMAGE, _START_OF_SCAN, _RESTART_INTERVAL = 0xD9, 0xDA, 0xDD
_RESTARTS = range(0xD0, 0xD8)
_ALONE = {0x01, 0xD8, *_RESTARTS}  # markers without a body
_PROGRESSIVE_FRAME = 0xC2
_HUFFMAN_FRAMES = {0xC0, 0xC1, _PROGRESSIVE_FRAME}  # other decoders of libjpeg cannot wait for data
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_AFTER_DATA = {0xC4, *_RESTARTS, *range(0xD9, 0xDE), *range(0xE0, 0xF0), 0xFE}  # markers that may follow a segment


def load_jpeg(image: JpegImageFile, content: bytes) -> bool:
    """Decode the pixels of an opened image.

    Args:
        image: its pixels are not loaded yet.
        content: the whole file.

    Returns:
        Whether the compressed data is sound; if not, some pixels are wrong.

    Raises:
        OSError: the data cannot be decoded, or the file is truncated.
    """
    layout = _Layout()
    if not layout.parse(content) or len(layout.ends) > MAX_SEGMENTS:
        image.load()
        return layout.sound
    image.load_prepare()
    tile = image.tile[0]
    decoder = Image._getdecoder(image.mode, tile.codec_name, tile.args, image.decoderconfig)
    decoder.setimage(image.im, tile.extents)
    try:
        sound = _Feed(decoder, content).decode(layout.ends, complete_at_end=layout.is_one_scan)
    finally:
        decoder.cleanup()
    image.tile = []
    return sound and layout.sound


@dataclass
class _Layout:
    """The markers of a file.

    Attributes:
        ends: where each segment of compressed data ends.
        sound: whether the markers contradict nothing, and all bits of all coefficients are there.
        is_one_scan: whether one scan has all components, so that it is decoded row by row.
    """

    ends: list[int] = field(default_factory=list)
    sound: bool = True
    is_one_scan: bool = False
    _sequential: bool = True
    _restarting: bool = False
    _next_restart: int = 0
    _huffman: bool = True
    _missing_bits: dict[int, list[int]] = field(default_factory=dict)  # of each coefficient, by component

    def parse(self, content: bytes) -> bool:
        """Read all markers up to the end of the image; whether the segments can be checked one by one."""
        start = position = 2
        in_scan = False
        while match := _MARKER.search(content, position):
            code, position = content[match.end() - 1], match.end()
            if in_scan:
                self.sound &= code in _AFTER_DATA and not _STRAY.search(content, start, match.start())
                self.ends.append(match.start())
            start = position
            if code in _RESTARTS:
                self._check_restart(code)
                continue
            in_scan = code == _START_OF_SCAN
            if code == _END_OF_IMAGE:
                self.sound &= not any(any(bits) for bits in self._missing_bits.values())
                return self._huffman and bool(self.ends)
            if code not in _ALONE:
                length = int.from_bytes(content[position : position + 2], "big")
                self._read_body(code, content[position + 2 : position + length])
                start = position = position + length
        self.sound = False  # a marker was lost, or a forged one has a length that leads past the end of the file
        return False

    def _read_body(self, code: int, body: bytes) -> None:
        if code in _FRAMES:
            self._huffman &= code in _HUFFMAN_FRAMES
            self._sequential = code != _PROGRESSIVE_FRAME
            self._missing_bits = {component: [1] * 64 for component in body[6::3]}
        elif code == _RESTART_INTERVAL:
            self._restarting = any(body)
        elif code == _START_OF_SCAN and body:
            self._next_restart = 0
            self.is_one_scan = self._sequential and body[0] == len(self._missing_bits)
            first, last, position = (*body[1 + 2 * body[0] :], 0, 0, 0)[:3]
            for component in body[1 : 1 + 2 * body[0] : 2]:
                bits = self._missing_bits.setdefault(component, [1] * 64)
                bits[first : last + 1] = [position & 15] * len(bits[first : last + 1])

    def _check_restart(self, code: int) -> None:
        self.sound &= self._restarting and code == _RESTARTS[self._next_restart]
        self._next_restart = (self._next_restart + 1) % len(_RESTARTS)


class _Feed:
    """Hands the data to the decoder, and watches how much it wants."""

    def __init__(self, decoder: Any, content: bytes) -> None:
        self.decoder, self.content = decoder, content
        self.waiting, self.done = b"", False

    def decode(self, ends: Sequence[int], *, complete_at_end: bool) -> bool:
        """Decode everything.

        Args:
            ends: of the segments.
            complete_at_end: whether the decoder has all pixels before it sees the end of the image.

        Returns:
            Whether every segment ended where the decoder expected its end.
        """
        start, sound = 0, True
        for end in ends:
            sound &= self._decode_segment(start, end)
            start = end
        sound &= self.done or not complete_at_end
        self._give(self.content[start:])
        if not self.done:
            raise OSError("image file is truncated")
        return sound

    def _decode_segment(self, start: int, end: int) -> bool:
        probe = max(start, end - PROBE_BYTES)
        probe -= self.content[probe - 1] == 0xFF
        self._give(self.content[start:probe])
        if self.done:
            return False
        taken = [self._give(unit) and not self.done for unit in _DATA.findall(self.content[probe:end])]
        self._give(bytes(PROBE_BYTES))  # to read ahead
        taken_after = [self._give(b"\0") for _ in range(PROBE_BYTES)]
        return not all(taken) and (all(taken_after) or self.done)

    def _give(self, data: bytes) -> bool:
        """Hand over more data; whether the decoder has taken all."""
        if self.done:
            return True
        self.waiting += data
        count, error = self.decoder.decode(self.waiting)
        self.done = count < 0
        if error < 0:
            raise OSError("broken data stream")
        self.waiting = self.waiting[count:] if count > 0 else self.waiting
        return self.done or not self.waiting
