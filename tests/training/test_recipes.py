"""Recipes: what they say, and order and augmentation as pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from convscope.data.cache.input_size import SEEN
from convscope.errors import UsageError
from convscope.network.build import parse_network
from convscope.network.presets import PRESETS
from convscope.training.recipes import (
    RECIPES,
    VARIANTS,
    Kind,
    Recipe,
    changed,
    recipe_for,
    recipe_named,
)

SGD = {"name": "plain", "learning_rate": 0.1, "momentum": 0.9, "batch": 10, "epochs": 3}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**SGD, **changes})


def test_a13_the_article_recipe_is_exactly_the_articles() -> None:
    assert RECIPES["article"].model_dump() == {
        "name": "article",
        "model": "article",
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "rest_learning_rate": 0.1,  # and of muon alone
        "bias_learning_rate": None,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0,
        "matrix_decay": 0,
        "fixed_norms": False,
        "classifier_share": 1,
        "schedule": "constant",
        "warmup_share": 0.2,  # without meaning at a constant rate
        "batch": 128,
        "epochs": 10,
        "least_steps": 0,
        "label_smoothing": 0,
        "shift_pixels": 0,
        "crop_area": 1,
        "jitter": 0,
        "flip": "never",
        "balance": 0,
        "cutmix": 0,
        "cutmix_until": 0.8,
        "growth": (),
        "tta": False,
        "precision": "float32",
        "standardize": False,
        "validation_share": 0,
        "select": "last",
        "target": None,
        "patience": None,
    }
    assert RECIPES["article"].planned_epochs(60_000) == RECIPES["article"].planned_epochs(1) == 10
    assert {name for name, recipe in RECIPES.items() if recipe.validates_on_test} == {"article"}


@pytest.mark.parametrize("warmup", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("steps", [1, 7, 600])
def test_one_cycle_is_a_triangle_from_zero_to_the_rate_and_back(steps: int, warmup: float) -> None:
    chosen = recipe(schedule="one-cycle", learning_rate=0.3, warmup_share=warmup)
    middles = (np.arange(steps) + 0.5) / steps
    expected = np.interp(middles, [0, warmup, 1], [0, 0.3, 0])
    assert [chosen.learning_rate_at(middle) for middle in middles] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 7, 600])
def test_without_a_warm_up_one_cycle_only_falls(steps: int) -> None:
    chosen = recipe(schedule="one-cycle", learning_rate=0.3, warmup_share=0)
    rates = [chosen.learning_rate_at((step + 0.5) / steps) for step in range(steps)]
    assert rates == pytest.approx(0.3 * (1 - (np.arange(steps) + 0.5) / steps), rel=1e-12)


def test_a_constant_rate_stays() -> None:
    assert {recipe().learning_rate_at(step / 50) for step in range(50)} == {0.1}


@pytest.mark.parametrize(
    ("images", "least_steps", "expected"),
    [(100, 0, 3), (100, 30, 3), (100, 31, 4), (101, 33, 4), (101, 34, 4), (1, 100, 100), (10**6, 100, 3)],
)
def test_so_many_epochs_that_there_are_enough_steps(images: int, least_steps: int, expected: int) -> None:
    assert recipe(least_steps=least_steps).planned_epochs(images) == expected


GROWTH = ((0.3, 0.625), (0.6, 0.75))


@pytest.mark.parametrize(
    ("growth", "epochs", "expected"),
    [
        ((), 3, [1, 1, 1]),
        (GROWTH, 10, [0.625] * 3 + [0.75] * 3 + [1] * 4),  # at a border the next size begins
        (GROWTH, 5, [0.625] * 2 + [0.75] + [1] * 2),
        (GROWTH, 12, [0.625] * 4 + [0.75] * 4 + [1] * 4),
        (((0.1 + 0.2, 0.5),), 10, [0.5] * 3 + [1] * 7),  # not exactly 0.3, but meant so
        (((1, 0.5),), 4, [0.5] * 3 + [1]),  # the last epoch has whole images
        (GROWTH, 1, [1]),
    ],
)
def test_images_grow_with_the_share_of_the_training_that_is_done(
    growth: tuple[tuple[float, float], ...], epochs: int, expected: list[float]
) -> None:
    chosen = recipe(growth=growth)
    assert [chosen.size_share(epoch, epochs) for epoch in range(1, epochs + 1)] == expected


@pytest.mark.parametrize("bias", [None, 50.0])
def test_a_slower_recipe_has_all_its_rates_lower_and_nothing_else_changed(bias: float | None) -> None:
    before = recipe(optimizer="muon", rest_learning_rate=0.02, bias_learning_rate=bias, growth=GROWTH)
    changes = {"learning_rate": 0.1 / 10, "rest_learning_rate": 0.02 / 10, "bias_learning_rate": bias and 5.0}
    assert before.slower(10).model_dump() == {**before.model_dump(), **changes}


def test_color_and_pictures_have_recipes_of_their_own() -> None:
    for name in RECIPES:
        assert recipe_named(name) is recipe_named(name, "gray") is RECIPES[name]
        for kind, variants in VARIANTS.items():
            assert recipe_named(name, kind) is variants.get(name, RECIPES[name])
            assert recipe_named("article", kind) is RECIPES["article"]
            assert variants.keys() < RECIPES.keys()
    assert recipe_named("best", "color") is not RECIPES["best"]
    assert [recipe.model for recipe in VARIANTS["images"].values()] == ["airbench-deep"] * 3
    assert {recipe.model for recipe in VARIANTS["small images"].values()} == {"airbench"}


def test_training_sees_pictures_as_large_as_the_input_was_chosen_for() -> None:
    for chosen in VARIANTS["images"].values():
        sizes = [chosen.size_at(done) for done in (0, 0.4, 0.7, 0.94, 0.96)]
        assert sizes == sorted(sizes)
        assert sizes[-2:] == [SEEN, 1]


def test_who_asks_for_a_size_trains_at_that_size() -> None:
    for name, chosen in VARIANTS["sized images"].items():
        sizes = [chosen.size_at(done) for done in (0, 0.29, 0.31, 0.59, 0.61, 1)]
        assert sizes == [0.625, 0.625, 0.8, 0.8, 1, 1]
        assert chosen == VARIANTS["images"][name].model_copy(update={"growth": chosen.growth})


@pytest.mark.parametrize("name", VARIANTS["color"])
def test_a_recipe_for_color_is_sound_and_tells_itself_from_the_other_of_its_name(name: str) -> None:
    chosen = VARIANTS["color"][name]
    assert chosen.name == f"{name} for color"
    assert not chosen.validates_on_test
    assert Recipe.model_validate(chosen.model_dump()) == chosen  # model_copy checks nothing
    assert parse_network(PRESETS[chosen.model], (32, 32, 3), 10)
    assert all(0 < size < 1 for _, size in chosen.growth)
    assert sorted(chosen.growth) == list(chosen.growth)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0.0}, "^--learning-rate 0.0 is not possible: input should be greater than 0$"),
        ({"learning_rate": -1.0}, "^--learning-rate -1.0 is not possible"),
        ({"learning_rate": float("nan")}, "^--learning-rate nan is not possible: input should be a finite number$"),
        ({"learning_rate": float("inf")}, "^--learning-rate inf is not possible: input should be a finite number$"),
        ({"batch": 0}, "^--batch 0 is not possible: input should be greater than or equal to 1$"),
        ({"epochs": 0}, "^--epochs 0 is not possible"),
        ({"epochs": 1.5}, "^--epochs 1.5 is not possible: .*integer"),
    ],
)
def test_a_value_that_a_recipe_cannot_have_is_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changed(RECIPES["default"], **values)


def test_nothing_is_selected_on_the_test_set() -> None:
    assert recipe(validation_share=0, select="last").validates_on_test
    with pytest.raises(ValidationError, match="without validation_share nothing can be selected"):
        recipe(validation_share=0)


def test_changes_are_made_and_the_rest_stays() -> None:
    before = RECIPES["default"]
    after = changed(before, batch=7, learning_rate=None)
    assert after.model_dump() == {**before.model_dump(), "batch": 7}
    assert changed(before, epochs=4).planned_epochs(10**6) == changed(before, epochs=4).planned_epochs(1) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("articel", "^unknown recipe 'articel': did you mean 'article'\\? recipes are article, default, fast, best$"),
        ("slow", "^unknown recipe 'slow': recipes are article, default, fast, best$"),
    ],
)
def test_an_unknown_recipe_is_answered_with_the_known_ones(name: str, message: str) -> None:
    for kind in VARIANTS:
        with pytest.raises(UsageError, match=message):
            recipe_named(name, kind)


@pytest.mark.parametrize("growth", [((0.6, 0.75), (0.3, 0.625)), ((0.5, 0.0),), ((-0.1, 0.5),), ((0.5, 1.5),)])
def test_images_grow_in_order_and_by_shares(growth: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValidationError, match="growth"):
        recipe(growth=growth)


@pytest.mark.parametrize(
    ("kind", "pixels", "seconds", "cores", "expected"),
    [
        ("gray", 60_000 * 28 * 28, 20, 4, "best"),
        ("gray", 60_000 * 28 * 28, 10, 4, "default"),
        ("gray", 60_000 * 28 * 28, 2, 2, "fast"),
        ("color", 50_000 * 32 * 32 * 3, 20, 4, "best"),
        ("images", 3_500 * 80 * 80 * 3, 50, 4, "fast"),
        ("images", 3_500 * 80 * 80 * 3, 170, 4, "default"),
        ("images", 3_500 * 80 * 80 * 3, 590, 4, "best"),
        ("sized images", 3_500 * 64 * 64 * 3, 170, 4, "default"),
        ("sized images", 3_500 * 80 * 80 * 3, 590, 4, "best"),
        ("sized images", 3_500 * 80 * 80 * 3, 440, 4, "default"),
        ("small images", 10**9, 1, 1, "fast"),
    ],
)
def test_the_recipe_for_a_budget_depends_on_work_and_time(
    kind: Kind, pixels: int, seconds: float, cores: int, expected: str
) -> None:
    assert recipe_for(seconds * cores, kind, pixels) == expected
    assert expected in {*VARIANTS[kind], *RECIPES}
