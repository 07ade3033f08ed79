"""Threads that decode and classify the images which are waiting, several at a time.

There is no waiting for a batch to fill: a free thread takes what is there. The busier the server, the larger the
batches, up to BATCH_IMAGES images or BATCH_BYTES bytes of files. Images of more than SMALL_MEGAPIXELS are decoded by a
thread of their own, one at a time: that bounds the memory, and small images do not wait for them.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from convscope.deploy.prepare import PreparedImage, prepare_image
from convscope.errors import DataError
from convscope.images.read import TooManyPixelsError

if TYPE_CHECKING:
    from convscope.deploy.prediction import Prediction
    from convscope.deploy.predictor import Predictor

BATCH_IMAGES = 32
BATCH_BYTES = 2**15  # so that many small images are one batch, and large ones are divided among the threads
SMALL_MEGAPIXELS = 2.0
WEBP_FRACTION = 0.75  # of the limit, because decoding WebP takes 16 bytes per pixel, and other formats up to 11

Content = bytes | NDArray[np.uint8]


class Source(NamedTuple):
    """An image of a request: its name in the answer, and its file or pixels."""

    name: str
    content: Content


class Observer(Protocol):
    """What wants to know about each batch."""

    def observe_batch(self, images: Sequence[PreparedImage], predictions: Sequence[Prediction], waited: float) -> None:
        """Called in the batch's thread; `waited` is how long its first image has, in seconds."""


class Overload(Exception):  # noqa: N818
    """There is no room for more images, or they were not classified in time."""


class _Job:
    """The images of one request."""

    def __init__(self, sources: Sequence[Source], deadline: float) -> None:
        self.sources = sources
        self.deadline = deadline
        self.arrival = time.monotonic()
        self.results: list[bytes | DataError | None] = [None] * len(sources)
        self.missing = len(sources)
        self.future: asyncio.Future[list[bytes | DataError]] = asyncio.get_running_loop().create_future()


_Item = tuple[_Job, int]  # a request, and the index of one of its images


class _Lane:
    """Images that wait for the same threads.

    A second thread is only woken if one is not enough: for small images, two of them would mostly wait for each other.

    Args:
        max_megapixels: Larger images go to the `larger` lane, or are refused if there is none.
        larger: For images that are too large for this lane.
    """

    def __init__(self, max_megapixels: float, larger: _Lane | None) -> None:
        self.max_megapixels, self.larger = max_megapixels, larger
        self._waiting: deque[_Item] = deque()
        self._waiting_bytes = 0
        self._quick = 0  # batches being worked on that will soon be done
        self._condition = threading.Condition()

    def put(self, items: Sequence[_Item]) -> None:
        """Add images at the end."""
        with self._condition:
            self._waiting.extend(items)
            self._waiting_bytes += sum(map(_size, items))
            if not self._quick or len(self._waiting) > BATCH_IMAGES or self._waiting_bytes > BATCH_BYTES:
                self._condition.notify(len(items))

    def work(self, process: Callable[[list[_Item], _Lane], None]) -> None:
        """Call `process` with one batch after the other, forever."""
        while True:
            batch, is_quick = self._take()
            process(batch, self)
            del batch  # its images must not stay in memory until the next ones come
            with self._condition:
                self._quick -= is_quick

    def _take(self) -> tuple[list[_Item], bool]:
        """Wait for images; the next ones, and whether they are few bytes."""
        batch: list[_Item] = []
        size = 0
        with self._condition:
            while not self._waiting:
                self._condition.wait()
            while self._waiting and len(batch) < BATCH_IMAGES and size < BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += _size(batch[-1])
            self._waiting_bytes -= size
            is_quick = size < BATCH_BYTES
            self._quick += is_quick
            if not is_quick and self._waiting:
                self._condition.notify()
        return batch, is_quick


def _size(item: _Item) -> int:
    content = item[0].sources[item[1]].content
    return len(content) if isinstance(content, bytes) else content.nbytes


