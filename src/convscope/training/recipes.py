"""The recipes that come with convscope, by name and kind of data."""

from __future__ import annotations

import difflib
from typing import Any, Literal

from convscope.errors import UsageError
from convscope.training.recipe import AugmentationConfig, OptimizerConfig, Recipe, SelectionConfig
from convscope.training.schedule import ScheduleConfig


def _variant(recipe: Recipe, name: str, **changes: Any) -> Recipe:
    return recipe.override(**{"name": name, "min_steps": recipe.min_steps, **changes})


RECIPES: dict[str, Recipe] = {
    # Exactly the article's (ARTICLE A11, A13): the test set draws the curves and selects nothing.
    "article": Recipe(
        name="article",
        model="article",
        optimizer=OptimizerConfig(learning_rate=0.01, momentum=0.9, nesterov=False, weight_decay=0),
        schedule=ScheduleConfig(name="constant"),
        selection=SelectionConfig(weights="last", validation_fraction=0),
        batch_size=128,
        epochs=10,
        precision="float32",
        standardize=False,
    ),
    # A good network in little time on any data; chosen on held-out training data, see dev/LOG.md.
    "default": Recipe(
        name="default",
        epochs=2,
        min_steps=600,
        augmentation=AugmentationConfig(max_shift=1, horizontal_flip="auto"),
        class_balance=0.5,
    ),
    # A good network in the least time, and a better one. Both were chosen on held-out training images of MNIST and
    # Fashion-MNIST, see dev/LOG.md.
    "fast": Recipe(
        name="fast",
        model="quick",
        optimizer=OptimizerConfig(name="muon", learning_rate=0.2, momentum=0.6),
        augmentation=AugmentationConfig(max_shift=1),
        selection=SelectionConfig(weights="last", validation_fraction=0.05),
        epochs=1,
        min_steps=300,
        label_smoothing=0.1,
        class_balance=0.5,
    ),
    "best": Recipe(
        name="best",
        model="large",
        optimizer=OptimizerConfig(name="muon", learning_rate=0.05, momentum=0.6, muon_weight_decay=0.05),
        augmentation=AugmentationConfig(max_shift=1, horizontal_flip="auto"),
        selection=SelectionConfig(weights="last", validation_fraction=0.02),
        batch_size=256,
        epochs=16,
        min_steps=600,
        label_smoothing=0.1,
        class_balance=0.5,
    ),
}

# For color images; chosen on held-out training images of CIFAR-10 after Jordan (2024), see dev/LOG.md.
_COLOR = Recipe(
    name="best for color",
    model="airbench",
    optimizer=OptimizerConfig(
        name="muon",
        learning_rate=0.17,
        sgd_lr=0.01,
        norm_bias_lr=53,
        momentum=0.6,
        weight_decay=0.2,
        freeze_norm_scale=True,
    ),
    schedule=ScheduleConfig(warmup_fraction=0, progressive_resizing=((0.3, 0.625), (0.6, 0.75))),
    augmentation=AugmentationConfig(max_shift=2, horizontal_flip="auto"),
    selection=SelectionConfig(weights="last", validation_fraction=0.05),
    head_init_scale=0.045,
    batch_size=1000,
    epochs=14,
    min_steps=500,
    label_smoothing=0.2,
    class_balance=0.5,
    tta=True,
)
# For a user's own color images; chosen on held-out flowers and traffic signs, see dev/LOG.md.
_IMAGES = _variant(
    _COLOR,
    "default for images",
    model="airbench-deep",
    learning_rate=0.08,
    warmup_fraction=0.1,
    batch_size=128,
    epochs=10,
    min_steps=600,
    label_smoothing=0.1,
    max_shift=0,
    min_crop_area=0.25,
    color_jitter=0.3,
    cutmix=0.7,
    progressive_resizing=((0.3, 0.5), (0.6, 0.65), (0.95, 0.8)),  # crops look larger than whole images (Touvron, 2019)
    tta=False,
    validation_fraction=0.1,
)

# From a backbone: epochs of the last layers, after the classifier has been fitted; dev/LOG.md has the measurements.
_PRETRAINED = Recipe(
    name="default from a backbone",
    model="pretrained",
    optimizer=OptimizerConfig(learning_rate=0.02, weight_decay=1e-4, layer_decay=0.9, max_gradient_norm=1.0),
    schedule=ScheduleConfig(warmup_fraction=0.1),
    augmentation=AugmentationConfig(min_crop_area=0.4, color_jitter=0.2, horizontal_flip="auto"),
    selection=SelectionConfig(weights="last"),
    batch_size=64,
    epochs=10,
    label_smoothing=0.1,
    precision="float32",
)

Kind = Literal["gray", "color", "small images", "sized images", "images", "pretrained"]
VARIANTS: dict[Kind, dict[str, Recipe]] = {
    "gray": {},
    "color": {
        "fast": _variant(_COLOR, "fast for color", epochs=4, min_steps=200),
        "best": _COLOR,
    },
    "images": {
        "default": _IMAGES,
        "fast": _variant(
            _IMAGES, "fast for images", epochs=3, min_steps=200, min_crop_area=0.35, color_jitter=0.2, cutmix=0
        ),
        "best": _variant(_IMAGES, "best for images", epochs=60, min_steps=3000, min_crop_area=0.2, cutmix_until=0.9),
    },
}
VARIANTS["pretrained"] = {
    "default": _PRETRAINED,
    "fast": _variant(_PRETRAINED, "fast from a backbone", epochs=0),
    "best": _variant(_PRETRAINED, "best from a backbone", epochs=30),
}
# If the user chose the input size, training uses nearly all of it; the same holds for small images.
VARIANTS["sized images"] = {
    name: _variant(recipe, recipe.name, progressive_resizing=((0.3, 0.625), (0.6, 0.8)))
    for name, recipe in VARIANTS["images"].items()
}
VARIANTS["small images"] = {
    name: _variant(
        recipe,
        recipe.name,
        model="airbench",
        progressive_resizing=_COLOR.schedule.progressive_resizing,
        epochs=min(recipe.epochs, 30),
    )
    for name, recipe in VARIANTS["images"].items()
}

# Core-seconds per pixel value of the training images from which each recipe pays off, most accurate first; dev/LOG.md
# says how they were measured.
MIN_CORE_SECONDS_PER_VALUE: dict[Kind, tuple[tuple[float, str], ...]] = {
    "gray": ((1.6e-6, "best"), (1e-7, "default"), (0, "fast")),
    "color": ((0, "best"),),
    "images": ((2e-5, "best"), (6e-6, "default"), (0, "fast")),
    "sized images": ((3e-5, "best"), (9e-6, "default"), (0, "fast")),
    "small images": ((3e-5, "best"), (0, "fast")),
}


def recipe_named(name: str, kind: Kind = "gray") -> Recipe:
    """Return the recipe `name` for data of that kind. Raises UsageError, listing the recipes, for an unknown name."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown recipe {name!r}: {hint}recipes are {', '.join(RECIPES)}")
    return VARIANTS[kind].get(name, RECIPES[name])


def recipe_for_budget(core_seconds: float, kind: Kind, values: int) -> str:
    """Return the name of the most accurate recipe that fits a budget.

    Args:
        core_seconds: seconds for the whole training, times the number of cores.
        kind: kind of data, see `Dataset.kind`.
        values: pixel values in all training images: images x height x width x channels.
    """
    available = core_seconds / values
    return next(name for needed, name in MIN_CORE_SECONDS_PER_VALUE[kind] if available >= needed)
