"""Checks of images, labels and class names; every failure is a DataError of one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from convscope._text import escape_controls, list_some
from convscope.data.types import Images, Labels
from convscope.errors import DataError

CHANNEL_COUNTS = (1, 3, 4)


@contextmanager
def error_prefix(name: str) -> Iterator[None]:
    """Put `name`, such as a file, before the message of a DataError raised inside; turn an OSError into a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from error


def check_arrays(images: Images, labels: Labels, rows: Labels | None) -> None:
    """Raise DataError unless the arrays of a split fit together.

    Args:
        images: uint8 (stored, height, width, channels).
        labels: integers (n,).
        rows: (n,), or None for all images in order.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(
            f"images are {images.dtype} {images.shape}: "
            "expected uint8 (n, height, width) or (n, height, width, channels)"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"labels are {labels.dtype} {labels.shape}: expected integers (n,)")
    count = len(images) if rows is None else len(rows)
    if count != len(labels):
        raise DataError(f"{count} images but {len(labels)} labels: expected one label per image")
    if not images.size or not count:
        raise DataError(f"empty split: images are {images.shape}, expected at least one image of at least one pixel")
    if images.shape[3] not in CHANNEL_COUNTS:
        raise DataError(f"images have {images.shape[3]} channels, {images.shape}: expected 1, 3 or 4, as the last axis")


def check_classes(classes: tuple[str, ...]) -> None:
    """Raise DataError unless there are two or more different, printable names."""
    if len(classes) < 2:
        raise DataError(f"only one class ({list_some(classes)}): expected at least two")
    unprintable = [name for name in classes if escape_controls(name) != name]
    if unprintable:
        listed = list_some(map(escape_controls, unprintable))
        raise DataError(
            f"class names with control characters ({listed}): expected UTF-8 text without them; rename the classes"
        )
    if len(set(classes)) < len(classes):
        repeated = dict.fromkeys(name for name in classes if classes.count(name) > 1)
        raise DataError(f"duplicate class names: {list_some(repeated)}; expected each name once")


def check_labels(split: str, labels: Labels, classes: int) -> None:
    """Raise DataError unless all labels of a split are in range.

    Args:
        split: its name, for the message.
        labels: integers (n,).
        classes: number of classes; labels must be 0..classes - 1.
    """
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if wrong.size:
        raise DataError(
            f"labels out of range in the {split} split: found {list_some(wrong)}, expected 0..{classes - 1} "
            f"for {classes} classes"
        )


def check_all_present(labels: Labels, classes: int, names: Sequence[str] = ()) -> None:
    """Raise DataError unless every class has a training image.

    Args:
        labels: integers (n,) of the training split.
        classes: number of classes.
        names: the names of the classes, if they have names.
    """
    present = np.unique(labels)
    if len(present) < classes:
        absent = np.setdiff1d(np.arange(min(classes, len(present) + 6)), present)  # short even for a label of 10^12
        spelled = [f"{i} ({names[i]})" if names and names[i] != str(i) else str(i) for i in absent.tolist()]
        absent_text = list_some(spelled, total=classes - len(present))
        raise DataError(
            f"labels with a gap: no training image of class {absent_text}, expected every class 0..{classes - 1} among "
            "the training labels; leave out classes without images, and number the others from 0"
        )


def numbered_classes(labels: Labels) -> tuple[str, ...]:
    """Class names "0".."k-1" for training labels (n,) that must be 0..k-1 without a gap.

    Raises DataError for a negative label or a gap: one wrong label must not create a million classes.

    >>> numbered_classes(np.array([1, 0, 2, 1]))
    ('0', '1', '2')
    """
    highest = int(labels.max())
    if labels.min() < 0:
        raise DataError(f"labels out of range in the train split: found {labels.min()}, expected 0 or more")
    check_all_present(labels, highest + 1)
    return tuple(str(k) for k in range(highest + 1))
