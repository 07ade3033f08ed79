"""The synthetic files are small, always the same, and each is decoded in another way."""

from __future__ import annotations

import pytest

from convscope.images.golden import golden_files
from convscope.images.read import read_image


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_golden_files_each_is_decoded_in_another_way(channels: int) -> None:
    images = {name: read_image(file) for name, file in golden_files(channels).items()}
    assert {name: image.pixels.shape for name, image in images.items()} == {
        "dark.png": (15, 20, 1),
        "rotated.jpg": (12, 16, 1 if channels == 1 else 3),  # stored as 16 rows of 12 pixels
        "transparent.png": (12, 12, 4),
        "deep.png": (14, 14, 1),
    }
    assert images["rotated.jpg"].notes == ("rotated by its EXIF orientation",)
    assert images["deep.png"].deep is not None
    assert int(images["deep.png"].deep.max()) == 46_000
    assert sorted(set(images["transparent.png"].pixels[..., 3].flat)) == [0, 180]


def test_golden_files_gray_network_take_less_than_900_bytes_and_never_change() -> None:
    assert sum(map(len, golden_files(1).values())) < 900
    assert golden_files(1) == golden_files(1)
