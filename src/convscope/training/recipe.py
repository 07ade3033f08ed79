"""A recipe: how a network is trained, as data. `recipes` has those that come with convscope."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from convscope._records import Record
from convscope.errors import UsageError
from convscope.training.schedule import PositiveFraction, ScheduleConfig

MAX_SEED, MAX_EPOCHS = 2**63 - 1, 10**9  # the seed is for torch's generators
FractionOrZero = PositiveFraction | Literal[0]
PositiveRate = Annotated[float, Field(gt=0)]


class OptimizerConfig(Record):
    """The optimizer and its hyperparameters.

    `sgd` is stochastic gradient descent with momentum. `muon` (Jordan et al., 2024) updates the weights of convolutions
    and dense layers, except the classifier, and leaves all other weights to SGD.

    Attributes:
        name: "sgd" or "muon".
        learning_rate: peak learning rate, of what Muon updates or else of all weights.
        momentum: of what Muon updates, or else of all weights, 0..1.
        nesterov: whether SGD uses Nesterov momentum (Sutskever et al., 2013).
        weight_decay: of what SGD updates.
        muon_weight_decay: of what Muon updates.
        sgd_lr: peak learning rate of what Muon leaves to SGD.
        norm_bias_lr: peak learning rate of batch norm's biases, which then decay by the same fraction per step as
            other weights; None for that of other weights.
        freeze_norm_scale: whether the scales of batch norm stay 1 and the weights that Muon updates keep their norm.
        layer_decay: factor on the learning rate per layer, from the classifier back; below 1, the first layers of a
            pretrained network move least.
        max_gradient_norm: a longer gradient, of all weights together, is shortened to this length; None for no limit.
    """

    name: Literal["sgd", "muon"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0)
    muon_weight_decay: float = Field(default=0, ge=0)
    sgd_lr: float = Field(default=0.1, gt=0)
    norm_bias_lr: PositiveRate | None = None
    freeze_norm_scale: bool = False
    layer_decay: PositiveFraction = 1
    max_gradient_norm: PositiveRate | None = None


class AugmentationConfig(Record):
    """Random changes of the training images; all are pure functions of seed, epoch and image.

    Attributes:
        max_shift: pixels by which images are shifted at most, in both directions; edges are reflected.
        min_crop_area: smallest fraction of an image's area that a random crop shows; 1 turns crops off
            (Szegedy et al., 2015).
        color_jitter: maximum relative change of contrast, brightness and saturation.
        horizontal_flip: whether images are flipped left to right in every other epoch. "auto" flips them if the labels
            are known, or measured by `flip_probe`, to survive it.
        cutmix: fraction of the batches with boxes from other images (CutMix; Yun et al., 2019).
        cutmix_until: fraction of training after which CutMix ends.
    """

    max_shift: int = Field(default=0, ge=0)
    min_crop_area: PositiveFraction = 1
    color_jitter: float = Field(default=0, ge=0, lt=1)
    horizontal_flip: Literal["never", "auto", "always"] = "never"
    cutmix: FractionOrZero = 0
    cutmix_until: PositiveFraction = 0.8


class SelectionConfig(Record):
    """Which epoch's weights are used, and what each epoch is measured on.

    Attributes:
        weights: those of the epoch with the best validation accuracy, or of the last one.
        validation_fraction: fraction of the training images that is held out. At 0 the curves are drawn on the test
            set, as in the article, and select nothing.
    """

    weights: Literal["best", "last"] = "best"
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _the_test_set_selects_nothing(self) -> Self:
        if self.validation_fraction == 0 and self.weights != "last":
            raise ValueError("without a validation_fraction nothing can be selected: weights must be 'last'")
        return self


class StoppingConfig(Record):
    """When training ends early.

    Attributes:
        target_accuracy: stop after the first epoch whose validation accuracy shows that it is reached: of trainings
            that do not reach it, at most 2.5 % stop, see `first_epoch_at_target`.
        patience: stop after this number of epochs without a better validation accuracy; an equal one is not better.
    """

    target_accuracy: PositiveFraction | None = None
    patience: int | None = Field(default=None, ge=1)


class Recipe(Record):
    """Everything that decides how a network is trained, apart from the data, the network and the seed.

    Attributes:
        name: shown in reports.
        model: the preset that the recipe was tuned with; `small` replaces it if the images are too small for it.
        epochs: passes over the training images.
        min_steps: training takes more epochs until it has this number of steps.
        batch_size: images per step.
        label_smoothing: probability that is spread over all classes (Szegedy et al., 2016).
        head_init_scale: factor on the classifier's initial weights.
        class_balance: how much more often images of rare classes are drawn, from 0 (as they are) to 1 (all classes
            equally often).
        tta: whether evaluation also measures test-time augmentation.
        precision: of the products; "auto" takes bf16 if the processor has it and the first losses stay equal.
        standardize: whether preprocessing subtracts the mean of the training images and divides by their standard
            deviation.
        optimizer: see `OptimizerConfig`.
        schedule: see `ScheduleConfig`.
        augmentation: see `AugmentationConfig`.
        selection: see `SelectionConfig`.
        stopping: see `StoppingConfig`.

    >>> recipe = Recipe(epochs=3, optimizer=OptimizerConfig(learning_rate=0.05))
    >>> recipe.override(batch_size=64, label_smoothing=0.1).batch_size
    64
    """

    name: str = "custom"
    model: str = "small"
    epochs: int = Field(default=10, ge=0, le=MAX_EPOCHS)
    min_steps: int = Field(default=0, ge=0)
    batch_size: int = Field(default=128, ge=1)
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    head_init_scale: float = Field(default=1, gt=0)
    class_balance: FractionOrZero = 0
    tta: bool = False
    precision: Literal["float32", "bf16", "auto"] = "auto"
    standardize: bool = True
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    selection: SelectionConfig = SelectionConfig()
    stopping: StoppingConfig = StoppingConfig()

    @model_validator(mode="after")
    def _the_test_set_stops_nothing(self) -> Self:
        if self.validates_on_test and (given := self.stopping.model_dump(exclude_none=True)):
            options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(
                f"recipe {self.name!r} measures its epochs on the test set, which must not decide when training ends: "
                f"leave out {options}, or choose another recipe"
            )
        return self

    @property
    def validates_on_test(self) -> bool:
        """Whether the curves are drawn on the test set, as the article does; never used to select anything."""
        return self.selection.validation_fraction == 0

    @property
    def validation_name(self) -> str:
        """The split that each epoch is measured on: "validation", or "test" as in the article."""
        return "test" if self.validates_on_test else "validation"

    def planned_epochs(self, images: int) -> int:
        """Return the epochs for `images` training images: at least `epochs`, and enough for `min_steps` steps.

        >>> from convscope.training.recipes import RECIPES
        >>> RECIPES["default"].planned_epochs(54_000), RECIPES["default"].planned_epochs(1_300)
        (2, 55)
        """
        return max(self.epochs, ceil(self.min_steps / self.batches_per_epoch(images)))

    def batches_per_epoch(self, images: int) -> int:
        """Return the batches of one epoch; a single last image joins the batch before it, as batch norm needs two.

        >>> from convscope.training.recipes import RECIPES
        >>> [RECIPES["article"].batches_per_epoch(images) for images in (60_000, 128, 129, 130, 1)]
        [469, 1, 1, 2, 1]
        """
        single = self.batch_size > 1 and images > self.batch_size and images % self.batch_size == 1
        return ceil(images / self.batch_size) - single

    def learning_rate_at(self, done: float) -> float:
        """Return the learning rate when the fraction `done` of training is complete."""
        return self.schedule.learning_rate(self.optimizer.learning_rate, done)

    def divide_learning_rates(self, divisor: float) -> Self:
        """Return the recipe with all its learning rates divided by `divisor`."""
        rates = {name: getattr(self.optimizer, name) for name in ("learning_rate", "sgd_lr", "norm_bias_lr")}
        return self.override(optimizer={name: rate / divisor for name, rate in rates.items() if rate})

    def override(self, **values: Any) -> Self:
        """Return a validated copy with some fields changed, given by name wherever they are nested.

        A nested record may be given whole, or as a dict of the fields to change. `epochs` is then exact: it sets
        `min_steps` to 0 unless that is given, too. None leaves a field as it is.

        Raises:
            UsageError: a value is not allowed.
            TypeError: there is no such field.

        >>> from convscope.training.recipes import RECIPES
        >>> RECIPES["default"].override(epochs=5, learning_rate=0.01, batch_size=None).planned_epochs(100)
        5
        """
        given = {name: value for name, value in values.items() if value is not None}
        if "epochs" in given:
            given.setdefault("min_steps", 0)
        changed = self.model_dump()
        for name, value in given.items():
            target = changed if name in changed else changed[_group_of(name)]
            if isinstance(target[name], dict) and isinstance(value, dict):
                target[name] = {**target[name], **value}
            else:
                target[name] = value
        try:
            return type(self).model_validate(changed)
        except ValidationError as error:
            raise _as_own_error(error) from error


def _group_of(name: str) -> str:
    """Return the nested record that has a field of that name. Raises TypeError if there is none."""
    for group, field in Recipe.model_fields.items():
        if isinstance(field.default, Record) and name in type(field.default).model_fields:
            return group
    raise TypeError(f"Recipe has no field {name!r}")


def _as_own_error(error: ValidationError) -> Exception:
    """Return a UsageError that names the option, or a TypeError if there is no such field in a nested record."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # of a validator of a whole record; its message names the field
        return UsageError(str(first["ctx"]["error"]))
    group, *nested = first["loc"]
    name = str(nested[0] if nested and isinstance(Recipe.model_fields[str(group)].default, Record) else group)
    if first["type"] == "extra_forbidden":
        return TypeError(f"Recipe has no field {name!r}")
    return UsageError(f"--{name.replace('_', '-')} {first['input']}: {first['msg'].lower()}")
