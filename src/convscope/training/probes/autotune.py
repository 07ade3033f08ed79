"""Threads and precision, chosen by a short measurement before step 0 and fixed from then on."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np

from convscope._hardware import has_bf16, max_threads, slowdown
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
from convscope.training.recipe import Recipe

TIMED_STEPS, COMPARED_STEPS = 4, 20
TIMED_PIXELS, COMPARED_PIXELS = 128 * 32 * 32, 32 * 32 * 32  # largest batches of the probe, in pixels
MIN_SPEEDUP = 0.95  # another thread has to save 5 % of a step's time
CLEARLY_SLOWER = 1.2
MIN_COMPARED_STEPS = 5
MIN_SECONDS = 2.5  # in less time, numbers of threads or precisions are not compared
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

    def seconds_per_step(self, threads: int, deadline: float = inf) -> float:
        """Return the median time of a few float32 steps, without the first, which prepares everything."""
        use_threads(threads)
        recorder = _Recorder(deadline)
        self._run("float32", TIMED_STEPS + 1, TIMED_PIXELS, recorder)
        return statistics.median(np.diff(recorder.times)) if len(recorder.times) > 1 else 0.0

    def losses(self, precision: Precision, deadline: float = inf) -> list[float]:
        """Return the mean loss so far after each of a few steps; the last is NaN if it did not stay finite."""
        recorder = _Recorder(deadline)
        finite = self._run(precision, COMPARED_STEPS, COMPARED_PIXELS, recorder)
        return recorder.losses if finite else [*recorder.losses, math.nan]

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


class _Recorder(Callback):
    """Records time and mean loss after each step; stops after the first step past the deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self.times.append(time.perf_counter())
        self.losses.append(trainer.state.loss_sum / trainer.state.seen)
        trainer.stop_training = time.monotonic() > self.deadline


def autotune(probe: TuningProbe, threads: int | None = None, seconds: float = inf) -> TuningResult:
    """Choose the number of threads, unless given, and resolve the recipe's precision.

    `auto` becomes bf16 if the processor multiplies in it and the mean loss of the first steps equals that of float32
    within 2 %. Without a limit, that decision does not depend on timing, so it is the same for every run on a given
    machine; the number of threads changes only the last bits of the sums.

    Args:
        probe: the network and its data.
        threads: the number of threads, if it is given.
        seconds: time for the measurements, about; if it is short, fewer steps are compared, or none.
    """
    deadline = time.monotonic() + seconds
    threads = threads or _fastest(probe, time.monotonic() + seconds / 2)
    use_threads(threads, probe.torch_works)
    precision = probe.recipe.precision
    if precision != "auto":
        return TuningResult(threads, precision)
    if not has_bf16():
        return TuningResult(threads, "float32", "this processor has no bf16 arithmetic")
    return _compare_precisions(probe, threads, deadline)


def _compare_precisions(probe: TuningProbe, threads: int, deadline: float) -> TuningResult:
    left = deadline - time.monotonic()
    exact = probe.losses("float32", deadline - left / 2) if left > MIN_SECONDS else []
    too_late = time.monotonic() > deadline or (deadline < inf and len(exact) < MIN_COMPARED_STEPS)
    rounded = [] if too_late else probe.losses("bf16", deadline)
    for precision, losses in (("bf16", rounded), ("float32", exact)):
        if not all(map(math.isfinite, losses)):
            return TuningResult(threads, "float32", f"the first losses in {precision} were not finite")
    steps = min(len(rounded), len(exact))
    if steps == 0 or (deadline < inf and steps < MIN_COMPARED_STEPS):
        return TuningResult(threads, "float32", "there was no time to compare it with bf16")
    difference = abs(rounded[steps - 1] - exact[steps - 1]) / max(exact[steps - 1], MIN_LOSS)
    if difference <= LOSS_TOLERANCE:
        return TuningResult(threads, "bf16", f"its first losses equal those of float32 within {100 * difference:.2g} %")
    return TuningResult(threads, "float32", f"the first losses in bf16 were off by {100 * difference:.1f} %")


def _fastest(probe: TuningProbe, deadline: float) -> int:
    """Return the fastest number of threads, trying fewer and fewer; all of them if only the kernels work.

    If there is no time to try, they are as many as the cores that other processes leave: torch's threads wait for the
    slowest of them.
    """
    best = max_threads()
    if best == 1 or not probe.torch_works:
        return best
    if deadline - time.monotonic() < MIN_SECONDS:
        return max(1, round(best / slowdown()))
    fastest = probe.seconds_per_step(best, deadline)
    for threads in range(best - 1, 0, -1):
        if time.monotonic() > deadline:
            break
        seconds = probe.seconds_per_step(threads, deadline)
        if seconds > CLEARLY_SLOWER * fastest:
            break
        if seconds < fastest / MIN_SPEEDUP:
            best, fastest = threads, min(fastest, seconds)
    return best
