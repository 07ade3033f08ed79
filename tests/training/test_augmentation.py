"""Order and augmentation: random parameters as pure functions, and their effect on a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convscope.backends.pytorch.models import as_batch
from convscope.training.augmentation import (
    EpochAugmentation,
    Stream,
    adjust_colors,
    balanced_order,
    crop_and_resize,
    cutmix,
    cutmix_boxes,
    describe_augmentation,
    epoch_colors,
    epoch_crops,
    epoch_flips,
    epoch_order,
    epoch_shifts,
    generator,
    resize,
)
from convscope.training.recipe import AugmentationConfig, Recipe
from convscope.training.recipes import RECIPES, VARIANTS

seeds, epochs = st.integers(0, 2**40), st.integers(1, 1000)


# The streams of random numbers


def test_stream_values_never_change() -> None:
    assert {stream.name: stream.value for stream in Stream} == {
        "ORDER": 0xF5299398,
        "SHIFT": 0xA50B3B45,
        "CROP": 0xEDC23D9B,
        "COLOR": 0xFAF865CE,
        "CUTMIX": 0xE22B9636,
        "FLIP": 0x9AFEE455,
        "CUSTOM": 0x4023F5B0,
        "VIEW": 0x7A1C04D3,
    }


def test_random_parameters_first_numbers_never_change() -> None:
    assert epoch_order(0, 1, 60_000)[:5].tolist() == [32365, 54022, 34643, 47504, 23179]
    assert balanced_order(0, 1, np.repeat([0, 1], [50, 10]), 1)[:8].tolist() == [10, 15, 36, 50, 25, 49, 56, 27]
    assert epoch_shifts(0, 1, 60_000, 2)[:4].tolist() == [[0, -2], [2, -2], [1, -1], [-2, 0]]
    assert np.flatnonzero(epoch_flips(0, 1, 60_000))[:8].tolist() == [6, 8, 10, 11, 12, 15, 16, 21]
    assert generator(0, 1, Stream.CUSTOM).integers(0, 1000, 4).tolist() == [938, 149, 928, 970]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (epoch_crops(0, 1, 60_000, 0.25)[0], [0.13387464, 0.015463837, 0.6369285, 0.69529885]),
        (epoch_crops(0, 1, 60_000, 0.25)[1], [0.29028475, 0.013152147, 0.6195596, 0.5071258]),
        (epoch_colors(0, 1, 60_000, 3, 0.3)[0], [1.0512148, 1.2853265, -0.25607154, -0.2011067, -0.027421426]),
        (cutmix_boxes(0, 1, 100, 0.7)[0], [0.10105423, 0.6983104, 0.17114322, 0.17114322]),
        (cutmix_boxes(0, 1, 100, 0.7)[1], [0.24459051, 0.27042872, 0.49614763, 0.49614763]),
    ],
    ids=["first crop", "second crop", "colors", "first CutMix box", "second CutMix box"],
)
def test_random_fractions_first_numbers_never_change(found: Any, expected: list[float]) -> None:
    """Up to the last bit, which may depend on the C library's functions."""
    np.testing.assert_allclose(found, expected, rtol=2e-7)


# Order


@given(seeds, epochs, st.integers(1, 300))
def test_epoch_order_is_a_permutation_that_depends_on_its_arguments_only(seed: int, epoch: int, images: int) -> None:
    order = epoch_order(seed, epoch, images)
    np.random.seed(images)
    assert np.array_equal(epoch_order(seed, epoch, images), order)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(images))