class Batcher:
    """Classifies images in threads.

    Args:
        predictor: The model.
        threads: How many batches of small images are worked on at the same time.
        max_requests: Those that may wait or be worked on.
        max_images: The same of images.
        max_megapixels: Larger images are refused.
        observer: Told about each batch.
    """

    def __init__(
        self, predictor: Predictor, threads: int, max_requests: int, max_images: int, max_megapixels: float,
        observer: Observer,
    ) -> None:  # fmt: skip
        self._predictor, self._observer = predictor, observer
        self._max_requests, self._max_images = max_requests, max_images
        self._requests = 0  # those that wait or are worked on; changed in the event loop only
        self.pending = 0  # their images
        self._loop = asyncio.get_running_loop()
        large = _Lane(max_megapixels, None) if max_megapixels > SMALL_MEGAPIXELS else None
        self._lane = _Lane(min(SMALL_MEGAPIXELS, max_megapixels), large)
        for lane in [self._lane] * threads + ([large] if large else []):
            threading.Thread(target=lane.work, args=[self._process], name="convscope-batch", daemon=True).start()

    @property
    def is_full(self) -> bool:
        """Whether no further request is accepted."""
        return self._requests >= self._max_requests or self.pending >= self._max_images

    async def classify(self, sources: Sequence[Source], timeout: float) -> list[bytes | DataError]:
        """Classify the images of one request.

        Args:
            sources: At least one.
            timeout: Seconds after which nobody waits for the answer anymore.

        Returns:
            For each image its prediction as JSON, or the error if it cannot be read.

        Raises:
            Overload: Too many images are waiting, or the time is over.
        """
        if self.is_full or self.pending + len(sources) > self._max_images:
            raise Overload
        job = _Job(sources, time.monotonic() + timeout)
        self._requests += 1
        self.pending += len(sources)
        self._lane.put([(job, i) for i in range(len(sources))])
        try:
            async with asyncio.timeout(timeout):
                return await job.future
        except TimeoutError:
            raise Overload from None
        finally:
            self._requests -= 1

    def _process(self, batch: list[_Item], lane: _Lane) -> None:
        """Work on a batch in one of the threads."""
        try:
            self._run(batch, lane)
        except Exception as error:
            self._loop.call_soon_threadsafe(self._fail, batch, error)
        if lane is not self._lane:
            gc.collect()  # large images may be part of a reference cycle of Pillow's

    def _run(self, batch: list[_Item], lane: _Lane) -> None:
        now = time.monotonic()
        wanted = [(job, i) for job, i in batch if job.deadline > now and not job.future.done()]
        outcomes = [self._prepare(job.sources[i].content, lane.max_megapixels) for job, i in wanted]
        images = [outcome for outcome in outcomes if not isinstance(outcome, DataError)]
        predictions = self._predictor.classify(images)
        found = iter(predictions)
        moved: list[_Item] = []
        for (job, i), outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, PreparedImage):
                named = next(found).model_copy(update={"image": job.sources[i].name})
                job.results[i] = named.model_dump_json().encode()
            elif isinstance(outcome.__cause__, TooManyPixelsError) and lane.larger is not None:
                moved.append((job, i))
            else:
                job.results[i] = outcome
        if moved and lane.larger is not None:
            lane.larger.put(moved)
        self._loop.call_soon_threadsafe(self._finish, [item for item in batch if item not in moved])
        if images:
            self._observer.observe_batch(images, predictions, now - batch[0][0].arrival)

    def _prepare(self, content: Content, max_megapixels: float) -> PreparedImage | DataError:
        if isinstance(content, bytes) and content.startswith(b"RIFF"):
            max_megapixels *= WEBP_FRACTION
        return prepare_image(content, self._predictor.preprocessing, max_megapixels)

    def _finish(self, batch: list[_Item]) -> None:
        """In the event loop: answer the requests whose last image was in the batch."""
        self.pending -= len(batch)
        for job, _ in batch:
            job.missing -= 1
            if job.missing == 0 and not job.future.done():
                results = [result for result in job.results if result is not None]
                if len(results) == len(job.sources):
                    job.future.set_result(results)
                else:  # its time was over before all were classified
                    job.future.set_exception(Overload())

    def _fail(self, batch: list[_Item], error: Exception) -> None:
        """In the event loop: the whole batch failed, which is no image's fault."""
        self.pending -= len(batch)
        for job, _ in batch:
            if not job.future.done():
                job.future.set_exception(error)
