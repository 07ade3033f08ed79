"""Time a classifier's predictions: one image at a time, and 10,000 in batches. Shared by all peer environments."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np

import mnist

BATCH_SIZE = 256
SINGLE = 3000  # images predicted one at a time
WARM_UP = 300


def measure(classify: Callable[[np.ndarray], np.ndarray], one: Callable[[np.ndarray], np.ndarray]) -> None:
    """Print one line of JSON: microseconds per image, sorted quantiles, images per second, and the accuracy.

    Args:
        classify: uint8 images (n, 28, 28, 1) to probabilities (n, 10), in batches of `BATCH_SIZE`.
        one: the same for one image (1, 28, 28, 1).
    """
    images, labels = mnist.load("t10k")
    images = images.copy()  # PyTorch warns of arrays that cannot be written
    singles = [images[i : i + 1] for i in range(SINGLE)]
    for image in singles[:WARM_UP]:
        one(image)
    seconds = []
    for image in singles:
        start = time.perf_counter()
        one(image)
        seconds.append(time.perf_counter() - start)
    classify(images[:1000])
    start = time.perf_counter()
    accuracy = float((classify(images).argmax(1) == labels).mean())
    throughput = len(images) / (time.perf_counter() - start)
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    print(json.dumps({"p50_ms": 1000 * p50, "p99_ms": 1000 * p99, "images_per_s": throughput, "accuracy": accuracy}))