def test_order_and_shifts_differ_between_seeds_and_between_epochs() -> None:
    arguments = [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert len({epoch_order(*seed_and_epoch, 50).tobytes() for seed_and_epoch in arguments}) == 4
    assert len({epoch_shifts(*seed_and_epoch, 50, 1).tobytes() for seed_and_epoch in arguments}) == 4


@given(seeds, epochs, st.lists(st.integers(0, 6), min_size=1, max_size=80), st.floats(0.01, 1))
def test_balanced_order_draws_the_images_of_a_class_equally_often(
    seed: int, epoch: int, given_labels: list[int], balance: float
) -> None:
    labels = np.array(given_labels)
    order = balanced_order(seed, epoch, labels, balance)
    np.random.seed(len(labels))
    assert np.array_equal(balanced_order(seed, epoch, labels, balance), order)
    assert order.dtype == np.int64
    assert order.shape == labels.shape
    draws = np.bincount(order, minlength=len(labels))
    for label in set(given_labels):
        assert np.ptp(draws[labels == label]) <= 1


@pytest.mark.parametrize(("balance", "expected"), [(1e-9, [900, 90, 10]), (0.5, [703, 222, 74]), (1, [333, 333, 333])])
def test_balanced_order_draws_rare_classes_more_often(balance: float, expected: list[int]) -> None:
    """In proportion to the number of images to the power of 1 - balance: 30 to 9.49 to 3.16 at 0.5."""
    labels = np.repeat([4, 0, 2], [900, 90, 10])
    order = balanced_order(0, 1, labels, balance)
    assert np.bincount(labels[order])[[4, 0, 2]] == pytest.approx(expected, abs=1)
    assert not np.array_equal(order, balanced_order(0, 2, labels, balance))


def test_balanced_order_draws_other_images_of_large_classes_in_every_epoch() -> None:
    labels = np.repeat([0, 1], [90, 10])
    drawn = [set(balanced_order(0, epoch, labels, 1).tolist()) for epoch in range(1, 20)]
    assert all(set(range(90, 100)) <= images for images in drawn)
    assert all(len(images) == 60 for images in drawn)
    assert len(set.union(*drawn)) == 100


# Random parameters


@pytest.mark.parametrize("pixels", [1, 3])
def test_epoch_shifts_every_distance_is_equally_frequent(pixels: int) -> None:
    shifts = epoch_shifts(0, 1, 10_000, pixels)
    values, counts = np.unique(shifts, return_counts=True)
    assert shifts.shape == (10_000, 2)
    assert values.tolist() == list(range(-pixels, pixels + 1))
    assert counts == pytest.approx(20_000 / len(values), rel=0.1)  # over five standard deviations


def test_epoch_flips_an_image_is_flipped_in_every_other_epoch_and_half_of_them_in_each() -> None:
    flips = np.stack([epoch_flips(3, epoch, 10_000) for epoch in range(1, 6)])
    assert flips.dtype == np.bool_
    assert (flips[1:] != flips[:-1]).all()
    assert flips.mean(1) == pytest.approx(0.5, abs=0.025)  # five standard deviations
    assert (flips[0] != epoch_flips(4, 1, 10_000)).any()


@given(seeds, epochs, st.floats(0.05, 1))
def test_epoch_crops_are_inside_the_image_and_have_the_requested_area(seed: int, epoch: int, min_area: float) -> None:
    crops = epoch_crops(seed, epoch, 50, min_area)
    assert crops.shape == (50, 4)
    corners, sides = crops[:, :2], crops[:, 2:]
    assert (corners >= 0).all()
    assert (corners + sides <= 1 + 1e-6).all()
    assert (sides.prod(axis=1) >= min_area * 0.75 - 1e-6).all()  # an aspect ratio that does not fit is cut off
    assert (sides[:, 0] / sides[:, 1] <= 4 / 3 + 1e-5).all()
    assert (sides[:, 1] / sides[:, 0] <= 4 / 3 + 1e-5).all()
    assert np.array_equal(crops, epoch_crops(seed, epoch, 50, min_area))


def test_epoch_crops_areas_and_positions_are_uniform() -> None:
    crops = epoch_crops(0, 1, 20_000, 0.25)
    inside = crops[(crops[:, 2:] < 1).all(axis=1)]
    assert 0.55 < inside[:, 2:].prod(axis=1).mean() < 0.61
    position = inside[:, :2] / (1 - inside[:, 2:])
    np.testing.assert_allclose(position.mean(axis=0), 0.5, atol=0.01)
    assert not np.array_equal(crops, epoch_crops(0, 2, 20_000, 0.25))
    assert not np.array_equal(crops, epoch_crops(1, 1, 20_000, 0.25))


@given(seeds, epochs, st.sampled_from([1, 3, 4]), st.floats(0.01, 0.9))
def test_epoch_colors_stay_within_the_strength(seed: int, epoch: int, channels: int, strength: float) -> None:
    colors = epoch_colors(seed, epoch, 50, channels, strength)
    assert colors.shape == (50, 2 + channels)
    assert (abs(colors[:, :2] - 1) <= strength + 1e-6).all()
    assert (abs(colors[:, 2:]) <= 1.5 * strength + 1e-6).all()
    assert (np.ptp(colors[:, 2:], axis=1) <= strength + 1e-6).all()  # differences between channels
    assert np.array_equal(colors, epoch_colors(seed, epoch, 50, channels, strength))


def test_epoch_colors_are_uniform() -> None:
    colors = epoch_colors(0, 1, 20_000, 3, 0.4)
    np.testing.assert_allclose(colors.mean(axis=0), [1, 1, 0, 0, 0], atol=0.01)
    np.testing.assert_allclose(colors.std(axis=0)[:2], 0.8 / 12**0.5, rtol=0.02)
    np.testing.assert_allclose(colors.std(axis=0)[2:], (0.64 / 12 + 0.16 / 12) ** 0.5, rtol=0.02)
    assert not np.array_equal(colors, epoch_colors(0, 2, 20_000, 3, 0.4))
    assert not np.array_equal(colors, epoch_colors(1, 1, 20_000, 3, 0.4))


def test_cutmix_boxes_are_inside_the_image_and_have_uniform_areas() -> None:
    boxes = cutmix_boxes(0, 1, 20_000, 0.6)
    area = boxes[:, 2:].prod(axis=1)
    assert (boxes[:, 2] == boxes[:, 3]).all()
    assert (boxes >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 1 + 1e-6).all()
    assert (area > 0).mean() == pytest.approx(0.6, abs=0.02)
    assert np.histogram(area[area > 0], bins=4, range=(0, 1))[0] == pytest.approx(3000, rel=0.08)
    position = boxes[area > 0, :2] / (1 - boxes[area > 0, 2:])
    np.testing.assert_allclose(position.mean(axis=0), 0.5, atol=0.01)
    assert np.array_equal(boxes, cutmix_boxes(0, 1, 20_000, 0.6))
    assert not np.array_equal(boxes, cutmix_boxes(0, 2, 20_000, 0.6))
    assert not cutmix_boxes(0, 1, 100, 0)[:, 2:].any()


# Their effect on a batch


@pytest.mark.parametrize("size", [(32, 32, 3), (28, 28, 1), (9, 14, 4), (2, 3, 1)])
@pytest.mark.parametrize("scale", [0.625, 0.75, 0.5])
def test_resize_equals_pillow_and_keeps_the_mean_brightness(size: tuple[int, int, int], scale: float) -> None:
    """Pillow's bilinear filter, too, is as wide as the pixels of the result."""
    random = np.random.default_rng(0)
    images = random.normal(size=(20, *size)).cumsum(1).cumsum(2).astype(np.float32)
    found = resize(as_batch(images), scale).permute(0, 2, 3, 1)
    rows, columns = (max(1, round(scale * side)) for side in size[:2])
    assert found.shape == (20, rows, columns, size[2])
    for channel in range(size[2]):
        for image, resized in zip(images[..., channel], found[..., channel], strict=True):
            expected = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
            np.testing.assert_allclose(resized, expected, rtol=0, atol=1e-4 * max(1, np.abs(image).max()))
    np.testing.assert_allclose(resize(torch.full((2, 3, 8, 9), 0.7), scale), 0.7, rtol=1e-6)
    pixels = torch.from_numpy(random.random((300, size[2], *size[:2]), np.float32))
    assert resize(pixels, scale).mean().item() == pytest.approx(pixels.mean().item(), abs=0.01)


def test_resize_full_size_returns_the_same_tensor_and_other_sizes_are_channels_last() -> None:
    images = as_batch(np.zeros((2, 8, 8, 3), np.float32))
    assert resize(images, 1) is images
    small = resize(images, 0.5)
    assert small.is_contiguous(memory_format=torch.channels_last)
    assert not small.is_contiguous()


def test_crop_and_resize_whole_image_changes_nothing() -> None:
    images = as_batch(np.random.default_rng(0).random((3, 8, 10, 2), np.float32))
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (3, 1))
    torch.testing.assert_close(crop_and_resize(images, whole, 1), images, rtol=0, atol=1e-5)


