"""How a folder or table of pictures is to be read."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from convscope.images.preprocessing import Preprocessing


class LoadOptions(BaseModel):
    """How a folder or table of images is read; values that are None are chosen from the images.

    Attributes:
        image_size: side of the network's square input, in pixels.
        channels: 1 gray, 3 RGB, 4 RGBA.
        fit: "letterbox" keeps the whole image and pads it, "crop" cuts off the longer side.
        group_by: a regular expression that is searched in each file's name. Files of one class with the same match
            (the same groups, if the expression has groups) stay in one split. If it contains a "/", it is searched in
            the path below the folder, and files with the same match stay together across classes.
        max_megapixels: larger images are left out.
        core_seconds: time limit of the training in seconds times processor cores; the image size is chosen for it.
        preprocessing: a trained network's preprocessing, which replaces size, channels and fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int | None = Field(default=None, ge=8, le=512)
    channels: Literal[1, 3, 4] | None = None
    fit: Literal["letterbox", "crop"] = "letterbox"
    group_by: str | None = None
    max_megapixels: float = Field(default=50.0, gt=0)
    core_seconds: float | None = Field(default=None, gt=0)
    preprocessing: Preprocessing | None = None
