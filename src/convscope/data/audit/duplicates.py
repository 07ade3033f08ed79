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
MAX_NEIGHBORS = 12  # per image and pair of bands, and
MAX_CANDIDATES = 8  # per image, so that the work grows linearly
MAX_SIDE, SKETCH_SIDE = 64, 8  # pixels to which images are reduced to be compared, and to find the most similar ones
CHUNK_PAIRS = 512  # compared at a time
MIN_NORM = np.float32(0.03)  # of centered levels; less is rounding


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
    pairs whose gray levels correlate with 0.95 or more are near duplicates. If many images look alike, each is
    compared to the 8 that are most similar at 8x8 pixels, or that compare to it.

    Args:
        hashes: perceptual hashes, uint64 (n,).
        pixels: uint8 (n, h, w, c).
        among: the indices of the images to compare.
    """
    if not len(among):
        return np.zeros((0, 2), np.int64)
    sketches = _sketches(pixels, among)
    found = [_candidates(hashes[among], sketches, first, second) for first, second in combinations(range(BANDS), 2)]
    codes = np.unique(np.concatenate(found))
    pairs = np.stack([codes // len(among), codes % len(among)], axis=1)
    pairs = among[_most_similar(pairs, sketches)]
    return pairs[correlations(pixels, pairs) >= MIN_CORRELATION]


def correlations(pixels: Images, pairs: Pairs) -> NDArray[np.float32]:
    """Correlate the gray levels of pairs of images, reduced to at most 64x64 pixels by averaging.

    Args:
        pixels: uint8 (n, h, w, c).
        pairs: indices of the images, int64 (m, 2).

    Returns:
        float32 (m,), -1..1; 0 if one image of the pair is constant.
    """
    indices, positions = np.unique(pairs, return_inverse=True)
    levels = _reduced(pixels, indices, MAX_SIDE)
    result = np.zeros(len(pairs), np.float32)
    for first in range(0, len(pairs), CHUNK_PAIRS):
        some = slice(first, first + CHUNK_PAIRS)
        x, y = (_standardized(levels[at]) for at in positions.reshape(-1, 2)[some].T)
        result[some] = (x * y).sum(1)
    return result


def correlation_matrix(pixels: Images, indices: Labels) -> NDArray[np.float32]:
    """As `correlations`, of every image with every other: float32 (m, m).

    Args:
        pixels: uint8 (n, h, w, c).
        indices: of m images.
    """
    levels = _standardized(_reduced(pixels, indices, MAX_SIDE))
    result: NDArray[np.float32] = levels @ levels.T
    return result


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


def _candidates(hashes: NDArray[np.uint64], sketches: NDArray[np.float32], first: int, second: int) -> Labels:
    """Pairs (a, b) of hashes with two bands in common that differ in few bits, as numbers a * n + b."""
    shifts = np.array([BAND_BITS * first, BAND_BITS * second], np.uint64)
    bands = hashes[:, None] >> shifts & np.uint64(2**BAND_BITS - 1)
    key = bands[:, 0] * np.uint64(2**BAND_BITS) + bands[:, 1]
    likeness = sketches @ np.random.default_rng((first, second)).standard_normal(sketches.shape[1])
    order = np.lexsort((likeness, key))  # of many images with the same key, similar ones are neighbors
    return np.concatenate([np.zeros(0, np.int64), *_close_pairs(hashes[order], key[order], order)])


def _close_pairs(hashes: NDArray[np.uint64], key: NDArray[np.uint64], order: Labels) -> Iterator[Labels]:
    """Pairs with the same key, by their distance in the sorted order."""
    for distance in range(1, min(MAX_NEIGHBORS + 1, len(order))):
        same = np.flatnonzero(key[distance:] == key[:-distance])
        if not len(same):
            return
        near = same[np.bitwise_count(hashes[same] ^ hashes[same + distance]) <= MAX_HASH_DISTANCE]
        low, high = np.sort(np.stack([order[near], order[near + distance]]), axis=0)
        yield low * len(order) + high


def _most_similar(pairs: Pairs, sketches: NDArray[np.float32]) -> Pairs:
    """The pairs in which one image is among the most similar ones to the other."""
    likeness = np.concatenate(
        [np.zeros(0, np.float32)]
        + [
            (sketches[some[:, 0]] * sketches[some[:, 1]]).sum(1)
            for some in np.split(pairs, range(CHUNK_PAIRS, len(pairs), CHUNK_PAIRS))
        ]
    )
    kept = np.zeros(len(pairs), bool)
    for side in (0, 1):
        order = np.lexsort((-likeness, pairs[:, side]))
        images = pairs[order, side]
        rank = np.arange(len(order)) - np.searchsorted(images, images)
        kept[order[rank < MAX_CANDIDATES]] = True
    return pairs[kept]


def _sketches(pixels: Images, among: Labels) -> NDArray[np.float32]:
    """Standardized gray levels of 8x8 pixels, float32 (n, 64 or fewer)."""
    return _standardized(_reduced(pixels, among, SKETCH_SIDE))


def _reduced(pixels: Images, indices: Labels, side: int) -> NDArray[np.float32]:
    """Gray levels of some images, averaged over blocks to at most `side` x `side` pixels: float32 (n, pixels)."""
    height, width = (max(1, -(-size // side)) for size in pixels.shape[1:3])  # of a block
    rows, columns = (np.arange(0, size, block) for size, block in zip(pixels.shape[1:3], (height, width), strict=True))
    result = np.empty((len(indices), len(rows) * len(columns)), np.float32)
    for first in range(0, len(indices), CHUNK_PAIRS):
        some = slice(first, first + CHUNK_PAIRS)
        colors = pixels[indices[some]][..., :3]
        sums = np.add.reduceat(np.add.reduceat(colors, rows, axis=1, dtype=np.int64), columns, axis=2).sum(3)
        result[some] = sums.reshape(len(sums), -1)
    area = np.outer(np.diff([*rows, pixels.shape[1]]), np.diff([*columns, pixels.shape[2]]))
    result /= area.reshape(-1) * min(3, pixels.shape[3])
    return result


def _standardized(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Levels (n, pixels) minus their mean, divided by their norm; 0 if they are constant."""
    centered = levels - levels.mean(1, keepdims=True)
    norm = np.sqrt((centered * centered).sum(1, keepdims=True))
    result: NDArray[np.float32] = np.where(norm > MIN_NORM, centered / np.maximum(norm, MIN_NORM), np.float32(0))
    return result
