"""One training that writes nothing, and what it says about the images that it left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from convscope._reporting import SilentReporter
from convscope.api.train import fit_plan
from convscope.api.training.hooks import Hooks
from convscope.api.training.options import TrainOptions
from convscope.api.training.sources import Sources
from convscope.api.training.start import plan_training
from convscope.evaluation.calibration import UNCALIBRATED, Doubles, fit_calibration, softmax
from convscope.runs.config import RunConfig
from convscope.training.callbacks import TrainResult
from convscope.training.loop import split_logits

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Mapper:
    """Calls a function once per item: here, one call after the other, as each training uses all cores.

    `integrations.ray` has one that calls it on other machines.

    Attributes:
        workers: Number of calls that run at the same time.
    """

    workers = 1

    def map(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item with the result of `function(shared, item)`, as soon as it is there.

        Args:
            function: A function of a module.
            shared: The first argument of every call.
            items: The second arguments.
        """
        for item in items:
            yield item, function(shared, item)


@dataclass(frozen=True)
class TrialResult:
    """What one training found.

    Attributes:
        config: What was decided before it began.
        probabilities: Of the images that it left out, float64 (n, classes).
        calibrated: Whether they were calibrated on validation images; a recipe that trains on all images has none.
        training: Its epochs; the weights are dropped.
        seconds: That all of it took.
    """

    config: RunConfig
    probabilities: Doubles
    calibrated: bool
    training: TrainResult
    seconds: float


def run_trial(sources: Sources, options: TrainOptions) -> TrialResult:
    """Train, and classify the images of the test split.

    Args:
        sources: See `leave_out`.
        options: Of the training.
    """
    started = time.monotonic()
    plan = plan_training(sources, options, SilentReporter(), started)
    model, result = fit_plan(plan, Hooks())
    calibration, preprocessing = UNCALIBRATED, plan.config.preprocessing
    validation = plan.data.validation
    calibrated = validation is not plan.data.dataset.test
    if calibrated:
        calibration = fit_calibration(split_logits(model, validation, preprocessing), validation.labels)
    probabilities = softmax(split_logits(model, plan.data.dataset.test, preprocessing), calibration)
    history = TrainResult(result.select, best_epoch=result.best_epoch, last_epoch=result.last_epoch)
    history.history, history.seconds = result.history, result.seconds
    return TrialResult(plan.config, probabilities, calibrated, history, time.monotonic() - started)


def hits(probabilities: Doubles, labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which images are classified correctly, bool (n,)."""
    result: NDArray[np.bool_] = probabilities.argmax(1) == labels
    return result
