"""`convscope data show`."""

from __future__ import annotations

from pathlib import Path

from convscope import load_data
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
