"""How many images can be decoded within a time limit, measured on a few of them."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from convscope._hardware import max_threads
from convscope.data.cache.decode import decode_file
from convscope.data.cache.pixel_cache import is_decoded
from convscope.data.formats.listing import Listing
from convscope.data.options import LoadContext, LoadOptions
from convscope.errors import DataError

TIMED_FILES = 32
TIMING_FRACTION = 0.1  # of the time limit
STARTUP_SECONDS = 1.0  # of the worker processes, and for the sample that decides on the size
TRANSFORM_FACTOR = 1.4  # decoding with resizing and hashing, compared with decoding alone


def limit_images(listing: Listing, context: LoadContext) -> LoadOptions:
    """Return the options with `max_images` in place of `decode_seconds`, and tell the reporter if images are left out.

    Args:
        listing: the files.
        context: options, cache and reporter.
    """
    options, limit = context.options.model_copy(update={"decode_seconds": None}), context.options.decode_seconds
    if limit is None or options.max_images is not None or is_decoded(listing, options, context.cache):
        return options
    affordable = int(max(0.0, limit - STARTUP_SECONDS) / _seconds_per_file(listing, options, TIMING_FRACTION * limit))
    if affordable >= len(listing):
        return options
    options = options.model_copy(update={"max_images": max(1, affordable)})
    kept = len(listing.subsample(options.max_images))
    context.reporter.message(f"{kept:,} of {len(listing):,} images are used: there is no time to decode all of them")
    return options


def _seconds_per_file(listing: Listing, options: LoadOptions, seconds: float) -> float:
    """Decode some files, evenly spaced, for at most so many seconds; return the time per file on all threads."""
    start, done = time.perf_counter(), 0
    for index in np.linspace(0, len(listing) - 1, TIMED_FILES).astype(int):
        with suppress(DataError):
            decode_file(listing.path(int(index)), options.max_megapixels)
        done += 1
        if time.perf_counter() - start > seconds:
            break
    return TRANSFORM_FACTOR * (time.perf_counter() - start) / done / max_threads()
