"""Duplicate images: identical files, and images that are nearly identical."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from convscope.data.types import Images, Labels

Pairs = NDArray[np.int64]  # (m, 2), the smaller index first

MAX_HASH_DISTANCE = 6  # of 64 bits
MIN_CORRELATION = 0.95  # of the gray levels, pixel by pixel
BANDS, BAND_BITS = 8, 8  # hashes that differ in at most 6 bits have two bands in common
MAX_NEIGHBORS = 256  # per image and pair of bands, so that the work grows linearly
CHUNK_PAIRS = 512  # compared at a time


def same_files(digests: NDArray[np.uint64]) -> list[Labels]:
    """The indices of identical files, one array for each content that occurs more than once, in order.

    Args:
        digests: SHA-256 of each file, uint64 (n, 4).
    """
    order = np.lexsort(digests.T)
    ends = np.flatnonzero((digests[order][1:] != digests[order][:-1]).any(1)) + 1
    return sorted((np.sort(some) for some in np.split(order, ends) if len(some) > 1), key=lambda some: int(some[0]))


def near_duplicates(hashes: NDArray[np.uint64], pixels: Images, among: Labels) -> Pairs:
    """Pairs of images that are the same except for size, compression or a small change.

    Candidates are pairs whose hashes differ in at most 6 bits (multi-index hashing, Norouzi et al., 2012). Of these,
    pairs whose gray levels correlate with 0.95 or more are near duplicates.

    Args:
        hashes: perceptual hashes, uint64 (n,).
        pixels: uint8 (n, h, w, c).
        among: the indices of the images to compare.
    """
    found = [_candidates(hashes[among], first, second) for first, second in combinations(range(BANDS), 2)]
    pairs = among[np.unique(np.concatenate(found), axis=0)]
    return pairs[correlations(pixels, pairs) >= MIN_CORRELATION]


def correlations(pixels: Images, pairs: Pairs) -> NDArray[np.float32]:
    """Correlate the gray levels of pairs of images.

    Args:
        pixels: uint8 (n, h, w, c).
        pairs: indices of the images, int64 (m, 2).

    Returns:
        float32 (m,), -1..1; 0 if one image of the pair is constant.
    """
    parts = [
        _correlation(*(pixels[indices] for indices in pairs[i : i + CHUNK_PAIRS].T))
        for i in range(0, len(pairs), CHUNK_PAIRS)
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def connected_groups(count: int, links: Iterable[Iterable[int]]) -> Labels:
    """Number things so that those connected by links, directly or not, get the same number.

    Union-find with path halving (Tarjan and van Leeuwen, 1984). `scipy.sparse.csgraph.connected_components` does the
    same, but a core install has no scipy.

    Args:
        count: number of things.
        links: each connects some things, given by their indices 0..count - 1.

    Returns:
        int64 (count,), the lowest index of each group.

    >>> connected_groups(5, [(0, 3), (3, 4)])
    array([0, 1, 2, 0, 0])
    """
    parent = list(range(count))

    def root(thing: int) -> int:
        while parent[thing] != thing:
            parent[thing] = thing = parent[parent[thing]]
        return thing

    for link in links:
        first, *others = map(int, link)
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return np.array([root(thing) for thing in range(count)], np.int64)


def _candidates(hashes: NDArray[np.uint64], first: int, second: int) -> Pairs:
    """Pairs of hashes with two bands in common that differ in few bits."""
    shifts = np.array([BAND_BITS * first, BAND_BITS * second], np.uint64)
    bands = hashes[:, None] >> shifts & np.uint64(2**BAND_BITS - 1)
    key = bands[:, 0] * np.uint64(2**BAND_BITS) + bands[:, 1]
    order = np.lexsort((hashes, key))
    return np.concatenate([np.zeros((0, 2), np.int64), *_close_pairs(hashes[order], key[order], order)])


def _close_pairs(hashes: NDArray[np.uint64], key: NDArray[np.uint64], order: Labels) -> Iterator[Pairs]:
    """Pairs with the same key, by their distance in the sorted order."""
    for distance in range(1, min(MAX_NEIGHBORS, len(order))):
        same = np.flatnonzero(key[distance:] == key[:-distance])
        if not len(same):
            return
        near = same[np.bitwise_count(hashes[same] ^ hashes[same + distance]) <= MAX_HASH_DISTANCE]
        yield np.sort(np.stack([order[near], order[near + distance]], axis=1), axis=1)


def _correlation(a: Images, b: Images) -> NDArray[np.float32]:
    x, y = (_centered_levels(images) for images in (a, b))
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    result: NDArray[np.float32] = (x * y).sum(1) / np.maximum(size, np.float32(1e-3))
    return result


def _centered_levels(images: Images) -> NDArray[np.float32]:
    """Gray levels minus their mean, float32 (n, pixels)."""
    levels: NDArray[np.float32] = images[..., :3].mean(3, dtype=np.float32).reshape(len(images), -1)
    levels -= levels.mean(1, keepdims=True)
    return levels
