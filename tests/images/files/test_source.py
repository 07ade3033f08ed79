"""Images from standard input and from pipes of the shell."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from convscope.errors import DataError
from convscope.images.files import source
from convscope.images.read import encode_png, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)


def set_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_read_image_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    set_input(monkeypatch, encode_png(PIXELS))
    image = read_image("-")
    assert image.name == "standard input"
    np.testing.assert_array_equal(image.pixels, PIXELS)


def test_read_image_file_named_dash_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(encode_png(PIXELS))
    for name in ("./-", Path("-")):
        np.testing.assert_array_equal(read_image(name).pixels, PIXELS)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system has no /dev/fd")
@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_read_image_pipe_of_the_shell_is_read(folder: str) -> None:
    content = encode_png(np.tile(PIXELS, (9, 9, 1)))  # 15 KB: fits into the pipe
    reading, writing = os.pipe()
    try:
        os.write(writing, content)
        os.close(writing)
        np.testing.assert_array_equal(read_image(f"{folder}/{reading}").pixels, np.tile(PIXELS, (9, 9, 1)))
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "^standard input: an empty file"),
        (b"text", "^standard input: not an image"),
        (encode_png(PIXELS)[:-20], "^standard input: cannot be decoded"),
        (bytes(2000), "^standard input: more than 0.0 GB, expected one image"),
    ],
)
def test_read_image_unusable_input_raises(monkeypatch: pytest.MonkeyPatch, content: bytes, message: str) -> None:
    monkeypatch.setattr(source, "MAX_FILE_BYTES", 1000)
    set_input(monkeypatch, content)
    with pytest.raises(DataError, match=message):
        read_image("-")


def test_read_image_terminal_or_closed_input_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    set_input(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(DataError, match=r"^standard input: a terminal, expected an image; name an image file"):
        read_image("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match=r"^standard input: closed; name an image file"):
        read_image("-")