def test_crop_and_resize_lower_left_quarter_equals_pillow() -> None:
    """At half size, pixels are pixels of the image; at full size, the quarter is enlarged as Pillow does."""
    pixels = np.random.default_rng(0).random((1, 8, 12, 1), np.float32)
    found = crop_and_resize(as_batch(pixels), np.array([[0.5, 0, 0.5, 0.5]], np.float32), 0.5)
    np.testing.assert_allclose(found[0, 0], pixels[0, 4:, :6, 0], atol=1e-5)
    quarter = Image.fromarray(pixels[0, 4:, :6, 0])
    larger = np.asarray(quarter.resize((12, 8), Image.Resampling.BILINEAR))
    found = crop_and_resize(as_batch(pixels), np.array([[0.5, 0, 0.5, 0.5]], np.float32), 1)
    np.testing.assert_allclose(found[0, 0, 1:, :-1], larger[1:, :-1], atol=1e-5)  # inner edges use their neighbors


def test_adjust_colors_changes_contrast_then_brightness_then_saturation() -> None:
    images = torch.rand(2, 3, 4, 5)
    colors = np.array([[0.5, 1, 0.3, 0.3, 0.3], [1, 0.5, 0.1, 0.2, 0.6]], np.float32)
    first, second = adjust_colors(images, colors)
    mean = images[0].mean((1, 2), keepdim=True)
    torch.testing.assert_close(first, mean + 0.5 * (images[0] - mean) + 0.3)
    lighter = images[1] + torch.tensor([0.1, 0.2, 0.6])[:, None, None]
    torch.testing.assert_close(second, (lighter + lighter.mean(0)) / 2)


