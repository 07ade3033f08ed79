"""Damaged JPEG files: those whose data was cut or overwritten get a note, and sound ones are decoded as by Pillow."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope.errors import DataError
from convscope.images.files.jpeg import DAMAGE_NOTE, _Layout
from convscope.images.read import read_image

Y, X = np.mgrid[:90, :120]
WAVES = np.stack([128 + 90 * np.sin(X / step) * np.cos(Y / 9) for step in (4, 7, 11)], axis=2)
SCENE = Image.fromarray((WAVES + np.random.default_rng(0).normal(0, 6, WAVES.shape)).clip(0, 255).astype(np.uint8))

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("RGB", {}),
    "gray": ("L", {}),
    "no subsampling": ("RGB", {"subsampling": 0}),
    "optimized": ("RGB", {"optimize": True}),
    "progressive": ("RGB", {"progressive": True}),
    "progressive gray": ("L", {"progressive": True}),
    "restart rows": ("RGB", {"restart_marker_rows": 1}),
    "restart blocks": ("RGB", {"restart_marker_blocks": 3}),
    "CMYK": ("CMYK", {}),
}


def encoded(kind: str, image: Image.Image = SCENE) -> bytes:
    mode, options = KINDS[kind]
    stream = BytesIO()
    image.convert(mode).save(stream, "JPEG", quality=85, **options)
    return stream.getvalue()


def cut(content: bytes, place: float) -> bytes:
    """The file without the rest of its data, closed again."""
    start = content.index(b"\xff\xda")
    end = start + int(place * (len(content) - start))
    return content[: end - (content[end - 1] == 0xFF)] + b"\xff\xd9"


def overwritten(content: bytes, place: float, value: bytes) -> bytes:
    start = content.index(b"\xff\xda")
    first = start + int(place * (len(content) - start))
    return content[:first] + value + content[first + len(value) :]


def looks_sound(content: bytes) -> bool:
    """Whether an image is read without a note."""
    try:
        return DAMAGE_NOTE not in read_image(content).notes
    except DataError:
        return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(120, 90), (8, 8), (1, 1), (17, 31)])
def test_read_image_sound_jpeg_has_the_pixels_of_pillow_and_no_note(kind: str, size: tuple[int, int]) -> None:
    for image in (SCENE.resize(size), Image.new("RGB", size, (200, 90, 10))):
        content = encoded(kind, image)
        found = read_image(content)
        assert DAMAGE_NOTE not in found.notes
        with Image.open(BytesIO(content)) as expected:
            np.testing.assert_array_equal(
                found.pixels.squeeze(), np.asarray(expected.convert("RGB" if kind == "CMYK" else None)).squeeze()
            )


def test_read_image_sound_jpeg_with_a_tail_has_no_note() -> None:
    for tail in (b"\0\0", b"\xff", encoded("gray")):
        assert read_image(encoded("plain") + tail).notes == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0.1, 0.35, 0.5, 0.8, 0.95])
def test_read_image_jpeg_that_was_cut_and_closed_gets_a_note(kind: str, place: float) -> None:
    assert not looks_sound(cut(encoded(kind), place))


@pytest.mark.parametrize("kind", ["plain", "gray", "no subsampling", "restart rows", "restart blocks", "CMYK"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: overwritten(content, 0.4, b"\xff" * 100 + b"\0"),
        lambda content: overwritten(content, 0.4, bytes(range(256)) * 2),
        lambda content: overwritten(content, 0.3, bytes(400)),
    ],
    ids=["ones", "counting", "zeros"],
)
def test_read_image_jpeg_that_was_overwritten_gets_a_note(kind: str, damage: Callable[[bytes], bytes]) -> None:
    assert not looks_sound(damage(encoded(kind)))


def test_read_image_jpeg_with_restart_markers_out_of_order_gets_a_note() -> None:
    content = encoded("restart rows")
    assert DAMAGE_NOTE in read_image(content.replace(b"\xff\xd2", b"\xff\xd3", 1)).notes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0.33, 0.6, 0.9])
@pytest.mark.parametrize(
    "marker", [b"\xff\xfe\xff\xff", b"\xff" * 15 + b"\xe1", b"\xff\xec\x80\x00"], ids=["comment", "run", "APP12"]
)
def test_read_image_jpeg_with_a_forged_marker_gets_a_note(kind: str, place: float, marker: bytes) -> None:
    """The length after the marker leads past the end of the file, so that the image has no end."""
    assert not looks_sound(overwritten(encoded(kind), place, marker))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0.3, 0.6, 1])
def test_read_image_jpeg_that_was_cut_and_padded_gets_a_note(kind: str, place: float) -> None:
    """An unfinished download into a file that was allocated at once."""
    content = encoded(kind)[:-2]
    assert not looks_sound(overwritten(content, place, bytes(len(content))))


def test_layout_arithmetic_jpeg_with_an_end_is_sound() -> None:
    """Its segments cannot be checked, which is no damage."""
    layout = _Layout()
    assert not layout.parse(encoded("plain").replace(b"\xff\xc0", b"\xff\xc9", 1))
    assert layout.sound
