"""Recipes: how a network is trained, as data."""

from __future__ import annotations

import difflib
from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from convscope.errors import UsageError

_Share = Annotated[float, Field(gt=0, le=1)]


class Recipe(BaseModel):
    """Everything that decides how a network is trained, apart from the data, the network and the seed.

    `model` is the preset that the recipe was chosen with (`small` takes its place where images are too small for it).
    `sgd` is stochastic gradient descent with momentum (Nesterov's if `nesterov`). With `muon` (see `optimize`) learning
    rate, momentum and `matrix_decay` are of what it moves, and `rest_learning_rate` and `weight_decay` of all else;
    batch norm's biases move at `bias_learning_rate` where there is one, and lose the same share in a step. With
    `fixed_norms`, what Muon moves keeps its norm and batch norm its scales, 1. The classifier's initial weights are
    multiplied by `classifier_share`. Shares are 0 to 1.

    From epoch to epoch images are moved by up to `shift_pixels`, and flipped left to right every other time: `auto`
    does so where classes are known to survive it, or are measured to (see `symmetry`). With a `crop_area` below 1 only
    a part of each is seen, at least so much of its area (Szegedy et al., 2015). Contrast, brightness and saturation
    change by up to `jitter`, see `epoch_colors`. Where classes are unequal, `balance`
    draws the rare ones more often (see `balanced_order`): 0 as they are, 1 all alike. Until `cutmix_until` of the
    training is done, a share `cutmix` of the batches has parts of other images in its images (see `epoch_patches`).
    `growth` is pairs of shares: until so much of the training is done, images are so large; then they have their own
    size. `tta` measures with test-time augmentation too, beside the plain accuracy. With a `target`,
    training ends after the first epoch whose validation accuracy is as high: the lower end of its 95 % interval;
    with `patience`, after so many epochs without a better one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    model: str = "small"
    optimizer: Literal["sgd", "muon"] = "sgd"
    learning_rate: float = Field(gt=0)
    rest_learning_rate: float = Field(default=0.1, gt=0)
    bias_learning_rate: float | None = Field(default=None, gt=0)
    momentum: float = Field(ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0, ge=0)
    matrix_decay: float = Field(default=0, ge=0)
    fixed_norms: bool = False
    classifier_share: float = Field(default=1, gt=0)
    schedule: Literal["constant", "one-cycle"] = "constant"
    warmup_share: float = Field(default=0.2, ge=0, lt=1)
    batch: int = Field(ge=1)
    epochs: int = Field(ge=1)
    least_steps: int = Field(default=0, ge=0)
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    shift_pixels: int = Field(default=0, ge=0)
    crop_area: _Share = 1
    jitter: float = Field(default=0, ge=0, lt=1)
    flip: Literal["never", "auto", "always"] = "never"
    balance: _Share | Literal[0] = 0
    cutmix: _Share | Literal[0] = 0
    cutmix_until: _Share = 0.8
    growth: tuple[tuple[_Share, _Share], ...] = ()
    tta: bool = False
    precision: Literal["float32", "bf16", "auto"] = "auto"
    standardize: bool = True
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    select: Literal["best", "last"] = "best"
    target: _Share | None = None
    patience: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _the_test_set_selects_nothing(self) -> Self:
        if self.validates_on_test and self.select != "last":
            raise ValueError("without validation_share nothing can be selected: select must be 'last'")
        return self

    @model_validator(mode="after")
    def _images_grow_in_order(self) -> Self:
        if list(self.growth) != sorted(self.growth):
            raise ValueError("growth must be in order: the sizes that come first, first")
        return self

    @property
    def validates_on_test(self) -> bool:
        """Whether the curves are drawn on the test set, as the article does; never used to select anything."""
        return self.validation_share == 0

    @property
    def measured_on(self) -> str:
        """What the curves beside training's are drawn on."""
        return "test" if self.validates_on_test else "validation"

    def planned_epochs(self, images: int) -> int:
        """Epochs for so many training images: at least `epochs`, and enough of them for `least_steps` batches.

        >>> RECIPES["default"].planned_epochs(54_000), RECIPES["default"].planned_epochs(1_300)
        (2, 55)
        """
        return max(self.epochs, ceil(self.least_steps / self.batches(images)))

    def slower(self, times: float) -> Self:
        """The same recipe with all its learning rates divided by `times`."""
        names = ("learning_rate", "rest_learning_rate", "bias_learning_rate")
        given = {name: getattr(self, name) for name in names}
        return self.model_copy(update={name: rate / times for name, rate in given.items() if rate})

    def batches(self, images: int) -> int:
        """Batches of one epoch; a lone last image joins the batch before it, for batch norm needs two.

        >>> [RECIPES["article"].batches(images) for images in (60_000, 128, 129, 130, 1)]
        [469, 1, 1, 2, 1]
        """
        lone = self.batch > 1 and images > self.batch and images % self.batch == 1
        return ceil(images / self.batch) - lone

    def learning_rate_at(self, done: float) -> float:
        """The learning rate when that share of the training is done, 0..1.

        `one-cycle` climbs linearly during `warmup_share` of it and falls linearly to zero after it
        (after Smith and Topin, 2017).
        """
        if self.schedule == "constant":
            return self.learning_rate
        climb = done / self.warmup_share if self.warmup_share else 1
        return self.learning_rate * min(climb, (1 - done) / (1 - self.warmup_share))

    def size_share(self, epoch: int, epochs: int) -> float:
        """How large the images of epoch `epoch`, from 1, of `epochs` are, as a share of their own width and height.

        In the last epoch they are whole, however few there are.
        """
        return 1 if epoch == epochs else self.size_at((epoch - 1) / epochs)

    def size_at(self, done: float) -> float:
        """How large the images are when that share of the training is done."""
        return next((size for until, size in self.growth if done < until - 1e-9), 1)