def test_adjust_colors_gray_image_has_no_saturation() -> None:
    images = torch.rand(2, 1, 4, 5)
    torch.testing.assert_close(adjust_colors(images, np.array([[1, 0.2, 0.3]] * 2, np.float32)), images + 0.3)


def test_cutmix_pastes_the_box_of_the_previous_image() -> None:
    images = torch.arange(3 * 2 * 4 * 8, dtype=torch.float32).view(3, 2, 4, 8)
    before = images.clone()
    lam = cutmix(images, np.array([0.25, 0.5, 0.5, 0.25], np.float32))  # rows 1 and 2, columns 4 and 5
    assert lam == 1 - 4 / 32
    inside = torch.zeros(4, 8, dtype=torch.bool)
    inside[1:3, 4:6] = True
    for number, previous in ((0, 2), (1, 0), (2, 1)):
        assert torch.equal(images[number], torch.where(inside, before[previous], before[number]))


def test_cutmix_empty_box_changes_nothing() -> None:
    images = torch.rand(3, 1, 4, 4)
    before = images.clone()
    assert cutmix(images, np.zeros(4, np.float32)) == 1
    assert torch.equal(images, before)


# All of an epoch


def test_epoch_augmentation_turned_off_draws_and_changes_nothing() -> None:
    found = EpochAugmentation(AugmentationConfig(), 0, 1, (5, 4, 4, 3), 2)
    assert (found.shifts, found.flips, found.crops, found.colors) == (None, None, None, None)
    images = torch.rand(5, 3, 4, 4)
    assert found.apply(images, np.arange(5), 1) is images
    before = images.clone()
    assert found.mix(images, 1, 0) == 1
    assert torch.equal(images, before)


def test_epoch_augmentation_uses_the_random_parameters_of_its_epoch() -> None:
    config = AugmentationConfig(
        max_shift=2, min_crop_area=0.5, color_jitter=0.3, horizontal_flip="always", cutmix=1, cutmix_until=0.5
    )
    found = EpochAugmentation(config, 7, 3, (6, 4, 4, 3), 2)
    assert np.array_equal(np.asarray(found.shifts), epoch_shifts(7, 3, 6, 2))
    assert np.array_equal(np.asarray(found.flips), epoch_flips(7, 3, 6))
    images, draws = torch.rand(2, 3, 4, 4), np.array([4, 1])
    cropped = crop_and_resize(images, epoch_crops(7, 3, 6, 0.5)[draws], 0.5)
    assert torch.equal(found.apply(images, draws, 0.5), adjust_colors(cropped, epoch_colors(7, 3, 6, 3, 0.3)[draws]))
    mixed, expected = images.clone(), images.clone()
    assert found.mix(mixed, 1, 0.49) == cutmix(expected, cutmix_boxes(7, 3, 2, 1)[1]) < 1
    assert torch.equal(mixed, expected)
    assert found.mix(mixed, 1, 0.5) == 1
    assert torch.equal(mixed, expected)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (RECIPES["article"], []),
        (RECIPES["default"], ["random shifts of up to 1 pixel"]),
        (
            VARIANTS["color"]["best"].override(horizontal_flip="always"),
            [
                "random shifts of up to 2 pixels",
                "horizontal flips",
                "images at 62.5 % of their size until 30 % of training",
                "images at 75 % of their size until 60 % of training",
            ],
        ),
        (
            VARIANTS["images"]["default"].override(progressive_resizing=()),
            [
                "random crops of at least 25 % of the area",
                "contrast, brightness and saturation jitter of up to 30 %",
                "CutMix in 70 % of the batches until 80 % of training",
            ],
        ),
    ],
    ids=["article", "default", "color", "images"],
)
def test_describe_has_one_phrase_per_augmentation(recipe: Recipe, expected: list[str]) -> None:
    assert list(describe_augmentation(recipe)) == expected
