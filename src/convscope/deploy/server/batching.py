"""Threads that decode and classify the images which are waiting, several at a time.

There is no waiting for a batch to fill: a free thread takes what is there. The busier the server, the larger the
batches, up to BATCH_IMAGES images or BATCH_BYTES bytes of files.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from convscope.deploy.prepare import PreparedImage, prepare_image
from convscope.errors import DataError

if TYPE_CHECKING:
    from convscope.deploy.predictor import Prediction, Predictor

BATCH_IMAGES = 32
BATCH_BYTES = 2**15  # so that many small images are one batch, and large ones are divided among the threads

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


class Batcher:
    """Classifies images in threads.

    Args:
        predictor: The model.
        threads: How many batches are worked on at the same time.
        max_waiting: Images that may wait or be worked on.
        max_megapixels: Larger images are refused.
        observer: Told about each batch.
    """

    def __init__(
        self, predictor: Predictor, threads: int, max_waiting: int, max_megapixels: float, observer: Observer
    ) -> None:
        self._predictor, self._max_megapixels, self._observer = predictor, max_megapixels, observer
        self._threads = threads
        self.max_waiting = max_waiting
        self.pending = 0  # images that wait or are worked on; changed in the event loop only
        self._waiting: deque[tuple[_Job, int]] = deque()
        self._condition = threading.Condition()
        self._loop = asyncio.get_running_loop()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"convscope-batch-{number}", daemon=True).start()

    @property
    def is_full(self) -> bool:
        """Whether no further image is accepted."""
        return self.pending >= self.max_waiting

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
        if self.pending + len(sources) > self.max_waiting:
            raise Overload
        job = _Job(sources, time.monotonic() + timeout)
        self.pending += len(sources)
        with self._condition:
            self._waiting.extend((job, i) for i in range(len(sources)))
            self._condition.notify(min(self._threads, len(sources)))
        try:
            async with asyncio.timeout(timeout):
                return await job.future
        except TimeoutError:
            raise Overload from None

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._waiting:
                    self._condition.wait()
                batch = self._take()
            try:
                self._run(batch)
            except Exception as error:
                self._loop.call_soon_threadsafe(self._fail, batch, error)

    def _take(self) -> list[tuple[_Job, int]]:
        """The next images."""
        batch: list[tuple[_Job, int]] = []
        size = 0
        while self._waiting and len(batch) < BATCH_IMAGES and size < BATCH_BYTES:
            job, i = self._waiting.popleft()
            batch.append((job, i))
            content = job.sources[i].content
            size += len(content) if isinstance(content, bytes) else content.nbytes
        return batch

    def _run(self, batch: list[tuple[_Job, int]]) -> None:
        now = time.monotonic()
        wanted = [(job, i) for job, i in batch if job.deadline > now and not job.future.done()]
        preprocessing, limit = self._predictor.preprocessing, self._max_megapixels
        outcomes = [prepare_image(job.sources[i].content, preprocessing, limit) for job, i in wanted]
        images = [outcome for outcome in outcomes if not isinstance(outcome, DataError)]
        predictions = self._predictor.classify(images)
        found = iter(predictions)
        for (job, i), outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, DataError):
                job.results[i] = outcome
            else:
                named = next(found).model_copy(update={"image": job.sources[i].name})
                job.results[i] = named.model_dump_json().encode()
        self._loop.call_soon_threadsafe(self._finish, batch)
        if images:
            self._observer.observe_batch(images, predictions, now - batch[0][0].arrival)

    def _finish(self, batch: list[tuple[_Job, int]]) -> None:
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

    def _fail(self, batch: list[tuple[_Job, int]], error: Exception) -> None:
        """In the event loop: the whole batch failed, which is no image's fault."""
        self.pending -= len(batch)
        for job, _ in batch:
            if not job.future.done():
                job.future.set_exception(error)
