"""Identical files, nearly identical images, and what they connect."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convscope.data.audit.duplicates import (
    MAX_CANDIDATES,
    MAX_HASH_DISTANCE,
    connected_groups,
    correlations,
    near_duplicates,
    same_files,
)
from convscope.images.perceptual_hash import perceptual_hash
from helpers.images import noise


@given(st.lists(st.integers(0, 5), max_size=30))
def test_same_files_have_the_same_digest(which: list[int]) -> None:
    digests = np.random.default_rng(0).integers(0, 2**63, (6, 4), np.uint64)[which]
    expected = [np.flatnonzero(np.array(which) == k) for k in dict.fromkeys(which) if which.count(k) > 1]
    assert [some.tolist() for some in same_files(digests)] == [some.tolist() for some in expected]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=8))
def test_connected_groups_join_everything_that_is_linked(links: list[list[int]]) -> None:
    sets = [{i} for i in range(10)]
    for link in links:
        touched = [some for some in sets if some & set(link)]
        sets = [some for some in sets if not some & set(link)] + [set().union(*touched)]
    numbers = connected_groups(10, links)
    assert {frozenset(np.flatnonzero(numbers == number)) for number in numbers} == set(map(frozenset, sets))


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=12), st.integers(0, 3))
def test_near_duplicates_compare_every_pair_of_close_hashes(first: int, flipped: set[int], others: int) -> None:
    second = first ^ sum(1 << bit for bit in flipped)
    hashes = np.array([first, second, *range(others)], np.uint64)
    identical = np.tile(noise(1, 8, 8, 1), (len(hashes), 1, 1, 1))
    pairs = near_duplicates(hashes, identical, np.arange(len(hashes))).tolist()
    distance = {(i, j): (int(hashes[i]) ^ int(hashes[j])).bit_count() for j in range(len(hashes)) for i in range(j)}
    assert sorted(map(tuple, pairs)) == sorted(pair for pair, bits in distance.items() if bits <= MAX_HASH_DISTANCE)


def test_near_duplicates_must_correlate() -> None:
    pixels = np.stack([noise(1, 8, 8), noise(2, 8, 8), 255 - noise(1, 8, 8), noise(1, 8, 8) // 2, noise(1, 8, 8) * 0])
    assert near_duplicates(np.zeros(5, np.uint64), pixels, np.arange(5)).tolist() == [[0, 3]]
    assert near_duplicates(np.zeros(5, np.uint64), pixels, np.array([1, 3])).tolist() == []
    pairs = np.array([[0, 3], [0, 2], [0, 4]])
    np.testing.assert_allclose(correlations(pixels, pairs), [1, -1, 0], atol=0.01)


def test_near_duplicates_of_many_look_alikes_are_connected_by_few_pairs() -> None:
    """600 frames of one scene, all with about the same hash."""
    random = np.random.default_rng(0)
    scene = noise(3, 32, 32).astype(int)
    frames = np.clip(scene + random.integers(-12, 13, (600, 32, 32, 3)), 0, 255).astype(np.uint8)
    hashes = np.array([perceptual_hash(frame) for frame in frames], np.uint64)
    pairs = near_duplicates(hashes, frames, np.arange(600))
    assert (
        np.bincount(connected_groups(600, pairs)).max() > 590
    )  # some hashes differ in more than 6 bits from all others
    assert len(pairs) <= 600 * 2 * MAX_CANDIDATES


def test_near_duplicates_among_look_alikes_find_each_other() -> None:
    """300 images with the same hash that do not correlate, and a noisy copy of each."""
    random = np.random.default_rng(0)
    images = random.integers(20, 236, (300, 16, 16, 1))
    copies = images + random.integers(-5, 6, images.shape)
    pixels = np.concatenate([images, copies]).astype(np.uint8)
    pairs = near_duplicates(np.zeros(600, np.uint64), pixels, np.arange(600))
    assert {(int(a), int(b)) for a, b in pairs} == {(i, i + 300) for i in range(300)}
