"""Decoding and preprocessing, large images in threads, some at a time: only the network's arrays stay in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import thread_time
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convscope.deploy.sources.items import EncodedImage, ImageSource, name_of
from convscope.errors import DataError, ImageError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage, read_image

BATCH_SIZE = 64  # images; larger ones save nothing, because their feature maps leave the processor's cache
IMAGES_PER_TASK = 8  # fewer cost time for handing them from thread to thread
MAX_SMALL_S = 0.0005  # of processor time for an image; below, sharing the interpreter costs more than threads save
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
    """Decode and preprocess images: small ones in this thread, others in threads, while the caller works.

    Args:
        sources: as `read_image` takes them, and errors of what was not found.
        preprocessing: of the network.
        options: how many at a time.

    Yields:
        The images in order, in batches; for one that cannot be used, its error.
    """
    seconds = 0.0  # that an image took lately

    def prepare(some: Sequence[ImageSource | ImageError]) -> list[Outcome]:
        nonlocal seconds
        start = thread_time()
        outcomes = _prepare(some, preprocessing, options.max_megapixels)
        seconds = (thread_time() - start) / len(some)
        return outcomes

    with ThreadPoolExecutor(options.threads, "convscope-decode") as threads:
        before: tuple[list[Outcome], list[Future[list[Outcome]]]] | None = None
        for batch in _batches(sources, options.batch_size):
            outcomes: list[Outcome] = []
            while seconds <= MAX_SMALL_S and len(outcomes) < len(batch):
                count = BATCH_SIZE if seconds else IMAGES_PER_TASK  # a few, until it is known how long they take
                outcomes += prepare(batch[len(outcomes) : len(outcomes) + count])
            rest = batch[len(outcomes) :]
            count = max(IMAGES_PER_TASK, -(-len(rest) // options.threads))
            tasks = [threads.submit(prepare, rest[at : at + count]) for at in range(0, len(rest), count)]
            if before:
                yield _collect(*before)
            before = outcomes, tasks
        if before:
            yield _collect(*before)


def _collect(outcomes: list[Outcome], tasks: Iterable[Future[list[Outcome]]]) -> list[Outcome]:
    return outcomes + [outcome for task in tasks for outcome in task.result()]


def _prepare(
    some: Sequence[ImageSource | ImageError], preprocessing: Preprocessing, max_megapixels: float
) -> list[Outcome]:
    outcomes: list[ImageError | str] = []  # errors, and names of images

    def read() -> Iterator[DecodedImage]:
        for source in some:
            image = _read(source, max_megapixels)
            outcomes.append(image if isinstance(image, ImageError) else image.name)
            if isinstance(image, DecodedImage):
                yield image

    transformed = iter(preprocessing.transform_each(read()))
    return [PreparedImage(one, *next(transformed)) if isinstance(one, str) else one for one in outcomes]


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
