"""Strategies that damage valid files, as shrinkable lists of edits."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Edit = Callable[[bytes], bytes]

EXTREME_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    10**400,
    2**64,
    "",
    "\0",
    "\n",
    "\x1b[2J",
    "\u202e",
    "../../etc/passwd",
    "/dev/zero",
    "x" * 70_000,
    [],
    {},
    [[[[]]]],
    [0] * 5000,
)
HOSTILE_TOKENS = (
    b"",
    b"\0",
    b"\n",
    b'"',
    b",",
    b"\xff",
    b"nan",
    b"1e999",
    b"9" * 5000,
    b"[" * 5000,
    b"../x.png",
    b"\r",
    b";",
)


def _overwrite(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _insert(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at:]


def _delete(data: bytes, at: int, length: int) -> bytes:
    return data[:at] + data[at + length :]


def _repeat(data: bytes, at: int, length: int) -> bytes:
    return data[: at + length] + data[at:]


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes], tokens: Sequence[bytes] = ()) -> bytes:
    """One of the originals after one to six edits: bytes overwritten, inserted, removed, repeated or cut off.

    Args:
        draw: Supplied by Hypothesis.
        originals: Contents of valid files.
        tokens: Inserted, too; words of a text format.
    """
    data = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 6))):
        # Headers break in more ways than pixels: half of the edits go there.
        at = draw(st.integers(0, min(len(data), 128)) | st.integers(0, len(data)))
        kind = draw(st.sampled_from(["byte", "number", "bytes", "insert", "delete", "repeat", "cut"]))
        if kind == "byte":
            data = _overwrite(data, at, bytes([draw(st.integers(0, 255))]))
        elif kind == "number":
            number, order = draw(st.sampled_from(EXTREME_NUMBERS)), draw(st.sampled_from(["big", "little"]))
            data = _overwrite(data, at, number.to_bytes(4, order))  # type: ignore[arg-type]
        elif kind == "bytes":
            data = _overwrite(data, at, draw(st.binary(min_size=1, max_size=16)))
        elif kind == "insert":
            data = _insert(data, at, draw(st.sampled_from(tokens) if tokens else st.binary(min_size=1, max_size=16)))
        elif kind == "delete":
            data = _delete(data, at, draw(st.integers(1, 64)))
        elif kind == "repeat":
            data = _repeat(data, at, draw(st.integers(1, 64)))
        else:
            data = data[:at]
    return data


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in list(items):
        found.append((value, key))
        found.extend(_places(inner))
    return found


@st.composite
def damaged_json(draw: st.DrawFn, original: str) -> str:
    """A JSON document with one to three of its values replaced, removed or renamed."""
    document = json.loads(original)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["replace", "replace", "remove", "swap"]))
        if action == "replace":
            container[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE_VALUES)))
        elif action == "remove":
            del container[key]
        else:
            other, name = draw(st.sampled_from(places))
            container[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else other[:1]))
    return json.dumps(document)
