"""Decoding and preprocessing, some images at a time in threads: only the network's arrays stay in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convscope.deploy.sources.items import EncodedImage, ImageSource, name_of
from convscope.errors import DataError, ImageError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage, read_image

BATCH_SIZE = 64  # images; larger ones save nothing, because their feature maps leave the processor's cache
IMAGES_PER_TASK = 8  # fewer cost time for handing them from thread to thread
MAX_BATCH_BYTES = 2**26  # of images that are in memory as files; the batch ends with the one that exceeds it


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


Outcome: TypeAlias = "PreparedImage | ImageError"


class BatchOptions(NamedTuple):
    """How images are decoded.

    Attributes:
        max_megapixels: larger images are rejected.
        batch_size: images that the network gets at once.
        threads: that decode.
    """

    max_megapixels: float
    batch_size: int
    threads: int


def prepare_images(
    sources: Iterable[ImageSource | ImageError], preprocessing: Preprocessing, options: BatchOptions
) -> Iterator[list[Outcome]]:
    """Decode and preprocess images, while the caller works on the images before them.

    Args:
        sources: as `read_image` takes them, and errors of what was not found.
        preprocessing: of the network.
        options: how many at a time.

    Yields:
        The images in order, in batches; for one that cannot be used, its error.
    """

    def prepare(some: Sequence[ImageSource | ImageError]) -> list[Outcome]:
        outcomes: list[ImageError | str] = []  # errors, and names of images

        def read() -> Iterator[DecodedImage]:
            for source in some:
                image = _read(source, options.max_megapixels)
                outcomes.append(image if isinstance(image, ImageError) else image.name)
                if isinstance(image, DecodedImage):
                    yield image

        transformed = iter(preprocessing.transform_each(read()))
        return [PreparedImage(one, *next(transformed)) if isinstance(one, str) else one for one in outcomes]

    batches = _batches(sources, options.batch_size)
    first = next(batches, None)
    if first is None:
        return
    if len(first) <= IMAGES_PER_TASK:  # no threads for a few images
        second = next(batches, None)
        if second is None:
            yield prepare(first)
            return
        batches = chain([second], batches)
    with ThreadPoolExecutor(options.threads, "convscope-decode") as threads:

        def start(batch: Sequence[ImageSource | ImageError]) -> list[Future[list[Outcome]]]:
            count = max(IMAGES_PER_TASK, -(-len(batch) // options.threads))
            some = (batch[at : at + count] for at in range(0, len(batch), count))
            return [threads.submit(prepare, images) for images in some]

        tasks = start(first)
        while tasks:
            following = start(next(batches, []))
            yield [outcome for task in tasks for outcome in task.result()]
            tasks = following


def prepare_image(source: ImageSource | ImageError, preprocessing: Preprocessing, max_megapixels: float) -> Outcome:
    """One image as in `prepare_images`, in this thread; the cause of an ImageError is the error of reading it."""
    image = _read(source, max_megapixels)
    return image if isinstance(image, ImageError) else PreparedImage(image.name, *preprocessing.transform(image))


def _read(source: ImageSource | ImageError, max_megapixels: float) -> DecodedImage | ImageError:
    if isinstance(source, ImageError):
        return source
    try:
        if isinstance(source, EncodedImage):
            return read_image(source.content, max_megapixels=max_megapixels, name=source.name)
        return read_image(source, max_megapixels=max_megapixels)
    except DataError as error:
        failure = ImageError(name_of(source), str(error))
        failure.__cause__ = error
        return failure


def _batches(sources: Iterable[ImageSource | ImageError], size: int) -> Iterator[list[ImageSource | ImageError]]:
    """The sources, `size` at a time, or fewer if they take much memory."""
    batch: list[ImageSource | ImageError] = []
    in_memory = 0
    for source in sources:
        batch.append(source)
        in_memory += len(source.content) if isinstance(source, EncodedImage) else 0
        if len(batch) == size or in_memory > MAX_BATCH_BYTES:
            yield batch
            batch, in_memory = [], 0
    if batch:
        yield batch
