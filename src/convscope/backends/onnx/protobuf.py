"""The fields of a serialized protobuf message; enough to inspect a model file before onnxruntime sees it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

Value = int | float | memoryview
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5  # wire types
MAX_VARINT_BYTES = 10


def read_fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field, in order.

    Args:
        message: The serialized message.

    Yields:
        Field number, and an int for a varint, a float for four bytes, or a memoryview of a string or message.

    Raises:
        ValueError: These are no fields, or they end early.

    >>> [(number, bytes(value)) for number, value in read_fields(memoryview(bytes([0x12, 2, 104, 105])))]
    [(2, b'hi')]
    """
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        size = {FOUR_BYTES: 4, EIGHT_BYTES: 8}.get(wire_type)
        if wire_type == LENGTH:
            size, position = _varint(message, position)
        if size is None or number == 0 or position + size > len(message):
            raise ValueError("not a protobuf message")
        chunk = message[position : position + size]
        position += size
        yield number, struct.unpack("<f", chunk)[0] if wire_type == FOUR_BYTES else chunk


def write_field(number: int, value: Value | bytes) -> bytes:
    """A field: an int as a varint, a float as four bytes, else a string or message.

    >>> write_field(2, b"hi"), write_field(1, 300)
    (b'\\x12\\x02hi', b'\\x08\\xac\\x02')
    """
    if isinstance(value, int):
        return _to_varint(number << 3 | VARINT) + _to_varint(value)
    if isinstance(value, float):
        return _to_varint(number << 3 | FOUR_BYTES) + struct.pack("<f", value)
    return _to_varint(number << 3 | LENGTH) + _to_varint(len(value)) + bytes(value)


def _to_varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, and the position after it."""
    value = 0
    for i in range(MAX_VARINT_BYTES):
        if position + i >= len(message):
            break
        byte = message[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, position + i + 1
    raise ValueError("not a protobuf message")
