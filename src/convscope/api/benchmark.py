"""Training speed of this machine: the article's network, compared with plain PyTorch, and the kernels' roofline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np
import torch
from pydantic import computed_field
from torch import nn
from torch.nn import functional

from convscope._hardware import (
    HardwareInfo,
    busy_fraction,
    hardware_info,
    has_bf16,
    keep_freed_memory,
    last_level_cache,
    max_threads,
)
from convscope._records import Record
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision, use_threads
from convscope.backends.native.roofline import Roofline, Summary, roofline
from convscope.backends.native.roofline_kernels import Kernel, article_kernels
from convscope.backends.pytorch.models import as_batch, build_model
from convscope.data.dataset import Split
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.presets import MNIST_SHAPE, PRESETS
from convscope.training.callbacks import Callback, Trainer
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
from convscope.training.recipes import RECIPES

N_IMAGES, N_CLASSES = 60_000, 10
RECIPE = RECIPES["article"]
BASELINE = "PyTorch eager, float32"
WARM_UP_STEPS, MIN_SLICES, MAX_SLICES = 10, 3, 9
KERNEL_TIME_FRACTION, KERNEL_ROUNDS = 0.25, 5
MAX_SLICE_RATIO, MAX_LOAD = 1.15, 0.1  # of a quiet machine

Program = Callable[[int], float]  # trains for a number of steps and returns the seconds they took


class ProgramTiming(Record):
    """Training speed of one program; `speedup` is its speed as a multiple of plain PyTorch's, a median over slices."""

    program: str
    images_per_second: float
    epoch_seconds: Summary
    speedup: float


class BenchmarkResult(Record):
    """Times of programs that took turns, each in `slices` slices of `steps` batches, scaled to an epoch.

    `kernels` names the kernels in use. Without native ones, `reason` says why, and `roofline` is None. `load` is the
    fraction, 0..1, of all cores that other processes kept busy before the measurement, None if it is unknown.
    """

    machine: HardwareInfo
    load: float | None
    last_cache_bytes: int | None
    kernels: str
    reason: str
    images: int
    batch_size: int
    steps: int
    slices: int
    training: tuple[ProgramTiming, ...]
    roofline: Roofline | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def slice_ratio(self) -> float:
        """The slowest slice of a program divided by its fastest, the largest over programs; 1 on a quiet machine."""
        return max(row.epoch_seconds.max / row.epoch_seconds.min for row in self.training)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def busy(self) -> bool:
        """Whether other processes disturbed the measurement."""
        return self.slice_ratio > MAX_SLICE_RATIO or (self.load or 0) > MAX_LOAD


def run_benchmark(
    threads: int | None = None,
    seconds: float = 12.0,
    images: int = N_IMAGES,
    kernels: Callable[[], list[Kernel]] = article_kernels,
) -> BenchmarkResult:
    """Measure training and kernels on random images.

    Args:
        threads: Processor threads; by default one per core.
        seconds: Approximate duration.
        images: Number of images in the data set.
        kernels: Creates the kernels to measure.
    """
    load, threads = busy_fraction(), threads or max_threads()
    keep_freed_memory()
    use_threads(threads)
    random = np.random.default_rng(0)
    data = Split(random.integers(0, 256, (images, *MNIST_SHAPE), np.uint8), random.integers(0, N_CLASSES, images))
    training_seconds = seconds * (1 - KERNEL_TIME_FRACTION)
    steps, times = time_in_turns(make_programs(data), training_seconds, RECIPE.batches_per_epoch(images) - 1)
    measured = kernels() if backend.native is not None else []
    kernel_seconds = seconds * KERNEL_TIME_FRACTION / KERNEL_ROUNDS / max(1, len(measured))
    return BenchmarkResult(
        machine=hardware_info(threads),
        load=load,
        last_cache_bytes=last_level_cache(),
        kernels=backend.variant(),
        reason=backend.reason,
        images=images,
        batch_size=RECIPE.batch_size,
        steps=steps,
        slices=len(times[BASELINE]),
        training=tuple(summarize_times(times, steps, images)),
        roofline=roofline(measured, threads, KERNEL_ROUNDS, kernel_seconds) if measured else None,
    )


