"""How a folder or table of pictures is to be read."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from convscope.images.preprocessing import Preprocessing


class LoadOptions(BaseModel):
    """How a folder or table of pictures is read; what is None is chosen from the pictures.

    size: side of the network's square input, in pixels. channels: 1 gray, 3 RGB, 4 RGBA. fit: "letterbox" keeps the
    whole picture, "crop" cuts off what does not fit. group_by: a regular expression, searched in the file's name; files
    of a class with the same match (its groups, where it has some) belong together. One with a "/" is searched in the
    path below the folder, and what it finds belongs together across classes. max_megapixels: larger pictures are left
    out. core_seconds: how long a training may take, times the processor's cores; the size is chosen for it. frame:
    everything of this at once, as a trained network needs it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int | None = Field(default=None, ge=8, le=512)
    channels: Literal[1, 3, 4] | None = None
    fit: Literal["letterbox", "crop"] = "letterbox"
    group_by: str | None = None
    max_megapixels: float = Field(default=50.0, gt=0)
    core_seconds: float | None = Field(default=None, gt=0)
    frame: Preprocessing | None = None
