"""Training within a wall-clock limit for the whole command."""

from __future__ import annotations

import time
from dataclasses import dataclass

from convscope.backends.native.backend import Precision
from convscope.errors import UsageError
from convscope.network.network import Network
from convscope.training.probes.estimate import estimate_throughput
from convscope.training.recipes import Recipe

RESULTS_SECONDS = 3.0  # for figures, report and the end of the process, apart from evaluation
MIN_TRAINING_SECONDS = 1.0
TTA_PASSES = 6  # forward passes of test-time augmentation, in addition to the plain one
EPOCHS_FOR_MEAN = 100  # enough to average over progressive resizing


@dataclass(frozen=True)
class Budget:
    """A number of seconds since a moment of `time.monotonic()`."""

    seconds: float
    since: float

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.since + self.seconds - time.monotonic()


@dataclass(frozen=True)
class TimeLimit:
    """The part of a budget that is left for training, in seconds, and roughly how many epochs fit in it."""

    seconds: float
    epochs: int


def time_limit(
    budget: Budget, network: Network, recipe: Recipe, precision: Precision, counts: tuple[int, int, int]
) -> TimeLimit:
    """Measure this machine briefly and return the time that is left for training.

    Args:
        budget: the whole command's time.
        network: the network to train.
        recipe: the resolved recipe.
        precision: of the products.
        counts: number of training, validation and test images.

    Raises:
        UsageError: no time is left.
    """
    images, validation, test = counts
    throughput = estimate_throughput(network, recipe, precision, images)
    evaluated = validation + test * (1 + TTA_PASSES if recipe.tta else 1)
    left = budget.left
    seconds = left - RESULTS_SECONDS - evaluated / throughput.evaluation
    if seconds < MIN_TRAINING_SECONDS:
        raise UsageError(
            f"--budget {budget.seconds:g}s is too short: preparation took {budget.seconds - left:.1f} s and results "
            f"take about {left - seconds:.1f} s; give at least {budget.seconds - seconds + MIN_TRAINING_SECONDS:.0f}s"
        )
    epochs = EPOCHS_FOR_MEAN
    epoch = throughput.training_seconds(network, recipe, epochs, images) / epochs + validation / throughput.evaluation
    return TimeLimit(seconds, max(1, int(seconds / epoch)))
