"""Threads and precision, settled by a short measurement before step 0 and kept from then on."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
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
from convscope.network.layers import Network
from convscope.training.loop import fit
from convscope.training.recipes import Recipe
from convscope.training.state import Progress

TIMED_STEPS, COMPARED_STEPS = 4, 20
TIMED_PIXELS, COMPARED_PIXELS = 128 * 32 * 32, 32 * 32 * 32  # of a batch; more tell no more about threads and precision
WORTH = 0.95  # a further thread has to save 5 % of a step's time
CLEARLY_SLOWER = 1.2
LOSS_TOLERANCE = 0.02  # of the mean loss of the compared steps
SMALLEST_LOSS = 1e-6  # a network that has nothing to tell apart loses nothing


@dataclass(frozen=True)
class Settings:
    """How training runs on this machine; `why` says in words what was measured."""

    threads: int
    precision: Precision
    why: str = ""


@dataclass(frozen=True, eq=False)
class TuningProbe:
    """Real training steps from the training's own start, on its own first images, at a tenth of its learning rate.

    In batches of 128 images of 32x32 at most, or of as many pixels, and of a quarter of it for precision.
    """

    network: Network
    train: Split
    preprocessing: Preprocessing
    recipe: Recipe
    seed: int

    @cached_property
    def torch_works(self) -> bool:
        """Whether torch's threads have a part in it: they wait for each other, where the kernels' give way."""
        return backend.native is None or leaves_work_to_torch(build_model(self.network, self.seed))

    def seconds_per_step(self, threads: int) -> float:
        """Median of some float32 steps; the first, which makes everything ready, is left out."""
        use_threads(threads)
        moments: list[float] = []
        self._run("float32", TIMED_STEPS + 1, TIMED_PIXELS, lambda _: moments.append(time.perf_counter()))
        return statistics.median(np.diff(moments)) if len(moments) > 1 else 0.0

    def loss(self, precision: Precision) -> float:
        """Mean loss of some steps; NaN where it did not stay a finite number."""
        means: list[float] = []
        whole = self._run(precision, COMPARED_STEPS, COMPARED_PIXELS, lambda now: means.append(now.loss))
        return means[-1] if whole else math.nan

    def _run(self, precision: Precision, steps: int, pixels: int, after_batch: Callable[[Progress], None]) -> bool:
        """Whether its losses stayed finite numbers; that they did not is for the training itself to report."""
        height, width, _ = self.train.shape
        batch = min(self.recipe.batch, max(2, pixels // (height * width)))
        images = self.train.take(np.arange(min(len(self.train), steps * batch)))
        recipe = self.recipe.slower(10).model_copy(update={"batch": batch, "epochs": 1, "least_steps": 0})
        model, one = build_model(self.network, self.seed), images.take(np.arange(1))
        try:
            fit(model, images, one, self.preprocessing, recipe, self.seed, precision=precision, after_batch=after_batch)
        except ConvscopeError:
            return False
        return True


def autotune(trial: TuningProbe, threads: int | None = None) -> Settings:
    """The fastest number of threads, unless given, and the recipe's precision.

    `auto` becomes bf16 where the processor multiplies in it and the first steps' mean loss is that of float32 within
    2 %. That depends on no clock, so that every run on a machine decides alike; another number of threads changes
    only the last bits of the sums.
    """
    threads = threads or _fastest(trial)
    use_threads(threads, trial.torch_works)
    wanted = trial.recipe.precision
    if wanted != "auto":
        return Settings(threads, wanted)
    if not has_bf16():
        return Settings(threads, "float32", "this processor has no bf16 arithmetic")
    exact, rounded = trial.loss("float32"), trial.loss("bf16")
    for precision, loss in (("bf16", rounded), ("float32", exact)):
        if not math.isfinite(loss):
            return Settings(threads, "float32", f"the first losses in {precision} did not stay finite")
    difference = abs(rounded - exact) / max(exact, SMALLEST_LOSS)
    if difference <= LOSS_TOLERANCE:
        return Settings(threads, "bf16", f"its first losses are those of float32 within {100 * difference:.2g} %")
    return Settings(threads, "float32", f"the first losses in bf16 were {100 * difference:.1f} % off")


def _fastest(trial: TuningProbe) -> int:
    """Downwards from all threads, until fewer are clearly slower; all of them where only kernels work."""
    best = max_threads()
    if best == 1 or not trial.torch_works:
        return best
    least = trial.seconds_per_step(best)
    for threads in range(best - 1, 0, -1):
        seconds = trial.seconds_per_step(threads)
        if seconds > CLEARLY_SLOWER * least:
            break
        if seconds < least / WORTH:
            best, least = threads, min(least, seconds)
    return best
