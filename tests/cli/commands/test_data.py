"""`convscope data show` and `data check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convscope import load_data
from convscope.images.read import encode_png
from helpers.command import Command


def test_data_show_prints_the_pixels_of_an_image(command: Command, workspace: Path) -> None:
    answer = command("data", "show", "digits", "--image", "2", "--out", "drawn")
    assert answer.code == 0
    image = load_data("digits").train.images[2, :, :, 0]
    rows = "\n".join(" ".join(f"{value:3d}" for value in row) for row in image.tolist())
    assert f"as numbers (8x8x1):\n{rows}\n" in answer.out
    assert "digits: 8x8x1 (height, width, channels)" in answer.out
    names = ["digits-first-nine.png", "digits-image-2.png"]
    assert sorted(path.name for path in (workspace / "drawn").iterdir()) == names
    assert all(f"wrote drawn/{name}\n" in answer.out for name in names)


@pytest.mark.slow
def test_check_large_image_can_be_allowed(command: Command, workspace: Path) -> None:
    (workspace / "pets" / "cat" / "large.png").write_bytes(encode_png(np.zeros((7000, 9000, 1), np.uint8)))
    text = "9000x7000 are 63 megapixels, expected at most 50; make it smaller or raise --max-megapixels"
    assert text in command("data", "check", "pets").out
    answer = command("data", "check", "pets", "--max-megapixels", "70")
    assert answer.code == 0
    assert "megapixels" not in answer.out
    assert "--max-megapixels" in command("train", "--help").out


def test_data_show_own_file_is_kept_without_force(command: Command, workspace: Path) -> None:
    own = workspace / "digits-image-0.png"
    own.write_bytes(b"my own")
    answer = command("data", "show", "digits")
    assert (answer.code, answer.out, own.read_bytes()) == (2, "", b"my own")
    assert "digits-image-0.png exists and has another content: choose another place with --out, or add --force" in (
        answer.err
    )
    assert command("data", "show", "digits", "--force").code == 0
    assert own.read_bytes().startswith(b"\x89PNG")
    assert command("data", "show", "digits").code == 0  # writes the same again
