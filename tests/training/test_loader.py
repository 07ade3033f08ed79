"""CutMix: parts of other images in the images of a batch. The rest of `batches` is tested beside the loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from convscope.data.dataset import Dataset
from convscope.data.load import load_data
from convscope.images.preprocessing import Preprocessing
from convscope.training.augmentation import epoch_colors, epoch_order, epoch_patches
from convscope.training.loader import Batch, batches, colored, patched
from convscope.training.recipes import RECIPES, Recipe
from convscope.training.state import Course

PLAIN = RECIPES["default"].model_copy(
    update={"epochs": 4, "least_steps": 0, "flip": "never", "shift_pixels": 0, "balance": 0}
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def test_patches_lie_inside_and_are_of_every_size() -> None:
    patches = epoch_patches(0, 1, 20_000, 0.6)
    area = patches[:, 2:].prod(axis=1)
    assert (patches[:, 2] == patches[:, 3]).all()
    assert (patches >= 0).all()
    assert (patches[:, :2] + patches[:, 2:] <= 1 + 1e-6).all()
    assert (area > 0).mean() == pytest.approx(0.6, abs=0.02)
    assert np.histogram(area[area > 0], bins=4, range=(0, 1))[0] == pytest.approx(3000, rel=0.08)
    share = patches[area > 0, :2] / (1 - patches[area > 0, 2:])
    np.testing.assert_allclose(share.mean(axis=0), 0.5, atol=0.01)
    assert np.array_equal(patches, epoch_patches(0, 1, 20_000, 0.6))
    assert not np.array_equal(patches, epoch_patches(0, 2, 20_000, 0.6))
    assert not epoch_patches(0, 1, 100, 0)[:, 2:].any()


def test_a_patch_is_of_the_image_before() -> None:
    images = torch.arange(3 * 2 * 4 * 8, dtype=torch.float32).view(3, 2, 4, 8)
    before = images.clone()
    own = patched(images, np.array([0.25, 0.5, 0.5, 0.25], np.float32))  # rows 1 and 2, columns 4 and 5
    assert own == 1 - 4 / 32
    inside = torch.zeros(4, 8, dtype=torch.bool)
    inside[1:3, 4:6] = True
    for number, other in ((0, 2), (1, 0), (2, 1)):
        assert torch.equal(images[number], torch.where(inside, before[other], before[number]))


def test_without_a_patch_an_image_is_all_its_own() -> None:
    images = torch.rand(3, 1, 4, 4)
    before = images.clone()
    assert patched(images, np.zeros(4, np.float32)) == 1
    assert torch.equal(images, before)


def test_the_loss_is_shared_as_the_image_is() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3, requires_grad=True), torch.tensor([0, 1, 2, 2, 1])
    others = torch.tensor([1, 0, 1, 2, 2])
    loss, right = Batch(torch.empty(0), labels, own=0.7).loss(logits, 0.1)
    expected = 0.7 * functional.cross_entropy(logits, labels, label_smoothing=0.1) + 0.3 * functional.cross_entropy(
        logits, others, label_smoothing=0.1
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert right == int((logits.argmax(1) == labels).sum())
    loss.backward()  # type: ignore[no-untyped-call]
    ours, logits.grad = logits.grad, None
    expected.backward()  # type: ignore[no-untyped-call]
    assert ours is not None
    assert logits.grad is not None
    torch.testing.assert_close(ours, logits.grad)


def test_colors_change_contrast_then_brightness_then_saturation() -> None:
    images = torch.rand(2, 3, 4, 5)
    colors = np.array([[0.5, 1, 0.3, 0.3, 0.3], [1, 0.5, 0.1, 0.2, 0.6]], np.float32)
    first, second = colored(images, colors)
    mean = images[0].mean((1, 2), keepdim=True)
    torch.testing.assert_close(first, mean + 0.5 * (images[0] - mean) + 0.3)
    lighter = images[1] + torch.tensor([0.1, 0.2, 0.6])[:, None, None]
    torch.testing.assert_close(second, (lighter + lighter.mean(0)) / 2)


def test_a_gray_image_has_no_saturation() -> None:
    images = torch.rand(2, 1, 4, 5)
    torch.testing.assert_close(colored(images, np.array([[1, 0.2, 0.3]] * 2, np.float32)), images + 0.3)


def test_a_recipe_with_jitter_changes_colors_and_nothing_else(digits: Dataset) -> None:
    preprocessing = Preprocessing.standardized(digits.train.images)

    def made(recipe: Recipe) -> Batch:
        return next(batches(digits.train, preprocessing, Course(recipe, 4, recipe.batches(len(digits.train))), 3))

    plain, changed = made(PLAIN), made(PLAIN.model_copy(update={"jitter": 0.3}))
    expected = epoch_colors(3, 1, len(digits.train), 1, 0.3)[epoch_order(3, 1, len(digits.train))[: len(plain.labels)]]
    assert torch.equal(changed.labels, plain.labels)
    assert torch.equal(changed.images, colored(plain.images, expected))


@pytest.mark.parametrize("change", [{"crop_area": 0.3}, {"jitter": 0.3}], ids=str)
def test_an_image_that_comes_twice_is_changed_in_two_ways(digits: Dataset, change: dict[str, float]) -> None:
    rare = np.flatnonzero(digits.train.labels == 1)[:1]
    train = digits.train.take(np.concatenate([np.flatnonzero(digits.train.labels == 0)[:40], rare]))
    recipe = PLAIN.model_copy(update={"balance": 1, "batch": 64, **change})
    (batch,) = batches(train, Preprocessing.plain(train.images), Course(recipe, 1, 1), 0)
    copies = batch.images[batch.labels == 1]
    assert len(copies) >= 15
    assert len(torch.unique(copies, dim=0)) == len(copies)


def test_more_epochs_see_what_the_last_of_all_epochs_would(digits: Dataset) -> None:
    recipe = PLAIN.model_copy(update={"crop_area": 0.3, "flip": "always", "batch": 512})
    preprocessing = Preprocessing.plain(digits.train.images)

    def made(before: int, epoch: int) -> Batch:
        course = Course(recipe, 4 - before, recipe.batches(len(digits.train)), before=before)
        course.new_epoch(epoch)
        course.step = (epoch - 1) * course.batches
        return next(batches(digits.train, preprocessing, course, 0))

    assert torch.equal(made(3, 1).images, made(0, 4).images)
    assert not torch.equal(made(3, 1).images, made(0, 1).images)


def test_patches_end_before_the_training_does(digits: Dataset) -> None:
    """Until three quarters of it; then the batches are those without."""
    preprocessing = Preprocessing.plain(digits.train.images)

    def made(recipe: Recipe, epoch: int) -> list[Batch]:
        course = Course(recipe, 4, recipe.batches(len(digits.train)))
        course.new_epoch(epoch)
        course.step = (epoch - 1) * course.batches
        return list(batches(digits.train, preprocessing, course, 0))

    mixing = PLAIN.model_copy(update={"cutmix": 1, "cutmix_until": 0.75})
    for epoch in (1, 3, 4):
        for batch, plain in zip(made(mixing, epoch), made(PLAIN, epoch), strict=True):
            assert torch.equal(batch.labels, plain.labels)
            assert plain.own == 1
            assert torch.equal(batch.images, plain.images) == (batch.own == 1)
    assert all(batch.own == 1 for batch in made(mixing, 4))
    assert sum(batch.own < 1 for batch in made(mixing, 3)) >= 10
