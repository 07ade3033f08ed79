"""A training for the time that someone has, from the prompt to the exit."""

from __future__ import annotations

import time
from dataclasses import dataclass

from convscope.backends.native.backend import Precision
from convscope.errors import UsageError
from convscope.network.layers import Network
from convscope.training.estimate import quick_pace
from convscope.training.recipes import Recipe

RESULTS = 3.0  # seconds that pictures, report and the end of the process take, apart from scoring
LEAST = 1.0  # seconds of training
MANY = 100  # epochs, among which images grow evenly


@dataclass(frozen=True)
class Budget:
    """So many seconds, since a moment of `time.monotonic()`."""

    seconds: float
    since: float

    @property
    def left(self) -> float:
        """Seconds until it is over."""
        return self.since + self.seconds - time.monotonic()


@dataclass(frozen=True)
class Share:
    """The part of a budget that is for training: seconds, and about how many epochs these will be."""

    seconds: float
    epochs: int


def share_of(
    budget: Budget, network: Network, recipe: Recipe, precision: Precision, images: int, validation: int, test: int
) -> Share:
    """What is left for training, by a short measurement on this machine.

    images, validation, test: how many of each there are. Raises UsageError where nothing is left.
    """
    pace = quick_pace(network, recipe, precision, images)
    scored = validation + test * (7 if recipe.tta else 1)  # six copies beside the plain image
    left = budget.left
    seconds = left - RESULTS - scored / pace.scoring
    if seconds < LEAST:
        raise UsageError(
            f"--budget {budget.seconds:g}s is too short: {budget.seconds - left:.1f} s went into getting ready, and "
            f"results take about {left - seconds:.1f} s; give {budget.seconds - seconds + LEAST:.0f}s or more"
        )
    epoch = pace.training_seconds(network, recipe, MANY, images) / MANY + validation / pace.scoring
    return Share(seconds, max(1, int(seconds / epoch)))
