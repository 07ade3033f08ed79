"""Recipes: their values, how they are changed, and which one a name or a budget stands for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from convscope.data.cache.input_size import SEEN_FRACTION
from convscope.errors import UsageError
from convscope.network.build import parse_network
from convscope.network.presets import PRESETS
from convscope.training.recipe import AugmentationConfig, OptimizerConfig, Recipe, SelectionConfig, StoppingConfig
from convscope.training.recipes import RECIPES, VARIANTS, Kind, recipe_for_budget, recipe_named
from convscope.training.schedule import ScheduleConfig

RESIZING = ((0.3, 0.625), (0.6, 0.75))


def plain_recipe(**changes: Any) -> Recipe:
    """Three epochs of batches of 10."""
    return Recipe(name="plain", batch_size=10, epochs=3).override(**changes)


# Values


def test_article_recipe_equals_the_article_a13() -> None:
    assert RECIPES["article"].model_dump() == {
        "name": "article",
        "model": "article",
        "epochs": 10,
        "min_steps": 0,
        "batch_size": 128,
        "label_smoothing": 0,
        "head_init_scale": 1,
        "class_balance": 0,
        "tta": False,
        "precision": "float32",
        "standardize": False,
        "optimizer": {
            "name": "sgd",
            "learning_rate": 0.01,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 0,
            "muon_weight_decay": 0,
            "sgd_lr": 0.1,  # used by muon only
            "norm_bias_lr": None,
            "freeze_norm_scale": False,
            "layer_decay": 1,
            "max_gradient_norm": None,
        },
        "schedule": {
            "name": "constant",
            "warmup_fraction": 0.2,  # unused with a constant learning rate
            "progressive_resizing": (),
        },
        "augmentation": {
            "max_shift": 0,
            "min_crop_area": 1,
            "color_jitter": 0,
            "horizontal_flip": "never",
            "cutmix": 0,
            "cutmix_until": 0.8,
        },
        "selection": {"weights": "last", "validation_fraction": 0},
        "stopping": {"target_accuracy": None, "patience": None},
    }
    assert RECIPES["article"].planned_epochs(60_000) == RECIPES["article"].planned_epochs(1) == 10
    assert {name for name, recipe in RECIPES.items() if recipe.validates_on_test} == {"article"}


def test_recipe_without_arguments_is_a_valid_recipe_with_the_defaults() -> None:
    recipe = Recipe()
    assert (recipe.name, recipe.model, recipe.epochs, recipe.min_steps, recipe.batch_size) == (
        "custom", "small", 10, 0, 128,
    )  # fmt: skip
    assert recipe.optimizer == OptimizerConfig(
        name="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    assert recipe.schedule == ScheduleConfig(name="one-cycle", warmup_fraction=0.2)
    assert recipe.augmentation == AugmentationConfig(max_shift=0, min_crop_area=1, horizontal_flip="never")
    assert recipe.selection == SelectionConfig(weights="best", validation_fraction=0.1)
    assert recipe.stopping == StoppingConfig(target_accuracy=None, patience=None)
    assert (recipe.precision, recipe.standardize, recipe.tta) == ("auto", True, False)
    assert (recipe.label_smoothing, recipe.head_init_scale, recipe.class_balance) == (0, 1, 0)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *(r for v in VARIANTS.values() for r in v.values())], ids=str)
def test_recipe_of_any_name_survives_json(recipe: Recipe) -> None:
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_recipe_learning_rate_at_follows_schedule_and_peak() -> None:
    assert plain_recipe(learning_rate=0.3).learning_rate_at(0.6) == pytest.approx(0.15)
    assert plain_recipe(learning_rate=0.3, schedule={"name": "constant"}).learning_rate_at(0.6) == 0.3


@pytest.mark.parametrize(
    ("images", "min_steps", "expected"),
    [(100, 0, 3), (100, 30, 3), (100, 31, 4), (101, 33, 4), (101, 34, 4), (1, 100, 100), (10**6, 100, 3)],
)
def test_planned_epochs_are_enough_for_min_steps(images: int, min_steps: int, expected: int) -> None:
    assert plain_recipe(min_steps=min_steps).planned_epochs(images) == expected


@pytest.mark.parametrize("norm_bias_lr", [None, 50.0])
def test_scale_learning_rates_divides_all_rates_and_changes_nothing_else(norm_bias_lr: float | None) -> None:
    recipe = plain_recipe(
        optimizer={"name": "muon"}, sgd_lr=0.02, norm_bias_lr=norm_bias_lr, progressive_resizing=RESIZING, min_steps=50
    )
    rates = {"learning_rate": 0.1 / 10, "sgd_lr": 0.02 / 10, "norm_bias_lr": norm_bias_lr and 5.0}
    before = recipe.model_dump()
    assert recipe.divide_learning_rates(10).model_dump() == {**before, "optimizer": {**before["optimizer"], **rates}}


def test_selection_config_never_selects_on_the_test_set() -> None:
    assert plain_recipe(validation_fraction=0, weights="last").validates_on_test
    assert plain_recipe(validation_fraction=0, weights="last").validation_name == "test"
    assert plain_recipe().validation_name == "validation"
    with pytest.raises(ValidationError, match="without a validation_fraction nothing can be selected"):
        SelectionConfig(validation_fraction=0)
    with pytest.raises(UsageError, match="without a validation_fraction nothing can be selected"):
        plain_recipe(validation_fraction=0)


# Changes


def test_override_changes_the_named_fields_and_nothing_else() -> None:
    before = RECIPES["default"]
    after = before.override(batch_size=7, learning_rate=None)
    assert after.model_dump() == {**before.model_dump(), "batch_size": 7}
    assert before.override() == before
    assert before.override(epochs=None) == before


def test_override_epochs_is_exact_unless_min_steps_is_given() -> None:
    exact = RECIPES["default"].override(epochs=4)
    assert exact.planned_epochs(10**6) == exact.planned_epochs(1) == 4
    assert RECIPES["default"].override(epochs=4, min_steps=100).planned_epochs(1) == 100


@pytest.mark.parametrize(
    ("field", "value", "group"),
    [
        ("learning_rate", 0.5, "optimizer"),
        ("sgd_lr", 0.5, "optimizer"),
        ("warmup_fraction", 0.5, "schedule"),
        ("progressive_resizing", RESIZING, "schedule"),
        ("max_shift", 3, "augmentation"),
        ("horizontal_flip", "always", "augmentation"),
        ("validation_fraction", 0.3, "selection"),
        ("weights", "last", "selection"),
        ("patience", 5, "stopping"),
        ("target_accuracy", 0.9, "stopping"),
    ],
)
def test_override_nested_field_by_name_equals_a_dict_of_its_record(field: str, value: object, group: str) -> None:
    before = RECIPES["default"]
    after, dumped = before.override(**{field: value}), before.model_dump()
    assert getattr(getattr(after, group), field) == value
    assert after.model_dump() == {**dumped, group: {**dumped[group], field: value}}
    assert before.override(**{group: {field: value}}) == after


def test_override_whole_record_replaces_it() -> None:
    config = OptimizerConfig(name="muon", learning_rate=0.2)
    assert RECIPES["article"].optimizer.nesterov is False
    assert RECIPES["article"].override(optimizer=config).optimizer == config  # nesterov is the record's own
    assert RECIPES["article"].override(optimizer={"name": "muon"}).optimizer.nesterov is False


def test_override_keeps_the_class_and_leaves_the_original_alone() -> None:
    class OwnRecipe(Recipe):
        pass

    before = OwnRecipe(epochs=2)
    assert isinstance(before.override(epochs=5), OwnRecipe)
    assert before.epochs == 2


@pytest.mark.parametrize("name", ["batch", "size", "momenta", "validation", "learning-rate"])
def test_override_unknown_field_raises_type_error(name: str) -> None:
    for values in ({name: 1}, {"optimizer": {name: 1}}, {"epochs": 2, name: 1}):
        with pytest.raises(TypeError, match=f"^Recipe has no field '{name}'$"):
            RECIPES["default"].override(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0.0}, "^--learning-rate 0.0: input should be greater than 0$"),
        ({"learning_rate": -1.0}, "^--learning-rate -1.0: input should be greater than 0$"),
        ({"learning_rate": float("nan")}, "^--learning-rate nan: input should be a finite number$"),
        ({"learning_rate": float("inf")}, "^--learning-rate inf: input should be a finite number$"),
        ({"batch_size": 0}, "^--batch-size 0: input should be greater than or equal to 1$"),
        ({"epochs": -1}, "^--epochs -1: input should be greater than or equal to 0$"),
        ({"epochs": 1.5}, "^--epochs 1.5: .*integer"),
        ({"patience": 0}, "^--patience 0: input should be greater than or equal to 1$"),
        ({"target_accuracy": 1.5}, "^--target-accuracy 1.5: input should be less than or equal to 1$"),
        ({"precision": "half"}, "^--precision half: input should be 'float32', 'bf16' or 'auto'$"),
        ({"optimizer": {"learning_rate": -1.0}}, "^--learning-rate -1.0: input should be greater than 0$"),
        (
            {"optimizer": "muon"},
            "^--optimizer muon: input should be a valid dictionary or instance of optimizerconfig$",
        ),
        ({"class_balance": 1.5}, "^--class-balance 1.5: input should be less than or equal to 1$"),
        ({"progressive_resizing": ((0.5, 1.5),)}, "^--progressive-resizing 1.5: input should be less than or equal to"),
        ({"progressive_resizing": ((0.6, 0.75), (0.3, 0.625))}, "^progressive_resizing must be sorted: earlier, small"),
        ({"validation_fraction": 0}, "^without a validation_fraction nothing can be selected: weights must be 'last'$"),
        ({"epochs": 2, "batch_size": 64, "weight_decay": -1}, "^--weight-decay -1: input should be greater than or eq"),
    ],
    ids=str,
)
def test_override_impossible_value_names_the_option(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RECIPES["default"].override(**values)


# Names and kinds of data


def test_recipe_named_color_and_image_folders_have_their_own_variants() -> None:
    for name in RECIPES:
        assert recipe_named(name) is recipe_named(name, "gray") is RECIPES[name]
        for kind, variants in VARIANTS.items():
            assert recipe_named(name, kind) is variants.get(name, RECIPES[name])
            assert recipe_named("article", kind) is RECIPES["article"]
            assert variants.keys() < RECIPES.keys()
    assert recipe_named("best", "color") is not RECIPES["best"]
    assert [recipe.model for recipe in VARIANTS["images"].values()] == ["airbench-deep"] * 3
    assert {recipe.model for recipe in VARIANTS["small images"].values()} == {"airbench"}


def test_variants_images_end_with_the_scale_that_the_input_size_was_chosen_for() -> None:
    for recipe in VARIANTS["images"].values():
        scales = [recipe.schedule.image_scale(done) for done in (0, 0.4, 0.7, 0.94, 0.96)]
        assert scales == sorted(scales)
        assert scales[-2:] == [SEEN_FRACTION, 1]


def test_variants_sized_images_train_at_the_requested_size() -> None:
    for name, recipe in VARIANTS["sized images"].items():
        scales = [recipe.schedule.image_scale(done) for done in (0, 0.29, 0.31, 0.59, 0.61, 1)]
        assert scales == [0.625, 0.625, 0.8, 0.8, 1, 1]
        resizing = recipe.schedule.progressive_resizing
        assert recipe == VARIANTS["images"][name].override(progressive_resizing=resizing)


@pytest.mark.parametrize("name", VARIANTS["color"])
def test_variants_color_are_valid_and_have_their_own_name(name: str) -> None:
    recipe = VARIANTS["color"][name]
    resizing = recipe.schedule.progressive_resizing
    assert recipe.name == f"{name} for color"
    assert not recipe.validates_on_test
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    assert parse_network(PRESETS[recipe.model], (32, 32, 3), 10)
    assert all(0 < scale < 1 for _, scale in resizing)
    assert sorted(resizing) == list(resizing)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("articel", "^unknown recipe 'articel': did you mean 'article'\\? recipes are article, default, fast, best$"),
        ("slow", "^unknown recipe 'slow': recipes are article, default, fast, best$"),
    ],
)
def test_recipe_named_unknown_name_lists_the_known_ones(name: str, message: str) -> None:
    for kind in VARIANTS:
        with pytest.raises(UsageError, match=message):
            recipe_named(name, kind)


@pytest.mark.parametrize(
    ("kind", "values", "seconds", "cores", "expected"),
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
def test_recipe_for_budget_depends_on_time_cores_and_pixels(
    kind: Kind, values: int, seconds: float, cores: int, expected: str
) -> None:
    assert recipe_for_budget(seconds * cores, kind, values) == expected
    assert expected in {*VARIANTS[kind], *RECIPES}


# From a backbone


def test_pretrained_recipes_train_the_classifier_alone_or_the_last_layers_for_some_epochs() -> None:
    fast, default, best = (recipe_named(name, "pretrained") for name in ("fast", "default", "best"))
    assert [recipe.epochs for recipe in (fast, default, best)] == [0, 10, 30]
    for recipe in (fast, default, best):
        assert recipe.planned_epochs(100) == recipe.epochs  # no least number of steps
        assert recipe.name.endswith(" from a backbone")
        assert not recipe.validates_on_test
        assert recipe.selection.weights == "last"
        assert recipe.precision == "float32"
        # what views and the last layers cannot do
        assert recipe.augmentation.cutmix == 0
        assert recipe.schedule.progressive_resizing == ()
        assert recipe.optimizer.name == "sgd"
    assert {recipe.override(name="x", epochs=1) for recipe in (fast, default, best)} == {
        default.override(name="x", epochs=1)
    }


def test_pretrained_recipe_of_the_article_is_the_articles() -> None:
    assert recipe_named("article", "pretrained") is RECIPES["article"]
