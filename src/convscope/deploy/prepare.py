"""Decoding and preprocessing, some images at a time in threads: only the network's arrays stay in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convscope._hardware import max_threads
from convscope.errors import DataError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

ImageSource: TypeAlias = "str | Path | bytes | Image | NDArray[np.uint8]"

BATCH_SIZE = 64  # images; larger ones save nothing, because their feature maps leave the processor's cache
IMAGES_PER_TASK = 8  # fewer cost time for handing them from thread to thread


class PreparedImage(NamedTuple):
    """The network's input of one image.

    Attributes:
        name: the path, or "image"; for messages.
        pixels: uint8 (height, width, channels).
        notes: what preprocessing did.
    """

    name: str
    pixels: NDArray[np.uint8]
    notes: tuple[str, ...]


Outcome: TypeAlias = "PreparedImage | DataError"


def prepare_images(
    sources: Iterable[ImageSource], preprocessing: Preprocessing, max_megapixels: float
) -> Iterator[list[Outcome]]:
    """Decode and preprocess images, while the caller works on the images before them.

    Args:
        sources: as `read_image` takes them.
        preprocessing: of the network.
        max_megapixels: larger images are rejected.

    Yields:
        BATCH_SIZE images in order; for one that cannot be used, its error.
    """

    def prepare(some: list[ImageSource]) -> list[Outcome]:
        return [prepare_image(source, preprocessing, max_megapixels) for source in some]

    batches = _chunks(sources, BATCH_SIZE)
    first = next(batches, None)
    if first is None:
        return
    if len(first) <= IMAGES_PER_TASK:
        yield prepare(first)
        return
    with ThreadPoolExecutor(max_threads(), "convscope-decode") as threads:

        def start(batch: list[ImageSource]) -> list[Future[list[Outcome]]]:
            return [threads.submit(prepare, some) for some in _chunks(batch, IMAGES_PER_TASK)]

        tasks = start(first)
        while tasks:
            following = start(next(batches, []))
            yield [outcome for task in tasks for outcome in task.result()]
            tasks = following


def prepare_image(source: ImageSource, preprocessing: Preprocessing, max_megapixels: float) -> Outcome:
    """One image as in `prepare_images`, in this thread."""
    try:
        image = read_image(source, max_megapixels=max_megapixels)
    except DataError as error:
        return error
    return PreparedImage(image.name, *preprocessing.transform(image))


def _chunks(items: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    """The items, `size` at a time."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