def make_programs(data: Split) -> dict[str, Program]:
    """The programs to compare by name; each continues its training whenever it is called."""
    programs = {"convscope, float32": convscope_program(data, "float32")}
    if has_bf16():
        programs["convscope, bf16"] = convscope_program(data, "bf16")
    return {**programs, BASELINE: pytorch_program(data)}


def convscope_program(data: Split, precision: Precision) -> Program:
    """convscope's training loop with the network and the recipe of the article; the first step is not timed."""
    model, one = build_model(parse_network(PRESETS["article"], MNIST_SHAPE, N_CLASSES)), data.take(np.arange(1))
    config = TrainConfig(Preprocessing.plain(one.images), RECIPE, precision=precision)

    def run(steps: int) -> float:
        timer = _StepTimer(steps)
        fit(model, data, one, config, [timer])
        return timer.times[-1] - timer.times[0]

    return run


class _StepTimer(Callback):
    """Records when each step ends, and stops training after one step more than `steps`."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Record the time."""
        self.times.append(time.perf_counter())
        trainer.stop_training = len(self.times) > self.steps


def pytorch_program(data: Split) -> Program:
    """The same training in plain PyTorch: layers, loss and optimizer of torch, images in memory as float32.

    It runs in this process, and so with convscope's settings for memory and threads; they do not slow it down.
    """
    model = pytorch_network()
    images = as_batch(data.images.astype(np.float32) / np.float32(255)).contiguous()
    labels = torch.from_numpy(np.array(data.labels, np.int64))
    settings = RECIPE.optimizer
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=settings.momentum)

    def run(steps: int) -> float:
        times, loss_sum, correct = [], 0.0, 0
        order = torch.randperm(len(images))
        for index in torch.split(order[: (steps + 1) * RECIPE.batch_size], RECIPE.batch_size):
            pixels, targets = images[index], labels[index]
            optimizer.zero_grad()
            logits = model(pixels)
            loss = functional.cross_entropy(logits, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += loss.item() * len(index)
            correct += int((logits.argmax(1) == targets).sum())
            times.append(time.perf_counter())
        return times[-1] - times[0]

    return run


def pytorch_network() -> nn.Sequential:
    """The article's network in torch's own layers: 542,230 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5408, 100),
        nn.ReLU(),
        nn.Linear(100, N_CLASSES),
    )


def time_in_turns(
    programs: Mapping[str, Program], seconds: float, max_steps: int
) -> tuple[int, dict[str, list[float]]]:
    """Time slices of all programs in turn, so that a change of the machine's speed affects them equally.

    Args:
        programs: By name.
        seconds: Approximate duration; each program gets at least three slices, whatever they take.
        max_steps: Upper limit for the steps of a slice.

    Returns:
        The number of steps in a slice, and the seconds of each slice by program.
    """
    warm_up = min(WARM_UP_STEPS, max_steps)
    for run in programs.values():
        run(warm_up)
    step_seconds = sum(run(warm_up) for run in programs.values()) / warm_up  # one step of each program
    steps = max(warm_up, min(max_steps, round(seconds / MIN_SLICES / step_seconds)))
    slices = max(MIN_SLICES, min(MAX_SLICES, round(seconds / steps / step_seconds)))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(slices):
        for name, run in programs.items():
            times[name].append(run(steps))
    return steps, times


def summarize_times(times: Mapping[str, list[float]], steps: int, images: int) -> list[ProgramTiming]:
    """Scale slices of `steps` batches to an epoch of `images` images, and compare them with plain PyTorch's."""
    epochs_per_slice = steps * RECIPE.batch_size / images
    rows = []
    for name, slices in times.items():
        seconds = Summary.of(slices).scaled(1 / epochs_per_slice)
        speedup = median(theirs / ours for theirs, ours in zip(times[BASELINE], slices, strict=True))
        per_second = images / seconds.median
        rows.append(ProgramTiming(program=name, images_per_second=per_second, epoch_seconds=seconds, speedup=speedup))
    return rows
