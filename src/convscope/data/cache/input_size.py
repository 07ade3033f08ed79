"""How pictures of many sizes are brought to one: what was asked for, and what a sample of them suggests."""

from __future__ import annotations

import numpy as np

from convscope.data.cache.decode import Facts
from convscope.data.dataset import LARGE
from convscope.data.options import LoadOptions
from convscope.images.preprocessing import Preprocessing
from convscope.images.statistics import polarity_of

SIZES = (8, 16, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224)
USUAL = 80  # pixels: more gain nothing in minutes; dev/LOG.md says how this and the next are known
SEEN = 0.8  # of the input's side is what training mostly sees of a picture (see the recipes' `growth`)
PIXEL_SECONDS = 5e-6  # of a core, that enough epochs take for every pixel
GRAY = 127


def choose_preprocessing(sample: Facts, options: LoadOptions, pictures: int) -> Preprocessing:
    """The size, channels, background and padding for so many pictures like those of the sample, which can all be read.

    Pictures that are all alike and small keep their shape, a quarter larger from LARGE pixels on. Else the input is a
    square: the smallest of SIZES in which the median picture does not overfill what training sees, but at most 80
    pixels, and no more than there is time for.
    """
    height, width = (
        (options.image_size, options.image_size) if options.image_size else _shape(sample, _largest(options, pictures))
    )
    channels = options.channels or (3 if sample["colored"].any() else 1)
    background = polarity_of(sample["border"])
    level = GRAY if background == "mixed" else int(np.sort(sample["border"])[(len(sample) - 1) // 2])
    return Preprocessing(
        height=height,
        width=width,
        channels=channels,
        fit=options.fit,
        fill=(*(level,) * min(channels, 3), 255)[:channels],
        polarity=background,
        scale=(1 / 255,) * channels,
        mean=(0.0,) * channels,
    )


def _largest(options: LoadOptions, pictures: int) -> int:
    """The largest side that there is time for."""
    if options.core_seconds is None:
        return USUAL
    return min(USUAL, max(SIZES[0], int((options.core_seconds / (pictures * PIXEL_SECONDS)) ** 0.5)))


def _shape(sample: Facts, largest: int) -> tuple[int, int]:
    shapes = {(int(height), int(width)) for height, width in zip(sample["height"], sample["width"], strict=True)}
    height, width = max(shapes)
    times = 1 / SEEN if min(height, width) >= LARGE else 1
    if len(shapes) == 1 and max(height, width) * times <= largest:
        return round(height * times), round(width * times)
    shorter = np.median(np.minimum(sample["height"], sample["width"]))
    enough = min((side for side in SIZES if side >= shorter / SEEN), default=SIZES[-1])
    side = max(side for side in SIZES if side <= min(enough, largest))
    return side, side
