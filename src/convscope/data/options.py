"""How data sets are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path
from pydantic import Field

from convscope._records import Record
from convscope._reporting import Reporter
from convscope.images.fit import DEFAULT_FIT, Fit
from convscope.images.preprocessing import Preprocessing

MAX_MEGAPIXELS = 50.0


class LoadOptions(Record):
    """How a folder or table of images is read; values that are None are chosen from the images.

    Attributes:
        image_size: side of the network's square input, in pixels.
        channels: 1 gray, 3 RGB, 4 RGBA.
        fit: "letterbox" keeps the whole image and pads it, "crop" cuts off the longer side, "stretch" resizes rows and
            columns independently.
        group_by: a regular expression that is searched in each file's name. Files of one class with the same match
            (the same groups, if the expression has groups) stay in one split. If it contains a "/", it is searched in
            the path below the folder, and files with the same match stay together across classes.
        class_level: 1 if the folders at the top are the classes, 2 if those inside them are; None to find out.
        max_megapixels: larger images are excluded.
        core_seconds: time limit of the training in seconds times processor cores; the image size is chosen for it.
        decode_seconds: time limit for decoding: if it is too short, fewer images are read. What was read is recorded in
            `max_images`.
        max_images: read at most about this number, spread evenly over classes and splits, at least ten of each.
        preprocessing: a trained network's preprocessing, which replaces size, channels and fit.
    """

    image_size: int | None = Field(default=None, ge=8, le=512)
    channels: Literal[1, 3, 4] | None = None
    fit: Fit = DEFAULT_FIT
    group_by: str | None = None
    class_level: Literal[1, 2] | None = None
    max_megapixels: float = Field(default=MAX_MEGAPIXELS, gt=0)
    core_seconds: float | None = Field(default=None, gt=0)
    decode_seconds: float | None = Field(default=None, gt=0)
    max_images: int | None = Field(default=None, ge=1)
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class LoadContext:
    """What the reader of a format gets besides the path.

    Attributes:
        options: how images are read.
        cache: the folder for decoded images.
        reporter: receives messages and the progress of decoding.
        classes: names of known classes, which decide how an unclear layout of folders is read.
    """

    options: LoadOptions
    cache: Path
    reporter: Reporter
    classes: tuple[str, ...] = ()


def cache_folder() -> Path:
    """The user's cache of downloaded data sets and decoded images."""
    return user_cache_path("convscope")
