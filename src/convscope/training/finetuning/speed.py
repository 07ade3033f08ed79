"""How fast this machine computes a backbone's features: how large its images may be follows from that."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from convscope.backends.onnx.export import to_maps_onnx
from convscope.backends.onnx.graph import Weights
from convscope.backends.onnx.metadata import FEATURES, INPUT
from convscope.backends.onnx.session import open_session
from convscope.network.network import Network

BATCH_SIZE, REPEATS = 16, 3


def seconds_per_image(network: Network, weights: Weights, threads: int) -> float:
    """How long the features of an image take: the median of `REPEATS` batches after another one, of random images.

    Args:
        network: Its layers before the classifier compute the features.
        weights: Of these, by name.
        threads: How many compute.
    """
    session = open_session(to_maps_onnx(network, weights, None), Path("the backbone"), threads)
    height, width, channels = network.input_shape
    images = np.random.default_rng(0).normal(size=(BATCH_SIZE, channels, height, width)).astype(np.float32)
    moments = [time.perf_counter()]
    for _ in range(1 + REPEATS):
        session.run([FEATURES], {INPUT: images})
        moments.append(time.perf_counter())
    return float(np.median(np.diff(moments)[1:])) / BATCH_SIZE
