"""The network's input for images of many sizes: what the user asked for, else what a sample of the images suggests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convscope.data.cache.decode import IMAGE_INFO, ImageInfo, decode_files
from convscope.data.dataset import LARGE_IMAGE_SIDE
from convscope.data.options import LoadOptions
from convscope.images.depth import FULL_RANGE, choose_range
from convscope.images.preprocessing import Preprocessing
from convscope.images.statistics import lower_median, polarity_of

SAMPLE_FILES = 256  # that decide on size, channels and range
SIZES = (8, 16, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224)  # pixels
MAX_DEFAULT_SIDE = 80  # pixels; larger inputs gain nothing within minutes (dev/LOG.md has the measurements)
SEEN_FRACTION = 0.8  # of the input's side is what training mostly sees of an image (progressive resizing)
SECONDS_PER_PIXEL = 5e-6  # of a core, for enough epochs (dev/LOG.md has the measurements)
MIDDLE_GRAY = 127


def preprocessing_from_sample(paths: Sequence[Path], options: LoadOptions) -> Preprocessing:
    """Choose the preprocessing by the properties of some files, spread over all of them."""
    indices = np.unique(np.linspace(0, len(paths) - 1, min(SAMPLE_FILES, len(paths))).astype(int))
    sample = [paths[index] for index in indices]
    info = _read_properties(sample, options)
    if (used := uint16_range(info)) != FULL_RANGE:  # borders are light or dark within that range
        info = _read_properties(sample, options, used)
    if not len(info):  # decoding all files will tell what is wrong
        info = np.zeros(1, IMAGE_INFO)
        info["height"] = info["width"] = 8
    return choose_preprocessing(info, options, len(paths))


def _read_properties(paths: Sequence[Path], options: LoadOptions, used: tuple[int, int] = FULL_RANGE) -> ImageInfo:
    """The IMAGE_INFO of the files that can be read."""
    parts = [info for info, _ in decode_files(paths, options.max_megapixels, uint16_range=used)]
    info = np.concatenate(parts)
    readable: ImageInfo = info[info["height"] > 0]
    return readable


def choose_preprocessing(sample: ImageInfo, options: LoadOptions, images: int) -> Preprocessing:
    """Choose the size, channels, background and padding of the network's input.

    Images that are all of the same, small size keep it, enlarged by a quarter from LARGE_IMAGE_SIDE pixels on.
    Otherwise the input is a square: the smallest of SIZES in which the median image does not exceed what training sees,
    but at most 80 pixels, and no more than there is time for.

    Args:
        sample: IMAGE_INFO of some of the images, all of them readable.
        options: what the user asked for.
        images: number of images in the data set.
    """
    asked = options.image_size
    height, width = (asked, asked) if asked else _choose_shape(sample, _max_side(options, images))
    channels = options.channels or (3 if sample["colored"].any() else 1)
    polarity = polarity_of(sample["border"])
    level = MIDDLE_GRAY if polarity == "mixed" else int(lower_median(sample["border"]))
    return Preprocessing(
        height=height,
        width=width,
        channels=channels,
        fit=options.fit,
        fill=(*(level,) * min(channels, 3), 255)[:channels],
        polarity=polarity,
        uint16_range=uint16_range(sample),
        scale=(1 / 255,) * channels,
        mean=(0.0,) * channels,
    )


def uint16_range(sample: ImageInfo) -> tuple[int, int]:
    """The range of the values in the 16-bit files of a sample."""
    deep = sample[sample["highest16"] > 0]
    return choose_range(int(deep["lowest16"].min()), int(deep["highest16"].max())) if len(deep) else FULL_RANGE


def _max_side(options: LoadOptions, images: int) -> int:
    """The largest side for which there is time."""
    if options.core_seconds is None:
        return MAX_DEFAULT_SIDE
    affordable = int((options.core_seconds / (images * SECONDS_PER_PIXEL)) ** 0.5)
    return min(MAX_DEFAULT_SIDE, max(SIZES[0], affordable))


def _choose_shape(sample: ImageInfo, max_side: int) -> tuple[int, int]:
    shapes = {(int(height), int(width)) for height, width in zip(sample["height"], sample["width"], strict=True)}
    height, width = max(shapes)
    factor = 1 / SEEN_FRACTION if min(height, width) >= LARGE_IMAGE_SIDE else 1
    if len(shapes) == 1 and max(height, width) * factor <= max_side:
        return round(height * factor), round(width * factor)
    shorter = np.median(np.minimum(sample["height"], sample["width"]))
    enough = min((side for side in SIZES if side >= shorter / SEEN_FRACTION), default=SIZES[-1])
    side = max(side for side in SIZES if side <= min(enough, max_side))
    return side, side
