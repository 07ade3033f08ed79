"""How far long work has come: a bar on a terminal, one line per epoch or file elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from convscope._reporting import Reporter
from convscope._text import duration, percent, pluralize
from convscope.data.cache.pixel_cache import DECODING
from convscope.training.callbacks import Callback, Trainer

if TYPE_CHECKING:
    from convscope.training.state import Progress

ANNOUNCE_AFTER_S, MIN_ANNOUNCED_S = 1.0, 10.0
MANY_FILES = 500  # whose decoding takes long enough to be told


@contextmanager
def training(validation_name: str = "validation", announce: bool = True) -> Iterator[TrainingDisplay]:
    """The callback that shows the progress of training: a bar on a terminal, lines elsewhere; see `TrainingDisplay`."""
    if not sys.stderr.isatty():
        yield TrainingLines(validation_name, announce)
        return
    columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield TrainingBar(validation_name, announce, bars)


class StderrReporter(Reporter):
    """Writes messages to stderr, and one line for each download and each long decoding."""

    def __init__(self) -> None:
        self.named: set[str] = set()

    def message(self, text: str) -> None:
        """Write one line."""
        sys.stderr.write(f"{text}\n")

    def progress(self, task: str, done: int, total: int | None) -> None:  # noqa: ARG002
        """Name the task when it begins."""
        if task not in self.named and (task != DECODING or (total or 0) >= MANY_FILES):
            self.named.add(task)
            self.message(f"decoding {total:,} files" if task == DECODING else f"downloading {task}")


class _BarReporter(Reporter):
    """A bar for each task; messages appear above the bars."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}

    def message(self, text: str) -> None:
        self.bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, task: str, done: int, total: int | None) -> None:
        if task not in self.tasks:
            self.tasks[task] = self.bars.add_task(task, total=total, figures="")
        self.bars.update(self.tasks[task], completed=done, total=total, figures=_so_far(task, done, total))


@contextmanager
def loading() -> Iterator[Reporter]:
    """The reporter for loading data: bars on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield StderrReporter()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _BarReporter(bars)


def _so_far(name: str, done: int, total: int | None) -> str:
    if name == DECODING:
        return f"{done:,} of {total:,} files"
    return f"{done / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB"


class TrainingDisplay(Callback):
    """Shows the progress of training; after the first second, also how long all of it takes, if that is long.

    Args:
        validation_name: the split that each epoch is measured on.
        announce: whether to say how long training takes; with a budget, the user knows.
    """

    def __init__(self, validation_name: str, announce: bool) -> None:
        self.validation_name, self.announce = validation_name, announce
        self.started: float | None = None
        self.progress: Progress | None = None
        self.validation = ""

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Record the progress, and announce the duration once it is known."""
        self.progress = trainer.state.progress()
        if text := self._announcement(self.progress):
            self.write(text)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Record the validation accuracy."""
        accuracy = trainer.result.history[-1].validation_accuracy
        self.validation = f"  {self.validation_name} {percent(accuracy)}"

    def write(self, text: str) -> None:
        """Write one line to stderr."""
        sys.stderr.write(f"{text}\n")

    def _announcement(self, progress: Progress) -> str:
        now = time.monotonic()
        self.started = now if self.started is None else self.started
        elapsed = now - self.started
        if not self.announce or elapsed < ANNOUNCE_AFTER_S:
            return ""
        self.announce = False
        total = elapsed + progress.seconds_left
        if total < MIN_ANNOUNCED_S:
            return ""
        return f"about {duration(total)} for {pluralize(progress.epochs, 'epoch')} on this machine"


class TrainingLines(TrainingDisplay):
    """Writes a line after about ten of the epochs, and after the last."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Write the line."""
        super().on_epoch_end(trainer)
        now = self.progress
        if now and (now.epoch % ceil(now.epochs / 10) == 0 or now.step >= now.steps):
            self.write(
                f"epoch {now.epoch}/{now.epochs}  {_metrics(now)}{self.validation}  "
                f"{now.images_per_second:,.0f} images/s  {_left(now)}"
            )


class TrainingBar(TrainingDisplay):
    """Shows a bar that disappears, with the metrics so far and the last epoch's validation accuracy."""

    def __init__(self, validation_name: str, announce: bool, bars: Bars) -> None:
        super().__init__(validation_name, announce)
        self.bars = bars
        self.task = bars.add_task("", total=None, epoch="1", figures="")

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Update the bar."""
        super().on_train_batch_end(trainer)
        now = self.progress
        assert now is not None
        self.bars.update(
            self.task,
            completed=now.step,
            total=now.steps,
            epoch=f"{now.epoch}/{now.epochs}",
            figures=f"{_metrics(now)}{self.validation}  {_left(now)}",
        )

    def write(self, text: str) -> None:
        """Write one line above the bar."""
        self.bars.console.print(text, markup=False, highlight=False)


def _metrics(progress: Progress) -> str:
    return f"loss {progress.loss:.4f}  accuracy {percent(progress.accuracy)}"


def _left(progress: Progress) -> str:
    return f"{duration(progress.seconds_left)} left"