def _variant(recipe: Recipe, name: str, **changes: Any) -> Recipe:
    return recipe.model_copy(update={"name": name, **changes})


RECIPES: dict[str, Recipe] = {
    # Exactly the article's (ARTICLE A11, A13): the test set draws the curves and selects nothing.
    "article": Recipe(
        name="article",
        model="article",
        learning_rate=0.01,
        momentum=0.9,
        batch=128,
        epochs=10,
        precision="float32",
        standardize=False,
        validation_share=0,
        select="last",
    ),
    # A good network in little time on any data; chosen on held-out training data, dev/LOG.md says how.
    "default": Recipe(
        name="default",
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="one-cycle",
        batch=128,
        epochs=2,
        least_steps=600,
        shift_pixels=1,
        flip="auto",
        balance=0.5,
    ),
    # A good network in the least time, and a better one. Both were chosen on held-out training images of MNIST and
    # Fashion-MNIST, dev/LOG.md says how.
    "fast": Recipe(
        name="fast",
        model="quick",
        optimizer="muon",
        learning_rate=0.2,
        momentum=0.6,
        nesterov=True,
        weight_decay=5e-4,
        schedule="one-cycle",
        batch=128,
        epochs=1,
        least_steps=300,
        label_smoothing=0.1,
        shift_pixels=1,
        balance=0.5,
        validation_share=0.05,
        select="last",
    ),
    "best": Recipe(
        name="best",
        model="large",
        optimizer="muon",
        learning_rate=0.05,
        momentum=0.6,
        nesterov=True,
        weight_decay=5e-4,
        matrix_decay=0.05,
        schedule="one-cycle",
        batch=256,
        epochs=16,
        least_steps=600,
        label_smoothing=0.1,
        shift_pixels=1,
        flip="auto",
        balance=0.5,
        validation_share=0.02,
        select="last",
    ),
}

