"""Which images an epoch visits, and how it changes them: pure functions of (seed, epoch, place in the data)."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def epoch_order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """The order in which epoch `epoch` visits `images` images: a permutation, int64 (images,).

    >>> epoch_order(seed=1, epoch=0, images=5).tolist() == epoch_order(seed=1, epoch=0, images=5).tolist()
    True
    """
    return _generator(seed, epoch, "order").permutation(images)


def balanced_order(seed: int, epoch: int, labels: NDArray[np.int64], balance: float) -> NDArray[np.int64]:
    """The same where rare classes come more often: int64 (images,), as many as there are labels.

    Each class gets a share of the epoch in proportion to its number of images to the power of 1 - balance, all alike at
    1. Its images are taken equally often, but for one time more or less, drawn anew in every epoch.

    >>> sorted(balanced_order(seed=1, epoch=0, labels=np.array([0, 0, 0, 0, 0, 1]), balance=1).tolist())[-3:]
    [5, 5, 5]
    """
    random, counts = _generator(seed, epoch, "order"), np.bincount(labels)
    members = [some for some in np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1]) if len(some)]
    shares = np.array([len(some) for some in members], float) ** (1 - balance)
    borders = np.round(np.cumsum(shares) / shares.sum() * len(labels)).astype(np.int64)
    drawn = []
    for some, times in zip(members, np.diff(borders, prepend=0), strict=True):
        whole, rest = divmod(int(times), len(some))
        drawn += [np.tile(some, whole), random.permutation(some)[:rest]]
    return random.permutation(np.concatenate(drawn))


def epoch_moves(seed: int, epoch: int, images: int, pixels: int) -> NDArray[np.int64]:
    """How far each image is moved in that epoch: int64 (images, 2), rows and columns, -pixels..pixels."""
    return _generator(seed, epoch, "shift").integers(-pixels, pixels, size=(images, 2), endpoint=True)


def epoch_crops(seed: int, epoch: int, images: int, least_area: float) -> NDArray[np.float32]:
    """Which part of each image is seen in that epoch: float32 (images, 4), shares of its height and width.

    Columns are top, left, height and width. Areas are uniform from `least_area` to 1, shapes log-uniform from 3:4 to
    4:3 as far as they fit, places uniform.
    """
    random = _generator(seed, epoch, "crop")
    area = random.uniform(least_area, 1, images)
    shape = np.exp(random.uniform(-np.log(4 / 3), np.log(4 / 3), images))
    sides = np.minimum(1, np.sqrt(np.stack([area / shape, area * shape], axis=1)))
    places = random.random((images, 2)) * (1 - sides)
    return np.concatenate([places, sides], axis=1).astype(np.float32)


def epoch_colors(seed: int, epoch: int, images: int, channels: int, strength: float) -> NDArray[np.float32]:
    """How contrast, saturation and brightness of each image are changed in that epoch: float32 (images, 2 + channels).

    Columns are two factors, uniform from 1 - strength to 1 + strength, and what is added to each channel: an amount for
    all, up to `strength`, and one of its own, half as large; in standard deviations where pixels are standardized.
    """
    random = _generator(seed, epoch, "color")
    factors = random.uniform(1 - strength, 1 + strength, (images, 2))
    added = random.uniform(-strength, strength, (images, 1)) + random.uniform(-0.5, 0.5, (images, channels)) * strength
    return np.concatenate([factors, added], axis=1).astype(np.float32)


def epoch_patches(seed: int, epoch: int, batches: int, probability: float) -> NDArray[np.float32]:
    """Which part of every image of a batch is another's (CutMix; Yun et al., 2019): float32 (batches, 4).

    Columns are top, left, height and width, as shares of the image's; the latter are 0 for batches without. Areas are
    uniform from 0 to 1, of the image's own shape, places uniform.
    """
    random = _generator(seed, epoch, "patch")
    side = np.sqrt(random.random(batches)) * (random.random(batches) < probability)
    places = random.random((batches, 2)) * (1 - side)[:, np.newaxis]
    return np.concatenate([places, np.stack([side, side], axis=1)], axis=1).astype(np.float32)


def epoch_flips(seed: int, epoch: int, images: int) -> NDArray[np.bool_]:
    """Which images are flipped left to right in that epoch: bool (images,).

    Each in every other epoch (Jordan, 2024), half of them in the first.
    """
    first: NDArray[np.bool_] = _generator(seed, 0, "flip").random(images) < 0.5
    return first ^ bool(epoch % 2)


def _generator(seed: int, epoch: int, use: str) -> np.random.Generator:
    """An independent stream for each (seed, epoch, use); Philox keeps the same numbers on every platform."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, zlib.crc32(use.encode())])))
