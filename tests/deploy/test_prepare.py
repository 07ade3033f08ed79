"""Images are decoded in order, small ones without threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from convscope.deploy import prepare
from convscope.deploy.prepare import BatchOptions, prepare_images
from convscope.deploy.sources.items import ImageSource
from convscope.errors import ImageError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage

PREPROCESSING = Preprocessing(
    height=8, width=8, channels=1, fit="letterbox", fill=(0,), polarity="mixed", scale=(1 / 255,), mean=(0.0,)
)
OPTIONS = BatchOptions(max_megapixels=1, batch_size=20, threads=2)


@pytest.mark.parametrize(("max_small_s", "uses_threads"), [(60.0, False), (0.0, True)])
def test_prepare_images_small_ones_are_decoded_without_threads(
    monkeypatch: pytest.MonkeyPatch, max_small_s: float, uses_threads: bool
) -> None:
    used: list[threading.Thread] = []

    def sources() -> Iterator[ImageSource | ImageError]:
        for value in range(50):
            yield ImageError("broken", "for this test") if value == 30 else np.full((8, 8), value, np.uint8)

    def read(source: ImageSource | ImageError, max_megapixels: float) -> DecodedImage | ImageError:
        used.append(threading.current_thread())
        return original(source, max_megapixels)

    original = prepare._read
    monkeypatch.setattr(prepare, "_read", read)
    monkeypatch.setattr(prepare, "MAX_SMALL_S", max_small_s)
    batches = list(prepare_images(sources(), PREPROCESSING, OPTIONS))
    assert [len(batch) for batch in batches] == [20, 20, 10]
    found = [None if isinstance(one, ImageError) else int(one.pixels[0, 0, 0]) for batch in batches for one in batch]
    assert found == [None if value == 30 else value for value in range(50)]
    others = [thread is not threading.main_thread() for thread in used]
    assert others[prepare.IMAGES_PER_TASK :] == [uses_threads] * (50 - prepare.IMAGES_PER_TASK)
