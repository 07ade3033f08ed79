"""Threads and precision, chosen by a short measurement before step 0 and fixed from then on."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from convscope._hardware import has_bf16, max_threads
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision, use_threads
from convscope.backends.pytorch.fusion import leaves_work_to_torch
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Split
from convscope.errors import ConvscopeError
from convscope.images.preprocessing import Preprocessing
from convscope.network.network import Network
from convscope.training.callbacks import Callback, Trainer
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
from convscope.training.recipes import Recipe

TIMED_STEPS, COMPARED_STEPS = 4, 20
TIMED_PIXELS, COMPARED_PIXELS = 128 * 32 * 32, 32 * 32 * 32  # largest batches of the probe, in pixels
MIN_SPEEDUP = 0.95  # another thread has to save 5 % of a step's time
CLEARLY_SLOWER = 1.2
LOSS_TOLERANCE = 0.02  # relative, of the mean loss of the compared steps
MIN_LOSS = 1e-6  # avoids a division by zero for a network without anything to tell apart


@dataclass(frozen=True)
class TuningResult:
    """The number of threads and the precision of a training; `reason` explains the precision."""

    threads: int
    precision: Precision
    reason: str = ""


@dataclass(frozen=True, eq=False)
class TuningProbe:
    """Runs real training steps from the initial weights, on the first images, at a tenth of the learning rate.

    Batches have at most 128 images of 32x32, or as many pixels; a quarter of that when precisions are compared.
    """

    network: Network
    train: Split
    preprocessing: Preprocessing
    recipe: Recipe
    seed: int

    @cached_property
    def torch_works(self) -> bool:
        """Whether torch does part of the work; its threads wait for each other, those of the kernels yield."""
        return backend.native is None or leaves_work_to_torch(self.network)

    def seconds_per_step(self, threads: int) -> float:
        """Return the median time of a few float32 steps, without the first, which prepares everything."""
        use_threads(threads)
        timer = _StepTimer()
        self._run("float32", TIMED_STEPS + 1, TIMED_PIXELS, timer)
        return statistics.median(np.diff(timer.times)) if len(timer.times) > 1 else 0.0

    def loss(self, precision: Precision) -> float:
        """Return the mean loss of a few steps; NaN if it did not stay finite."""
        recorder = _LossRecorder()
        finite = self._run(precision, COMPARED_STEPS, COMPARED_PIXELS, recorder)
        return recorder.mean if finite else math.nan

    def _run(self, precision: Precision, steps: int, pixels: int, callback: Callback) -> bool:
        """Train for some steps; return whether the losses stayed finite. If not, the training itself reports it."""
        height, width, _ = self.train.shape
        batch_size = min(self.recipe.batch_size, max(2, pixels // (height * width)))
        images = self.train.take(np.arange(min(len(self.train), steps * batch_size)))
        recipe = self.recipe.divide_learning_rates(10).override(batch_size=batch_size, epochs=1)
        config = TrainConfig(self.preprocessing, recipe, self.seed, precision)
        try:
            fit(build_model(self.network, self.seed), images, images.take(np.arange(1)), config, [callback])
        except ConvscopeError:
            return False
        return True


class _StepTimer(Callback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, _: Trainer) -> None:
        self.times.append(time.perf_counter())


class _LossRecorder(Callback):
    mean = math.nan

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self.mean = trainer.state.loss_sum / trainer.state.seen


def autotune(probe: TuningProbe, threads: int | None = None) -> TuningResult:
    """Choose the number of threads, unless given, and resolve the recipe's precision.

    `auto` becomes bf16 if the processor multiplies in it and the mean loss of the first steps equals that of float32
    within 2 %. The decision does not depend on timing, so it is the same for every run on a given machine; the number
    of threads changes only the last bits of the sums.
    """
    threads = threads or _fastest(probe)
    use_threads(threads, probe.torch_works)
    precision = probe.recipe.precision
    if precision != "auto":
        return TuningResult(threads, precision)
    if not has_bf16():
        return TuningResult(threads, "float32", "this processor has no bf16 arithmetic")
    return _compare_precisions(probe, threads)


def _compare_precisions(probe: TuningProbe, threads: int) -> TuningResult:
    exact, rounded = probe.loss("float32"), probe.loss("bf16")
    for precision, loss in (("bf16", rounded), ("float32", exact)):
        if not math.isfinite(loss):
            return TuningResult(threads, "float32", f"the first losses in {precision} were not finite")
    difference = abs(rounded - exact) / max(exact, MIN_LOSS)
    if difference <= LOSS_TOLERANCE:
        return TuningResult(threads, "bf16", f"its first losses equal those of float32 within {100 * difference:.2g} %")
    return TuningResult(threads, "float32", f"the first losses in bf16 were off by {100 * difference:.1f} %")


def _fastest(probe: TuningProbe) -> int:
    """Return the fastest number of threads, trying fewer and fewer; all of them if only the kernels work."""
    best = max_threads()
    if best == 1 or not probe.torch_works:
        return best
    fastest = probe.seconds_per_step(best)
    for threads in range(best - 1, 0, -1):
        seconds = probe.seconds_per_step(threads)
        if seconds > CLEARLY_SLOWER * fastest:
            break
        if seconds < fastest / MIN_SPEEDUP:
            best, fastest = threads, min(fastest, seconds)
    return best
