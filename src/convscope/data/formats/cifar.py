"""The binary version of CIFAR-10 (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convscope.data.dataset import Split
from convscope.data.types import Images

SIDE = 32  # pixels
RECORD_BYTES = 1 + 3 * SIDE * SIDE  # the label, then the red, the green and the blue plane, row by row


def decode_cifar10(batches: Sequence[bytes]) -> tuple[Split, Split]:
    """Train and test split from the contents of the batch files, the last of which is the test batch.

    Images are uint8 (n, 32, 32, 3), in the order of the files.
    """
    return _decode(batches[:-1]), _decode(batches[-1:])


def decode_cifar10_images(batch: bytes) -> Images:
    """Images, uint8 (n, 32, 32, 3), from the contents of a batch file."""
    return _decode([batch]).images


def _decode(batches: Sequence[bytes]) -> Split:
    records = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, RECORD_BYTES)
    planes = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
    images = np.empty((len(records), SIDE, SIDE, 3), np.uint8)
    for channel in range(3):  # plane by plane, five times as fast as one transposed copy
        images[..., channel] = planes[:, channel]
    return Split(images, records[:, 0].astype(np.int64))