# Of color images, chosen on held-out training images of CIFAR-10 after Jordan (2024), dev/LOG.md says how.
_COLOR = Recipe(
    name="best for color",
    model="airbench",
    optimizer="muon",
    learning_rate=0.17,
    rest_learning_rate=0.01,
    bias_learning_rate=53,
    momentum=0.6,
    nesterov=True,
    weight_decay=0.2,
    fixed_norms=True,
    classifier_share=0.045,
    schedule="one-cycle",
    warmup_share=0,
    batch=1000,
    epochs=14,
    least_steps=500,
    label_smoothing=0.2,
    shift_pixels=2,
    flip="auto",
    balance=0.5,
    growth=((0.3, 0.625), (0.6, 0.75)),
    tta=True,
    validation_share=0.02,
    select="last",
)
# Of someone's own pictures in color, chosen on held-out flowers and traffic signs, dev/LOG.md says how.
_PICTURES = _variant(
    _COLOR,
    "default for images",
    model="airbench-deep",
    learning_rate=0.08,
    warmup_share=0.1,
    batch=128,
    epochs=10,
    least_steps=600,
    label_smoothing=0.1,
    shift_pixels=0,
    crop_area=0.25,
    jitter=0.3,
    cutmix=0.7,
    growth=((0.3, 0.5), (0.6, 0.65), (0.95, 0.8)),  # parts look larger than wholes (Touvron et al., 2019)
    tta=False,
    validation_share=0.1,
)

Kind = Literal["gray", "color", "small images", "sized images", "images"]
VARIANTS: dict[Kind, dict[str, Recipe]] = {
    "gray": {},
    "color": {
        "fast": _variant(_COLOR, "fast for color", epochs=4, least_steps=200),
        "best": _COLOR,
    },
    "images": {
        "default": _PICTURES,
        "fast": _variant(_PICTURES, "fast for images", epochs=3, least_steps=200, crop_area=0.35, jitter=0.2, cutmix=0),
        "best": _variant(_PICTURES, "best for images", epochs=60, least_steps=3000, crop_area=0.2, cutmix_until=0.9),
    },
}
# Where someone asked for the size of the input, none of it is given away; nor where pictures are small.
VARIANTS["sized images"] = {
    name: _variant(recipe, recipe.name, growth=((0.3, 0.625), (0.6, 0.8)))
    for name, recipe in VARIANTS["images"].items()
}
VARIANTS["small images"] = {
    name: _variant(recipe, recipe.name, model="airbench", growth=_COLOR.growth, epochs=min(recipe.epochs, 30))
    for name, recipe in VARIANTS["images"].items()
}

# Seconds of a core for every number in the training images, from which on a recipe is worth it; dev/LOG.md says how
# they are known.
WORTH: dict[Kind, tuple[tuple[float, str], ...]] = {
    "gray": ((1.2e-6, "best"), (1e-7, "default"), (0, "fast")),
    "color": ((0, "best"),),
    "images": ((2e-5, "best"), (6e-6, "default"), (0, "fast")),
    "sized images": ((3e-5, "best"), (9e-6, "default"), (0, "fast")),
    "small images": ((3e-5, "best"), (0, "fast")),
}


def recipe_named(name: str, kind: Kind = "gray") -> Recipe:
    """The recipe of that name, for data of that kind. Raises UsageError, with the known names, for others."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown recipe {name!r}: {hint}recipes are {', '.join(RECIPES)}")
    return VARIANTS[kind].get(name, RECIPES[name])


def recipe_for(core_seconds: float, kind: Kind, pixels: int) -> str:
    """The most accurate recipe for data of that kind and so many pixels, in so many seconds times cores, all in all."""
    each = core_seconds / pixels
    return next(name for least, name in WORTH[kind] if each >= least)


def changed(recipe: Recipe, **values: float | str | None) -> Recipe:
    """The recipe with some values changed; None leaves a value as it is. `epochs` is then meant exactly.

    Raises UsageError for a value that the recipe does not allow.

    >>> changed(RECIPES["default"], epochs=5, batch=None).planned_epochs(100)
    5
    """
    given = {name: value for name, value in values.items() if value is not None}
    if "epochs" in given:
        given["least_steps"] = 0
    try:
        return Recipe.model_validate({**recipe.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise UsageError(f"{option} {first['input']} is not possible: {first['msg'].lower()}") from error
