"""How many images can be decoded within a time limit, measured on a few of them."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict

import numpy as np

from convscope._hardware import max_threads
from convscope._workers import worker_pool
from convscope.data.cache.decode import MODULE, Task
from convscope.data.cache.input_size import SAMPLE_FILES
from convscope.data.cache.pixel_cache import is_decoded
from convscope.data.formats.listing import Listing
from convscope.data.options import LoadContext, LoadOptions
from convscope.images.preprocessing import Preprocessing

TIMED_FILES = 32
TIMING_FRACTION = 0.1  # of the time limit
STARTUP_SECONDS = 1.0  # of the worker processes
LEAST_SECONDS = 1e-4  # for a file
PROBE_SIDE = 80  # pixels, of the transformed images


def limit_images(listing: Listing, context: LoadContext) -> LoadOptions:
    """Return the options with `max_images` in place of `decode_seconds`, and tell the reporter if images are left out.

    Args:
        listing: the files.
        context: options, cache and reporter.
    """
    options, limit = context.options.model_copy(update={"decode_seconds": None}), context.options.decode_seconds
    if limit is None or options.max_images is not None or is_decoded(listing, options, context.cache):
        return options
    files = max(0.0, limit - STARTUP_SECONDS) / _seconds_per_file(listing, options, TIMING_FRACTION * limit)
    affordable = int(max(files / 2, files - SAMPLE_FILES))  # those of the sample are decoded twice
    if affordable >= len(listing):
        return options
    options = options.model_copy(update={"max_images": max(1, affordable)})
    kept = len(listing.subsample(options.max_images))
    context.reporter.message(f"{kept:,} of {len(listing):,} images are used: there is no time to decode all of them")
    return options


def _seconds_per_file(listing: Listing, options: LoadOptions, seconds: float) -> float:
    """Return the time per file if all threads decode, from some files, evenly spaced, in a worker process.

    It takes `seconds`, about, but one file is always decoded after the first, which also loads the decoder.
    """
    probe = Preprocessing.plain(np.zeros((1, PROBE_SIDE, PROBE_SIDE, 3), np.uint8)).model_dump_json()
    indices = np.linspace(0, len(listing) - 1, TIMED_FILES).astype(int).tolist()
    tasks = [Task([os.fspath(listing.path(index))], options.max_megapixels, probe) for index in indices]
    times: list[float] = []
    with worker_pool(MODULE, 1) as (worker,), suppress(OSError):  # a file that ends the worker ends the measurement
        for task in tasks:
            start = time.perf_counter()
            worker.request(json.dumps(asdict(task)).encode())
            times.append(time.perf_counter() - start)
            if sum(times[1:]) > seconds:
                break
    return max(LEAST_SECONDS, sum(times[1:]) / max(1, len(times) - 1)) / max_threads()
