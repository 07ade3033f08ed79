"""Progress on stderr: bars on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from convscope._reporting import Reporter
from convscope._text import duration, escape_controls, percent, pluralize
from convscope.cli.console import print_message
from convscope.data.cache.pixel_cache import DECODING
from convscope.data.folders.archive import UNPACKING
from convscope.training.callbacks import Callback, Trainer
from convscope.training.finetuning.tail import EXTRACTING

if TYPE_CHECKING:
    from convscope.training.state import Progress

CLASSIFYING = "classifying"  # the task of `convscope predict`
ANNOUNCE_AFTER_S, MIN_ANNOUNCED_S = 1.0, 10.0
MIN_ANNOUNCED_FILES = 500


class CliReporter(Reporter):
    """Writes messages to stderr, and shows progress there.

    Inside a `with` block on a terminal, every task has a bar, which disappears at the end of the block. Otherwise there
    is one line per download, and one per decoding of many files.
    """

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._announced: set[str] = set()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            figures = TextColumn("{task.fields[figures]}")
            columns = (TextColumn("{task.description}"), BarColumn(), figures, TimeRemainingColumn())
            self._bars = Bars(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()
            self._bars = None

    def message(self, text: str) -> None:
        """Write one line, above the bars if there are any."""
        if self._bars:
            self._bars.console.print(escape_controls(text), markup=False, highlight=False, soft_wrap=True)
        else:
            print_message(text)

    def progress(self, task: str, done: int, total: int | None) -> None:
        """Update the bar of a task; without bars, announce the task once."""
        if self._bars is None:
            self._announce(task, total)
            return
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(escape_controls(task), completed=done, total=total, figures="")
        speed = next((bar.speed for bar in self._bars.tasks if bar.id == self._tasks[task]), None)
        figures = _amount(task, done, total) + (
            f", {speed:,.0f}/s" if speed and task in (CLASSIFYING, EXTRACTING) else ""
        )
        self._bars.update(self._tasks[task], completed=done, total=total, figures=figures)

    def _announce(self, task: str, total: int | None) -> None:
        if task not in self._announced and (task != DECODING or (total or 0) >= MIN_ANNOUNCED_FILES):
            self._announced.add(task)
            started = {
                CLASSIFYING: CLASSIFYING,
                DECODING: f"decoding {total:,} files" if total else DECODING,
                UNPACKING: "unpacking into the cache",
                EXTRACTING: f"computing the features of {total:,} images" if total else EXTRACTING,
            }
            self.message(started.get(task, f"downloading {task}"))


def _amount(task: str, done: int, total: int | None) -> str:
    if task == DECODING:
        return f"{done:,} of {total:,} files"
    if task in (CLASSIFYING, EXTRACTING):
        return f"{done:,} of {total:,} images" if total else f"{done:,} images"
    if task == UNPACKING:
        return f"{done:,} files"
    return f"{done / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB"


@contextmanager
def training_display(validation_name: str = "validation", announce: bool = True) -> Iterator[TrainingDisplay]:
    """The callback that shows the progress of training: a bar on a terminal, lines elsewhere; see `TrainingDisplay`."""
    if not sys.stderr.isatty():
        yield TrainingLines(validation_name, announce)
        return
    columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield TrainingBar(validation_name, announce, bars)


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
        print_message(text)

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
        self.bars.console.print(escape_controls(text), markup=False, highlight=False)


def _metrics(progress: Progress) -> str:
    accuracy = "-" if progress.accuracy is None else percent(progress.accuracy)
    return f"loss {progress.loss:.4f}  accuracy {accuracy}"


def _left(progress: Progress) -> str:
    return f"{duration(progress.seconds_left)} left"
