"""Pictures that are the same: the same file, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from convscope.data.dataset import Images, Labels

Pairs = NDArray[np.int64]  # (m, 2), the smaller number first

NEAR_BITS = 6  # of 64 bits of their hashes may differ
NEAR_CORRELATION = 0.95  # of their brightness, pixel by pixel
BANDS = 8  # of 8 bits: where at most 6 bits differ, two bands are the same
NEIGHBORS = 256  # that a picture is compared with among those of the same two bands: the work stays linear
CHUNK = 512  # pairs whose pixels are compared at a time


def same_files(digests: NDArray[np.uint64]) -> list[Labels]:
    """The numbers of files with the same SHA-256, uint64 (n, 4), for each that comes more than once, in order."""
    order = np.lexsort(digests.T)
    ends = np.flatnonzero((digests[order][1:] != digests[order][:-1]).any(1)) + 1
    return sorted((np.sort(some) for some in np.split(order, ends) if len(some) > 1), key=lambda some: int(some[0]))


def near_pairs(hashes: NDArray[np.uint64], pixels: Images, among: Labels) -> Pairs:
    """Which of the pictures `among` are nearly the same: the same but for size, compression or a small change.

    hashes: perceptual, uint64 (n,); pixels: uint8 (n, h, w, c). Candidates are those whose hashes differ in 6 bits at
    most (multi-index hashing, Norouzi et al., 2012); pairs are those whose brightness correlates with 0.95 or more.
    """
    found = [_candidates(hashes[among], first, second) for first, second in combinations(range(BANDS), 2)]
    pairs = among[np.unique(np.concatenate(found), axis=0)]
    return pairs[correlations(pixels, pairs) >= NEAR_CORRELATION]


def correlations(pixels: Images, pairs: Pairs) -> NDArray[np.float32]:
    """Of the brightness of each pair of pictures, (m,); 0 where one of them is of one brightness."""
    parts = [
        _correlation(*(pixels[numbers] for numbers in pairs[i : i + CHUNK].T)) for i in range(0, len(pairs), CHUNK)
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def together(count: int, bundles: Iterable[Iterable[int]]) -> Labels:
    """A number for each of `count` things, int64 (count,), the same for all that are linked by bundles.

    >>> together(5, [(0, 3), (3, 4)])
    array([0, 1, 2, 0, 0])
    """
    parent = list(range(count))

    def root(thing: int) -> int:
        while parent[thing] != thing:
            parent[thing] = thing = parent[parent[thing]]
        return thing

    for bundle in bundles:
        first, *others = map(int, bundle)
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return np.array([root(thing) for thing in range(count)], np.int64)


def _candidates(hashes: NDArray[np.uint64], first: int, second: int) -> Pairs:
    """Pairs whose two bands are the same and whose hashes differ in few bits."""
    bands = hashes[:, None] >> np.array([8 * first, 8 * second], np.uint64) & np.uint64(255)
    key = bands[:, 0] * np.uint64(256) + bands[:, 1]
    order = np.lexsort((hashes, key))
    return np.concatenate([np.zeros((0, 2), np.int64), *_close(hashes[order], key[order], order)])


def _close(hashes: NDArray[np.uint64], key: NDArray[np.uint64], order: Labels) -> Iterator[Pairs]:
    for apart in range(1, min(NEIGHBORS, len(order))):
        same = np.flatnonzero(key[apart:] == key[:-apart])
        if not len(same):
            return
        near = same[np.bitwise_count(hashes[same] ^ hashes[same + apart]) <= NEAR_BITS]
        yield np.sort(np.stack([order[near], order[near + apart]], axis=1), axis=1)


def _correlation(a: Images, b: Images) -> NDArray[np.float32]:
    x, y = (_centerd(images) for images in (a, b))
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    result: NDArray[np.float32] = (x * y).sum(1) / np.maximum(size, np.float32(1e-3))
    return result


def _centerd(images: Images) -> NDArray[np.float32]:
    brightness: NDArray[np.float32] = images[..., :3].mean(3, dtype=np.float32).reshape(len(images), -1)
    brightness -= brightness.mean(1, keepdims=True)
    return brightness
