"""Data sets: a name or a path -> uint8 images, labels, class names, a train and a test split."""

from convscope.data.dataset import Dataset, Split, as_levels, hold_out
from convscope.data.download import Progress
from convscope.data.loading import load, load_default
from convscope.data.names import NAMES, SETS
from convscope.data.options import Reading
from convscope.data.summary import image_as_text, summary

__all__ = [
    "NAMES",
    "SETS",
    "Dataset",
    "Progress",
    "Reading",
    "Split",
    "as_levels",
    "hold_out",
    "image_as_text",
    "load",
    "load_default",
    "summary",
]
