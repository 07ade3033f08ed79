"""What Prometheus can ask for at /metrics.

With several workers, each writes its numbers to files in a folder that they share ($PROMETHEUS_MULTIPROC_DIR), and any
of them answers for all. Counters survive the crash of a worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from convscope.images.comparison import NAMES, TypicalImages, image_features

if TYPE_CHECKING:
    from convscope.deploy.prediction import Prediction
    from convscope.deploy.prepare import PreparedImage

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
CACHE_S = 0.5
SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one worker.

    Args:
        classes: Of the model; each has a counter from the start.
        typical: The training images; None if the model does not have their statistics.
    """

    def __init__(self, classes: Sequence[str], typical: TypicalImages | None) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("convscope_requests", "Answered requests.", ["path", "status"], registry=registry)
        self.latency = Histogram(
            "convscope_request_seconds", "From the end of a request's headers to its answer.", ["path"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.waited = Histogram(
            "convscope_queue_seconds",
            "How long images wait before they are decoded.",
            buckets=SECONDS,
            registry=registry,
        )
        self.batch = Histogram("convscope_batch_images", "Images classified at once.", buckets=SIZES, registry=registry)
        self.queue = Gauge(
            "convscope_queue_images",
            "Images that wait or are worked on.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.answers = Counter(
            "convscope_answers", "Classified images by most likely class.", ["label"], registry=registry
        )
        self.status = Counter(
            "convscope_answer_status", "Classified images: answered, unsure or unlike the training images.", ["status"],
            registry=registry,
        )  # fmt: skip
        self.drift = Counter(
            "convscope_input_outside",
            "Classified images below or above the range of 90 % of the training images; 5 % each are usual.",
            ["feature", "side"],
            registry=registry,
        )
        self._typical = typical
        self._text, self._collected = b"", -CACHE_S
        for label in classes:
            self.answers.labels(label)
        for status in ("answered", "unsure", "unlike"):
            self.status.labels(status)

    def observe_batch(self, images: Sequence[PreparedImage], predictions: Sequence[Prediction], waited: float) -> None:
        """Count a batch."""
        self.waited.observe(waited)
        self.batch.observe(len(images))
        for prediction in predictions:
            self.answers.labels(prediction.label).inc()
            self.status.labels(prediction.status).inc()
        if self._typical is not None:
            features = image_features(np.stack([image.pixels for image in images]))
            for k, name in enumerate(NAMES):
                usual = getattr(self._typical, name)
                self.drift.labels(name, "below").inc(int((features[:, k] < usual.low).sum()))
                self.drift.labels(name, "above").inc(int((features[:, k] > usual.high).sum()))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format; at most CACHE_S old, because collecting them takes milliseconds."""
        if time.monotonic() > self._collected + CACHE_S:
            self._text, self._collected = self._collect(), time.monotonic()
        return self._text

    def _collect(self) -> bytes:
        if not os.environ.get(FOLDER_VARIABLE):
            return generate_latest(self.registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)
