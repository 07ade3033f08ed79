"""How fast this machine trains: the article's network beside the same in plain PyTorch, and the kernels' roofline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from convscope._hardware import HardwareInfo, busy_share, hardware_info, has_bf16, keep_memory, last_cache, max_threads
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

IMAGES, CLASSES = 60_000, 10
RECIPE = RECIPES["article"]
PEER = "PyTorch eager, float32"
WARM_UP_STEPS, MIN_SLICES, MAX_SLICES = 10, 3, 9
KERNEL_SHARE, ROUNDS = 0.25, 5  # of the time goes to the kernels, that often
UNSTEADY, LOADED = 1.15, 0.1  # what is no longer a quiet machine

Program = Callable[[int], float]  # seconds of so many training steps


@dataclass(frozen=True)
class Training:
    """One program's epoch; `speed` is how many times as fast as plain PyTorch, slice by slice, the median."""

    program: str
    images_per_second: float
    epoch_seconds: Summary
    speed: float


@dataclass(frozen=True)
class Bench:
    """What was measured: every program in `slices` slices of `steps` batches in turn, scaled to an epoch.

    `kernels` names those that ran, `reason` says why they are torch's; `roofline` is then None. `load` is the share of
    all cores that others used just before, None where that is not known.
    """

    machine: HardwareInfo
    load: float | None
    last_cache_bytes: int | None
    kernels: str
    reason: str
    images: int
    batch: int
    steps: int
    slices: int
    training: tuple[Training, ...]
    roofline: Roofline | None

    @property
    def unsteady(self) -> float:
        """How many times as long as its fastest slice a program's slowest took, at most: 1 on a quiet machine."""
        return max(row.epoch_seconds.max / row.epoch_seconds.min for row in self.training)

    @property
    def busy(self) -> bool:
        """Whether other work ran beside, so that the numbers say little."""
        return self.unsteady > UNSTEADY or (self.load or 0) > LOADED

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "machine": self.machine.model_dump(),
            "load": self.load,
            "last_cache_bytes": self.last_cache_bytes,
            "kernels": self.kernels,
            "reason": self.reason,
            "images": self.images,
            "batch": self.batch,
            "steps": self.steps,
            "slices": self.slices,
            "unsteady": self.unsteady,
            "busy": self.busy,
            "training": [
                {**vars(row), "epoch_seconds": row.epoch_seconds.model_dump(mode="json")} for row in self.training
            ],
            "roofline": None if self.roofline is None else self.roofline.model_dump(mode="json"),
        }


def measure(
    threads: int | None = None,
    seconds: float = 12.0,
    images: int = IMAGES,
    kernels: Callable[[], list[Kernel]] = article_kernels,
) -> Bench:
    """Everything, in about so many seconds and on so many threads (all by default); images are random."""
    load, threads = busy_share(), threads or max_threads()
    keep_memory()
    use_threads(threads)
    random = np.random.default_rng(0)
    data = Split(random.integers(0, 256, (images, *MNIST_SHAPE), np.uint8), random.integers(0, CLASSES, images))
    steps, times = in_turn(programs(data), seconds * (1 - KERNEL_SHARE), RECIPE.batches_per_epoch(images) - 1)
    chosen = kernels() if backend.native is not None else []
    each = seconds * KERNEL_SHARE / ROUNDS / max(1, len(chosen))
    return Bench(
        hardware_info(threads),
        load,
        last_cache(),
        backend.variant(),
        backend.reason,
        images,
        RECIPE.batch_size,
        steps,
        len(times[PEER]),
        tuple(training_rows(times, steps, images)),
        roofline(chosen, threads, ROUNDS, each) if chosen else None,
    )


def programs(data: Split) -> dict[str, Program]:
    """What is compared, each ready to go on training from where it stopped."""
    compared = {"convscope, float32": ours(data, "float32")}
    if has_bf16():
        compared["convscope, bf16"] = ours(data, "bf16")
    return {**compared, PEER: plain(data)}


def ours(data: Split, precision: Precision) -> Program:
    """convscope's own loop on the article's network and recipe; the first step of a slice is not timed."""
    model, one = build_model(parse_network(PRESETS["article"], MNIST_SHAPE, CLASSES)), data.take(np.arange(1))
    config = TrainConfig(Preprocessing.plain(one.images), RECIPE, precision=precision)

    def run(steps: int) -> float:
        timer = _StepTimer(steps)
        fit(model, data, one, config, [timer])
        return timer.times[-1] - timer.times[0]

    return run


class _StepTimer(Callback):
    """Records when each step ends, and stops training after one more than `steps`."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Record the time."""
        self.times.append(time.perf_counter())
        trainer.stop_training = len(self.times) > self.steps


def plain(data: Split) -> Program:
    """The same as one writes it in PyTorch: its layers, its loss, its optimizer, images in memory as float32.

    It runs in this process, so with convscope's ways to keep memory and to wait, which do not make it slower.
    """
    model = plain_network()
    images = as_batch(data.images.astype(np.float32) / np.float32(255)).contiguous()
    labels = torch.from_numpy(np.array(data.labels, np.int64))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RECIPE.optimizer.learning_rate, momentum=RECIPE.optimizer.momentum
    )

    def run(steps: int) -> float:
        moments, loss_sum, correct = [], 0.0, 0
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
            moments.append(time.perf_counter())
        return moments[-1] - moments[0]

    return run


def plain_network() -> nn.Sequential:
    """The article's network without anything of ours: 542,230 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5408, 100),
        nn.ReLU(),
        nn.Linear(100, CLASSES),
    )


def in_turn(programs: Mapping[str, Program], seconds: float, most_steps: int) -> tuple[int, dict[str, list[float]]]:
    """All programs slice by slice in turn, together for about so many seconds: the steps of a slice, and its times.

    At least three slices, of up to `most_steps` steps, are made of each.
    """
    warm_up = min(WARM_UP_STEPS, most_steps)
    for run in programs.values():
        run(warm_up)
    step = sum(run(warm_up) for run in programs.values()) / warm_up  # of each program one
    steps = max(warm_up, min(most_steps, round(seconds / MIN_SLICES / step)))
    slices = max(MIN_SLICES, min(MAX_SLICES, round(seconds / steps / step)))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(slices):
        for name, run in programs.items():
            times[name].append(run(steps))
    return steps, times


def training_rows(times: Mapping[str, list[float]], steps: int, images: int) -> list[Training]:
    """Slices of so many steps, scaled to an epoch of so many images."""
    epochs = steps * RECIPE.batch_size / images  # in a slice
    rows = []
    for name, slices in times.items():
        seconds = Summary.of(slices).scaled(1 / epochs)
        speed = median(theirs / mine for theirs, mine in zip(times[PEER], slices, strict=True))
        rows.append(Training(name, images / seconds.median, seconds, speed))
    return rows
