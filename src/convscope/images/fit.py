"""How an image of another aspect ratio than the network's input is fitted in."""

from typing import Literal

Fit = Literal["letterbox", "crop", "stretch"]
DEFAULT_FIT: Fit = "letterbox"
