"""A recipe, resolved for the data and the network at hand: every `auto` decided, once, with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from convscope.data.audit.rules import IMBALANCE_RATIO
from convscope.data.dataset import Dataset, Split
from convscope.data.splitting import stratified_group_split
from convscope.network.build import resize_network
from convscope.network.network import Network
from convscope.training.recipe import Recipe

Reasons = dict[str, str]  # the field that was decided, and why, for people


@dataclass(frozen=True)
class TrainData:
    """A data set with its images divided for training.

    `flips_are_safe`: whether horizontal flips keep the labels, if that is known; None has it measured.
    """

    dataset: Dataset
    train: Split
    validation: Split
    flips_are_safe: bool | None = None


def train_val_split(dataset: Dataset, recipe: Recipe, seed: int) -> tuple[Split, Split]:
    """Return the images to train on and to validate on: the data set's own, or a part held out of the former.

    A recipe that validates on the test set, as the article's does, gets that.

    Raises:
        DataError: no image can be held out.
    """
    if recipe.validates_on_test:
        return dataset.train, dataset.test
    if dataset.validation:
        return dataset.train, dataset.validation
    return stratified_group_split(dataset.train, recipe.selection.validation_fraction, seed)


def resolve(recipe: Recipe, data: TrainData, network: Network, probe_seconds: float = inf) -> tuple[Recipe, Reasons]:
    """Decide what a recipe leaves to data and network, and say why.

    - `horizontal_flip="auto"` becomes "always" or "never".
    - `class_balance` becomes 0 if the classes are about equally large.
    - `progressive_resizing` is dropped if the network, like one with `flatten`, takes images of one size only.

    Args:
        recipe: the recipe as chosen.
        data: the training and validation images.
        network: the network to train.
        probe_seconds: time limit of the training that tests flips.
    """
    flip, flip_reason = _resolve_flip(recipe, data, probe_seconds)
    balance, balance_reason = _resolve_balance(recipe, data.train)
    resolved = keep_usable_resizing(recipe, network).override(horizontal_flip=flip, class_balance=balance)
    reasons = {"horizontal_flip": flip_reason, "class_balance": balance_reason}
    return resolved, {name: reason for name, reason in reasons.items() if reason}


def keep_usable_resizing(recipe: Recipe, network: Network) -> Recipe:
    """Return the recipe, without progressive resizing if the network takes images of one size only."""
    scales = (scale for _, scale in recipe.schedule.progressive_resizing)
    return (
        recipe if all(resize_network(network, scale) for scale in scales) else recipe.override(progressive_resizing=())
    )


def mean_relative_cost(network: Network, recipe: Recipe, epochs: int) -> float:
    """Return the mean cost of an epoch relative to one at full image size, below 1 with progressive resizing."""
    scales = (recipe.schedule.image_scale_in_epoch(epoch, epochs) for epoch in range(1, epochs + 1))
    resized = (resize_network(network, scale) or network for scale in scales)
    return sum(smaller.multiply_adds for smaller in resized) / (epochs * network.multiply_adds)


def _resolve_flip(recipe: Recipe, data: TrainData, seconds: float) -> tuple[str, str]:
    flip = recipe.augmentation.horizontal_flip
    if flip != "auto":
        return flip, ""
    if data.flips_are_safe is not None:
        return "always" if data.flips_are_safe else "never", ""
    from convscope.training.probes.flip_probe import probe_flips  # loads torch

    probe = probe_flips(data.train, len(data.dataset.classes), seconds=seconds)
    return "always" if probe.flips else "never", probe.reason


def _resolve_balance(recipe: Recipe, train: Split) -> tuple[float, str]:
    counts = np.bincount(train.labels)
    smallest, largest = int(counts[counts > 0].min()), int(counts.max())
    if not recipe.class_balance or largest <= IMBALANCE_RATIO * smallest:
        return 0, ""
    factor = (largest / smallest) ** recipe.class_balance
    reason = (
        f"classes have {smallest:,} to {largest:,} images: those of the smallest are drawn {factor:.1f} times as often"
    )
    return recipe.class_balance, reason
