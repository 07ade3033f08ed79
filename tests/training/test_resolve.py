"""From a recipe's `auto` to decisions, with their reasons."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from convscope.data.dataset import Dataset, Split
from convscope.data.load import load_data
from convscope.errors import DataError
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.training.probes.flip_probe import FlipProbe
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES
from convscope.training.resolve import TrainData, keep_usable_resizing, mean_relative_cost, resolve, train_val_split

FLATTEN = parse_network("flatten", (8, 8, 1), 10)
POOLED = parse_network("conv 4 3 pad same, globalavg", (8, 8, 1), 10)
PLAIN = RECIPES["default"].override(horizontal_flip="never", class_balance=0)
RESIZING = ((0.5, 0.5),)
Probe = Callable[..., FlipProbe]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def data_of(dataset: Dataset, flips_are_safe: bool | None = None) -> TrainData:
    return TrainData(dataset, dataset.train, dataset.test, flips_are_safe)


def mock_probe(monkeypatch: pytest.MonkeyPatch, probe: Probe) -> None:
    monkeypatch.setattr("convscope.training.probes.flip_probe.probe_flips", probe)


def unexpected_probe(_: Split, __: int) -> FlipProbe:
    pytest.fail("nothing is to be measured")


# Flips


@pytest.mark.parametrize(
    ("flip", "flips_are_safe", "expected"),
    [
        ("auto", True, "always"),
        ("auto", False, "never"),
        ("always", False, "always"),
        ("always", None, "always"),
        ("never", True, "never"),
        ("never", None, "never"),
    ],
)
def test_resolve_flips_known_or_chosen_are_not_measured(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, flip: str, flips_are_safe: bool | None, expected: str
) -> None:
    mock_probe(monkeypatch, unexpected_probe)
    recipe, reasons = resolve(PLAIN.override(horizontal_flip=flip), data_of(digits, flips_are_safe), FLATTEN)
    assert recipe == PLAIN.override(horizontal_flip=expected)
    assert reasons == {}


@pytest.mark.parametrize(("flips", "expected"), [(True, "always"), (False, "never")])
def test_resolve_flips_unknown_are_measured_on_the_training_images(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, flips: bool, expected: str
) -> None:
    probe = FlipProbe(300, 0.9, 0.8, flips=flips)
    probed: list[tuple[Split, int]] = []

    def measure(train: Split, classes: int, seconds: float) -> FlipProbe:
        assert seconds == math.inf
        probed.append((train, classes))
        return probe

    mock_probe(monkeypatch, measure)
    recipe, reasons = resolve(PLAIN.override(horizontal_flip="auto"), data_of(digits), FLATTEN)
    assert recipe.augmentation.horizontal_flip == expected
    assert reasons == {"horizontal_flip": probe.reason}
    assert probed == [(digits.train, 10)]


# Balance


def unequal(digits: Dataset, rare: int) -> Dataset:
    """Return digits with 27 training images per class, of threes only `rare`."""
    indices = [np.flatnonzero(digits.train.labels == label)[: rare if label == 3 else 27] for label in range(10)]
    return replace(digits, train=digits.train.take(np.concatenate(indices)))


@pytest.mark.parametrize(
    ("rare", "balance", "expected", "reason"),
    [
        (9, 0.5, 0, None),  # a third is still balanced
        (8, 0.5, 0.5, "classes have 8 to 27 images: those of the smallest are drawn 1.8 times as often"),
        (8, 1, 1, "classes have 8 to 27 images: those of the smallest are drawn 3.4 times as often"),
        (8, 0, 0, None),
    ],
)
def test_resolve_class_balance_is_kept_for_unequal_classes_only(
    digits: Dataset, rare: int, balance: float, expected: float, reason: str | None
) -> None:
    recipe, reasons = resolve(PLAIN.override(class_balance=balance), data_of(unequal(digits, rare)), FLATTEN)
    assert recipe == PLAIN.override(class_balance=expected)
    assert reasons == ({"class_balance": reason} if reason else {})


def test_resolve_class_without_images_does_not_count(digits: Dataset) -> None:
    """A class may have validation images only."""
    train = digits.train.take(digits.train.labels != 3)
    recipe, reasons = resolve(PLAIN.override(class_balance=0.5), TrainData(digits, train, digits.test, None), FLATTEN)
    assert (recipe.class_balance, reasons) == (0, {})


# Progressive resizing


@pytest.mark.parametrize(("network", "expected"), [(POOLED, RESIZING), (FLATTEN, ())], ids=["globalavg", "flatten"])
def test_resolve_progressive_resizing_is_dropped_for_networks_of_one_image_size(
    digits: Dataset, network: Network, expected: tuple[tuple[float, float], ...]
) -> None:
    resolved, reasons = resolve(PLAIN.override(progressive_resizing=RESIZING), data_of(digits), network)
    assert resolved == PLAIN.override(progressive_resizing=expected)
    assert reasons == {}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_resolve_twice_changes_nothing_more(digits: Dataset, recipe: Recipe) -> None:
    data = data_of(unequal(digits, 8), flips_are_safe=True)
    resolved, _ = resolve(recipe, data, FLATTEN)
    assert resolve(resolved, data, FLATTEN)[0] == resolved
    assert resolved.augmentation.horizontal_flip != "auto"


def test_resizable_recipe_without_resizing_is_returned_as_it_is() -> None:
    assert keep_usable_resizing(PLAIN, FLATTEN) is PLAIN
    assert keep_usable_resizing(PLAIN.override(progressive_resizing=RESIZING), FLATTEN) == PLAIN


def test_mean_relative_cost_is_the_mean_of_the_epochs_multiply_adds() -> None:
    small = parse_network("conv 4 3 pad same, globalavg", (4, 4, 1), 10).multiply_adds / POOLED.multiply_adds
    recipe = PLAIN.override(progressive_resizing=RESIZING)
    assert mean_relative_cost(POOLED, PLAIN, 4) == 1
    assert mean_relative_cost(POOLED, recipe, 4) == pytest.approx((1 + small) / 2)
    assert mean_relative_cost(POOLED, recipe, 1) == 1  # the last epoch has full-size images


# Validation images


def test_train_val_split_article_recipe_validates_on_test(digits: Dataset) -> None:
    train, validation = train_val_split(digits, RECIPES["article"], 0)
    assert (train, validation) == (digits.train, digits.test)


def test_train_val_split_own_validation_images_are_used(digits: Dataset) -> None:
    own = digits.test.take(np.arange(50))
    dataset = replace(digits, validation=own)
    assert train_val_split(dataset, RECIPES["default"], 0) == (digits.train, own)
    assert train_val_split(dataset, RECIPES["article"], 0) == (digits.train, digits.test)


def test_train_val_split_holds_out_the_recipes_fraction_by_seed(digits: Dataset) -> None:
    train, validation = train_val_split(digits, RECIPES["default"], 0)
    assert (len(train), len(validation)) == (1293, 145)
    together = np.concatenate([train.images, validation.images])
    assert sorted(map(bytes, together)) == sorted(map(bytes, digits.train.images))
    again, other = (train_val_split(digits, RECIPES["default"], seed)[1] for seed in (0, 1))
    assert np.array_equal(again.images, validation.images)
    assert not np.array_equal(other.images, validation.images)


def test_train_val_split_nothing_to_hold_out_raises() -> None:
    images = np.zeros((2, 8, 8, 1), np.uint8)
    dataset = Dataset("two", ("a", "b"), Split(images, np.arange(2)), Split(images, np.arange(2)), "here")
    with pytest.raises(DataError, match="nothing can be held out"):
        train_val_split(dataset, RECIPES["default"], 0)
