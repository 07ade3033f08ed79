"""Training within a wall-clock limit for the whole command."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

from convscope._hardware import slowdown
from convscope.backends.native.backend import Precision
from convscope.network.network import Network
from convscope.training.probes.estimate import estimate_throughput
from convscope.training.recipe import Recipe

RESULTS_SECONDS = 3.0  # for figures, report and the end of the process, apart from evaluation, on an idle machine
RESULT_IMAGES = 3_700  # whose features take as long as what results compute, besides validation and test images
MIN_TRAINING_SECONDS = 1.0
TTA_PASSES = 6  # forward passes of test-time augmentation, in addition to the plain one
MAX_TTA_FRACTION = 0.2  # of the time that is left; more than that is better spent on training
CALIBRATION_IMAGES, UNLIKE_IMAGES = 1_000, 300  # of training, at most; and of others that are classified
CALIBRATION_COST = 2  # relative to evaluation: onnxruntime runs the model file, not the kernels of training
EPOCHS_FOR_MEAN = 100  # enough to average over progressive resizing
# Fractions of the time that is left, for what is measured before training.
FLIP_PROBE_FRACTION, AUTOTUNE_FRACTION, THROUGHPUT_FRACTION = 0.06, 0.05, 0.05
MAX_FLIP_PROBE_SECONDS = 4.0  # about what it takes on two idle cores


@dataclass(frozen=True)
class Budget:
    """A number of seconds since a moment of `time.monotonic()`; by default there is no limit."""

    seconds: float = inf
    since: float = 0.0

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.since + self.seconds - time.monotonic())

    def share(self, fraction: float, at_most: float = inf) -> float:
        """Return a fraction of the seconds that are left, and not more than `at_most`; infinity without a limit."""
        return min(at_most, fraction * self.left) if self.seconds < inf else inf

    @property
    def spent(self) -> float:
        """Seconds since the budget began."""
        return time.monotonic() - self.since


@dataclass(frozen=True)
class TimeLimit:
    """The part of a budget that is left for training.

    Attributes:
        seconds: for training.
        epochs: how many fit in it, roughly.
        tta: whether there is time for test-time augmentation.
        reason: says that the budget is too short, if it is.
    """

    seconds: float
    epochs: int
    tta: bool
    reason: str = ""


def time_limit(
    budget: Budget, network: Network, recipe: Recipe, precision: Precision, counts: tuple[int, int, int]
) -> TimeLimit:
    """Measure this machine briefly and return the time that is left for training, at least a second.

    Args:
        budget: the whole command's time.
        network: the network to train.
        recipe: the resolved recipe.
        precision: of the products.
        counts: number of training, validation and test images.
    """
    images, validation, test = counts
    throughput = estimate_throughput(network, recipe, precision, images, THROUGHPUT_FRACTION * budget.left)
    augmented = TTA_PASSES * test / throughput.evaluation if recipe.tta else 0.0
    tta = recipe.tta and augmented <= MAX_TTA_FRACTION * budget.left
    calibrated = min(images, CALIBRATION_IMAGES) + validation + test + UNLIKE_IMAGES
    evaluated = validation + test + CALIBRATION_COST * calibrated
    results = RESULTS_SECONDS * slowdown() + evaluated / throughput.evaluation + tta * augmented
    spent, seconds = budget.spent, budget.left - results
    reason = ""
    if seconds < MIN_TRAINING_SECONDS:
        seconds = MIN_TRAINING_SECONDS
        reason = (
            f"--budget {budget.seconds:g}s is too short: preparation took {spent:.1f} s and results take about "
            f"{results:.1f} s, so training takes {seconds:g} s and the end is late; "
            f"{spent + results + seconds:.0f}s would be enough"
        )
    epochs = EPOCHS_FOR_MEAN
    epoch = throughput.training_seconds(network, recipe, epochs, images) / epochs + validation / throughput.evaluation
    return TimeLimit(seconds, max(1, int(seconds / epoch)), tta, reason)
