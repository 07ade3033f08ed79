"""Order and augmentation as pure functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.training.augmentation import (
    balanced_order,
    epoch_colors,
    epoch_crops,
    epoch_flips,
    epoch_moves,
    epoch_order,
)

seeds, epochs = st.integers(0, 2**40), st.integers(1, 1000)


@settings(deadline=None)
@given(seeds, epochs, st.integers(1, 300))
def test_an_epochs_order_is_a_permutation_and_depends_on_nothing_else(seed: int, epoch: int, images: int) -> None:
    order = epoch_order(seed, epoch, images)
    np.random.seed(images)
    assert np.array_equal(epoch_order(seed, epoch, images), order)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(images))


def test_orders_and_shifts_differ_from_seed_to_seed_and_from_epoch_to_epoch() -> None:
    places = [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert len({epoch_order(*place, 50).tobytes() for place in places}) == 4
    assert len({epoch_moves(*place, 50, 1).tobytes() for place in places}) == 4


def test_the_streams_never_change() -> None:
    assert epoch_order(0, 1, 60_000)[:5].tolist() == [32365, 54022, 34643, 47504, 23179]
    assert epoch_moves(0, 1, 60_000, 2)[:4].tolist() == [[0, -2], [2, -2], [1, -1], [-2, 0]]


@pytest.mark.parametrize("pixels", [1, 3])
def test_shifts_reach_every_distance_equally_often(pixels: int) -> None:
    shifts = epoch_moves(0, 1, 10_000, pixels)
    values, counts = np.unique(shifts, return_counts=True)
    assert shifts.shape == (10_000, 2)
    assert values.tolist() == list(range(-pixels, pixels + 1))
    assert counts == pytest.approx(20_000 / len(values), rel=0.1)  # over five standard deviations


def test_an_image_is_flipped_in_every_other_epoch_and_half_of_them_in_each() -> None:
    flips = np.stack([epoch_flips(3, epoch, 10_000) for epoch in range(1, 6)])
    assert flips.dtype == np.bool_
    assert (flips[1:] != flips[:-1]).all()
    assert flips.mean(1) == pytest.approx(0.5, abs=0.025)  # five standard deviations
    assert (flips[0] != epoch_flips(4, 1, 10_000)).any()


@settings(deadline=None)
@given(seeds, epochs, st.lists(st.integers(0, 6), min_size=1, max_size=80), st.floats(0.01, 1))
def test_a_balanced_order_takes_every_image_of_a_class_equally_often(
    seed: int, epoch: int, given_labels: list[int], balance: float
) -> None:
    labels = np.array(given_labels)
    order = balanced_order(seed, epoch, labels, balance)
    np.random.seed(len(labels))
    assert np.array_equal(balanced_order(seed, epoch, labels, balance), order)
    assert order.dtype == np.int64
    assert order.shape == labels.shape
    times = np.bincount(order, minlength=len(labels))
    for label in set(given_labels):
        assert np.ptp(times[labels == label]) <= 1


@pytest.mark.parametrize(("balance", "expected"), [(1e-9, [900, 90, 10]), (0.5, [703, 222, 74]), (1, [333, 333, 333])])
def test_rare_classes_come_more_often(balance: float, expected: list[int]) -> None:
    """In proportion to the number of images to the power of 1 - balance: 30 to 9.49 to 3.16 at a half."""
    labels = np.repeat([4, 0, 2], [900, 90, 10])
    order = balanced_order(0, 1, labels, balance)
    assert np.bincount(labels[order])[[4, 0, 2]] == pytest.approx(expected, abs=1)
    assert not np.array_equal(order, balanced_order(0, 2, labels, balance))


def test_what_is_left_over_changes_from_epoch_to_epoch() -> None:
    labels = np.repeat([0, 1], [90, 10])
    seen = [set(balanced_order(0, epoch, labels, 1).tolist()) for epoch in range(1, 20)]
    assert all(set(range(90, 100)) <= some for some in seen)
    assert all(len(some) == 60 for some in seen)
    assert len(set.union(*seen)) == 100


@given(seeds, epochs, st.floats(0.05, 1))
def test_crops_lie_inside_and_are_as_large_as_promised(seed: int, epoch: int, least: float) -> None:
    crops = epoch_crops(seed, epoch, 50, least)
    assert crops.shape == (50, 4)
    places, sides = crops[:, :2], crops[:, 2:]
    assert (places >= 0).all()
    assert (places + sides <= 1 + 1e-6).all()
    assert (sides.prod(axis=1) >= least * 0.75 - 1e-6).all()  # a shape that does not fit is cut off
    assert (sides[:, 0] / sides[:, 1] <= 4 / 3 + 1e-5).all()
    assert (sides[:, 1] / sides[:, 0] <= 4 / 3 + 1e-5).all()
    assert np.array_equal(crops, epoch_crops(seed, epoch, 50, least))


@given(seeds, epochs, st.sampled_from([1, 3, 4]), st.floats(0.01, 0.9))
def test_colors_change_by_no_more_than_promised(seed: int, epoch: int, channels: int, strength: float) -> None:
    colors = epoch_colors(seed, epoch, 50, channels, strength)
    assert colors.shape == (50, 2 + channels)
    assert (abs(colors[:, :2] - 1) <= strength + 1e-6).all()
    assert (abs(colors[:, 2:]) <= 1.5 * strength + 1e-6).all()
    assert (np.ptp(colors[:, 2:], axis=1) <= strength + 1e-6).all()  # what channels do not share
    assert np.array_equal(colors, epoch_colors(seed, epoch, 50, channels, strength))


def test_colors_are_spread_evenly() -> None:
    colors = epoch_colors(0, 1, 20_000, 3, 0.4)
    np.testing.assert_allclose(colors.mean(axis=0), [1, 1, 0, 0, 0], atol=0.01)
    np.testing.assert_allclose(colors.std(axis=0)[:2], 0.8 / 12**0.5, rtol=0.02)
    np.testing.assert_allclose(colors.std(axis=0)[2:], (0.64 / 12 + 0.16 / 12) ** 0.5, rtol=0.02)
    assert not np.array_equal(colors, epoch_colors(0, 2, 20_000, 3, 0.4))
    assert not np.array_equal(colors, epoch_colors(1, 1, 20_000, 3, 0.4))


def test_crops_are_spread_evenly() -> None:
    crops = epoch_crops(0, 1, 20_000, 0.25)
    fits = crops[(crops[:, 2:] < 1).all(axis=1)]
    assert 0.55 < fits[:, 2:].prod(axis=1).mean() < 0.61
    share = fits[:, :2] / (1 - fits[:, 2:])
    np.testing.assert_allclose(share.mean(axis=0), 0.5, atol=0.01)
    assert not np.array_equal(crops, epoch_crops(0, 2, 20_000, 0.25))
    assert not np.array_equal(crops, epoch_crops(1, 1, 20_000, 0.25))
