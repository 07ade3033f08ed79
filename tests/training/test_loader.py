"""The batches of an epoch: order, augmentation, CutMix, and starting in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from convscope.backends.native.step import gather_batch
from convscope.backends.pytorch.models import as_batch
from convscope.data.dataset import Dataset, Split
from convscope.data.load import load_data
from convscope.images.preprocessing import Preprocessing
from convscope.training.augmentation import (
    adjust_colors,
    crop_and_resize,
    epoch_colors,
    epoch_crops,
    epoch_order,
    resize,
)
from convscope.training.config import Augment, TrainConfig
from convscope.training.loader import Batch, batches
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES
from helpers.training import state_at

PLAIN = RECIPES["default"].override(epochs=4, horizontal_flip="never", max_shift=0, class_balance=0)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def epoch_batches(train: Split, config: TrainConfig, epoch: int, first: int = 0) -> Iterator[Batch]:
    """Yield the batches of an epoch from number `first` on."""
    return batches(train, config, state_at(config.recipe, len(train), epoch, first, config.initial_epoch))


def plain_batches(train: Split, recipe: Recipe, epoch: int = 1, **options: Any) -> list[Batch]:
    """Return the batches of an epoch, their pixels divided by 255."""
    return list(epoch_batches(train, TrainConfig(Preprocessing.plain(train.images), recipe, **options), epoch))


def pairs(found: Iterator[Batch] | list[Batch]) -> list[tuple[Tensor, Tensor]]:
    """Return images and labels of the batches."""
    return [(batch.images, batch.labels) for batch in found]


# Order


@pytest.mark.slow
def test_batches_article_recipe_are_the_images_by_255_in_the_epochs_order_a11(digits: Dataset) -> None:
    parts = pairs(plain_batches(digits.train, RECIPES["article"], 2, seed=3))
    images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    order = epoch_order(3, 2, len(digits.train))
    assert [len(part) for _, part in parts] == [128] * 11 + [30]
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    expected = digits.train.images[order].astype(np.float32) / np.float32(255)
    assert images.permute(0, 2, 3, 1).numpy() == pytest.approx(expected, rel=1e-6)
    assert labels.tolist() == digits.train.labels[order].tolist()


def test_batches_augmentation_of_an_image_is_independent_of_the_batch_size(digits: Dataset) -> None:
    preprocessing = Preprocessing.standardized(digits.train.images)
    found = []
    for batch_size in (64, 1000):
        config = TrainConfig(preprocessing, RECIPES["default"].override(batch_size=batch_size, max_shift=2))
        images = torch.cat([batch.images for batch in epoch_batches(digits.train, config, 1)])
        assert not torch.equal(images, as_batch(preprocessing.normalize(digits.train.images[epoch_order(0, 1, 1438)])))
        found.append(images)
    assert torch.equal(*found)


@pytest.mark.parametrize("first", [0, 1, 7, 11, 12])
def test_batches_from_the_middle_equal_those_of_the_whole_epoch_and_skip_the_work_before(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    gathered: list[int] = []

    def gather(*arguments: Any) -> Any:
        gathered.append(len(arguments[1]))
        return gather_batch(*arguments)

    monkeypatch.setattr("convscope.training.loader.gather_batch", gather)
    recipe = RECIPES["default"].override(horizontal_flip="always")
    config = TrainConfig(Preprocessing.plain(digits.train.images), recipe)
    whole = pairs(epoch_batches(digits.train, config, 3))
    gathered.clear()
    rest = pairs(epoch_batches(digits.train, config, 3, first))
    assert gathered == [len(labels) for _, labels in whole[first:]]
    for one, other in zip(whole[first:], rest, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("augment", [None, lambda images, random: images // 2 + random.integers(0, 99, dtype=np.uint8)])
def test_batches_initial_epoch_gives_the_last_epochs_of_a_longer_training(
    digits: Dataset, augment: Augment | None
) -> None:
    def images(initial_epoch: int, epoch: int) -> Tensor:
        recipe = PLAIN.override(min_crop_area=0.3, horizontal_flip="always", batch_size=512, epochs=4 - initial_epoch)
        found = plain_batches(digits.train, recipe, epoch, initial_epoch=initial_epoch, augment=augment)
        return found[0].images

    assert torch.equal(images(3, 1), images(0, 4))
    assert not torch.equal(images(3, 1), images(0, 1))


# Augmentation


def test_batches_progressive_resizing_gives_the_same_images_smaller(digits: Dataset) -> None:
    """Their order and labels stay the same."""
    plain = RECIPES["default"].override(epochs=4, horizontal_flip="never")
    resized = plain.override(progressive_resizing=((0.25, 0.5), (0.75, 0.75)))
    for epoch, side in ((1, 4), (2, 6), (3, 6), (4, 8)):
        small, full = (pairs(plain_batches(digits.train, recipe, epoch)) for recipe in (resized, plain))
        assert {images.shape[1:] for images, _ in small} == {(1, side, side)}
        for (images, labels), (expected, expected_labels) in zip(small, full, strict=True):
            assert torch.equal(images, resize(expected, side / 8))
            assert torch.equal(labels, expected_labels)


def test_batches_crops_change_the_images_and_not_the_labels(digits: Dataset) -> None:
    few = digits.train.take(np.arange(200))
    preprocessing = Preprocessing.standardized(few.images)
    plain = RECIPES["article"].override(batch_size=7, epochs=2, progressive_resizing=((0.5, 0.5),))
    crops, order = epoch_crops(3, 1, len(few), 0.5), epoch_order(3, 1, len(few))
    cropped, full = (
        pairs(epoch_batches(few, TrainConfig(preprocessing, recipe, seed=3), 1))
        for recipe in (plain.override(min_crop_area=0.5), plain.override(progressive_resizing=()))
    )
    for k, ((part, labels), (whole, expected_labels)) in enumerate(zip(cropped, full, strict=True)):
        assert torch.equal(labels, expected_labels)
        assert torch.equal(part, crop_and_resize(whole, crops[order[7 * k : 7 * k + 7]], 0.5))


def test_batches_color_jitter_changes_the_images_and_not_the_labels(digits: Dataset) -> None:
    preprocessing = Preprocessing.standardized(digits.train.images)
    plain, jittered = (
        next(epoch_batches(digits.train, TrainConfig(preprocessing, recipe, seed=3), 1))
        for recipe in (PLAIN, PLAIN.override(color_jitter=0.3))
    )
    order = epoch_order(3, 1, len(digits.train))[: len(plain.labels)]
    assert torch.equal(jittered.labels, plain.labels)
    assert torch.equal(jittered.images, adjust_colors(plain.images, epoch_colors(3, 1, 1438, 1, 0.3)[order]))


@pytest.mark.parametrize("change", [{"min_crop_area": 0.3}, {"color_jitter": 0.3}], ids=str)
def test_batches_image_drawn_twice_is_augmented_in_two_ways(digits: Dataset, change: dict[str, float]) -> None:
    rare = np.flatnonzero(digits.train.labels == 1)[:1]
    train = digits.train.take(np.concatenate([np.flatnonzero(digits.train.labels == 0)[:40], rare]))
    (batch,) = plain_batches(train, PLAIN.override(class_balance=1, batch_size=64, epochs=1, **change))
    copies = batch.images[batch.labels == 1]
    assert len(copies) >= 15
    assert len(torch.unique(copies, dim=0)) == len(copies)


# CutMix


def test_batch_loss_weighs_both_labels_by_lam() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3, requires_grad=True), torch.tensor([0, 1, 2, 2, 1])
    previous = torch.tensor([1, 0, 1, 2, 2])
    loss, correct = Batch(torch.empty(0), labels, lam=0.7).loss(logits, 0.1)
    expected = 0.7 * functional.cross_entropy(logits, labels, label_smoothing=0.1) + 0.3 * functional.cross_entropy(
        logits, previous, label_smoothing=0.1
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert correct == int((logits.argmax(1) == labels).sum())
    loss.backward()  # type: ignore[no-untyped-call]
    gradient, logits.grad = logits.grad, None
    expected.backward()  # type: ignore[no-untyped-call]
    assert gradient is not None
    assert logits.grad is not None
    torch.testing.assert_close(gradient, logits.grad)


def test_batches_cutmix_ends_at_cutmix_until(digits: Dataset) -> None:
    """After three quarters of training, the batches are those without CutMix."""
    mixing = PLAIN.override(cutmix=1, cutmix_until=0.75)
    for epoch in (1, 3, 4):
        mixed, plain = (plain_batches(digits.train, recipe, epoch) for recipe in (mixing, PLAIN))
        for batch, expected in zip(mixed, plain, strict=True):
            assert torch.equal(batch.labels, expected.labels)
            assert expected.lam == 1
            assert torch.equal(batch.images, expected.images) == (batch.lam == 1)
    assert all(batch.lam == 1 for batch in plain_batches(digits.train, mixing, 4))
    assert sum(batch.lam < 1 for batch in plain_batches(digits.train, mixing, 3)) >= 10


# The user's own augmentation


def test_batches_own_augmentation_receives_the_pixels_of_each_batch(digits: Dataset) -> None:
    received: list[NDArray[np.uint8]] = []

    def invert(images: NDArray[np.uint8], _: np.random.Generator) -> NDArray[np.uint8]:
        received.append(images.copy())
        images[:] = 255 - images  # the data set itself must not change
        return images

    before = digits.train.images.copy()
    found, plain = (plain_batches(digits.train, PLAIN, augment=augment) for augment in (invert, None))
    assert np.array_equal(digits.train.images, before)
    order = epoch_order(0, 1, 1438)
    assert [len(images) for images in received] == [len(batch.labels) for batch in plain]
    assert np.array_equal(np.concatenate(received), digits.train.images[order])
    for batch, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(batch.images, 1 - expected.images)
        assert torch.equal(batch.labels, expected.labels)


def test_batches_own_augmentation_comes_before_flips_and_shifts(digits: Dataset) -> None:
    recipe = PLAIN.override(horizontal_flip="always", max_shift=1)
    found, plain = (
        plain_batches(digits.train, recipe, augment=augment) for augment in (lambda images, _: 255 - images, None)
    )
    for batch, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(batch.images, 1 - expected.images)  # reflected edges, too


def test_batches_own_augmentation_random_numbers_differ_by_batch_epoch_and_seed(digits: Dataset) -> None:
    numbers: list[int] = []

    def record(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        numbers.append(int(random.integers(2**60)))
        return images

    plain_batches(digits.train, PLAIN, 1, augment=record)
    first = numbers.copy()
    assert len(first) == 12
    plain_batches(digits.train, PLAIN, 2, augment=record)
    plain_batches(digits.train, PLAIN, 1, seed=1, augment=record)
    assert len(set(numbers)) == 36
    numbers.clear()
    config = TrainConfig(Preprocessing.plain(digits.train.images), PLAIN, augment=record)
    assert len(list(epoch_batches(digits.train, config, 1, 7))) == 5
    assert numbers == first[7:]
