"""The configuration of one call of `fit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convscope.backends.native.backend import Precision
from convscope.images.preprocessing import Preprocessing
from convscope.training.metrics import Metric
from convscope.training.recipe import Recipe

if TYPE_CHECKING:
    from convscope.backends.pytorch.group import Group
    from convscope.training.finetuning.tail import Tail

Pixels = NDArray[np.uint8]
Augment = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True)
class TrainConfig:
    """What `fit` needs besides the model and the data.

    Attributes:
        preprocessing: how pixels become the network's input.
        recipe: a resolved recipe, see `resolve`.
        seed: of order, augmentation and dropout.
        precision: of the products; weights are always float32.
        time_limit: seconds, instead of the recipe's epochs.
        initial_epoch: number of epochs that the model has been trained for already.
        metrics: the user's own, by name, measured on the validation data after each epoch.
        augment: the user's own augmentation, a function of a uint8 batch (n, height, width, channels) and a NumPy
            generator that returns a batch of the same shape.
        tail: what the first layers, which stay frozen, have computed; None trains all layers.
        group: the processes that train together, each with its rows of every batch; None for this one alone.
    """

    preprocessing: Preprocessing
    recipe: Recipe
    seed: int = 0
    precision: Precision = "float32"
    time_limit: float | None = None
    initial_epoch: int = 0
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    augment: Augment | None = None
    tail: Tail | None = None
    group: Group | None = None
