"""How far long work has come: a bar on a terminal, one line per epoch or file elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from convscope._reporting import Reporter
from convscope._text import duration, percent, pluralize
from convscope.data.cache.pixel_cache import DECODING

if TYPE_CHECKING:
    from convscope.training.state import Epoch, Progress

KNOWN_AFTER, WORTH_SAYING = 1.0, 10.0  # seconds: of training that tell how long it takes, and of one that is long
MANY_FILES = 500  # whose decoding takes long enough to be told


@contextmanager
def training(epochs: int, measured_on: str = "validation", by_the_clock: bool = False) -> Iterator[Watch]:
    """What `fit` calls after every batch and epoch; how long it all takes is told early, where no clock ends it."""
    expected = (lambda _: "") if by_the_clock else _Expected()
    if not sys.stderr.isatty():
        yield _Lines(measured_on, expected)
        return
    columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, epoch=f"1/{epochs}", figures="")
        yield _Bar(measured_on, expected, bars=bars, task=task)


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


class _Expected:
    """Once, as soon as it can be known, a line that says how long the training takes; nothing where it is short."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.said = False

    def __call__(self, now: Progress) -> str:
        moment = time.monotonic()
        self.first = moment if self.first is None else self.first
        passed = moment - self.first
        if self.said or passed < KNOWN_AFTER:
            return ""
        self.said = True
        if passed + now.seconds_left < WORTH_SAYING:
            return ""
        return f"about {duration(passed + now.seconds_left)} for {pluralize(now.epochs, 'epoch')} on this machine\n"


@dataclass
class Watch:
    """What happens after every batch and after every epoch, whose validation images may be those of the test set."""

    measured_on: str
    expected: Callable[[Progress], str]
    last: Progress | None = None
    validation: str = ""

    def batch(self, now: Progress) -> None:
        """Note where training stands."""
        self.last = now

    def epoch(self, done: Epoch) -> None:
        """Note what the epoch reached."""
        self.validation = f"  {self.measured_on} {percent(done.validation_accuracy)}"


class _Lines(Watch):
    """A line after about ten of the epochs, whatever their number, and after the last."""

    def batch(self, now: Progress) -> None:
        super().batch(now)
        sys.stderr.write(self.expected(now))

    def epoch(self, done: Epoch) -> None:
        super().epoch(done)
        now = self.last
        if now and (now.epoch % ceil(now.epochs / 10) == 0 or now.step >= now.steps):
            sys.stderr.write(
                f"epoch {now.epoch}/{now.epochs}  {_figures(now)}{self.validation}  "
                f"{now.images_per_second:,.0f} images/s  {_left(now)}\n"
            )


@dataclass
class _Bar(Watch):
    """A bar that goes away, with the last epoch's validation accuracy beside this one's figures so far."""

    bars: Bars = field(kw_only=True)
    task: TaskID = field(kw_only=True)

    def batch(self, now: Progress) -> None:
        super().batch(now)
        self.bars.console.print(self.expected(now), end="", markup=False, highlight=False)
        self.bars.update(
            self.task,
            completed=now.step,
            total=now.steps,
            epoch=f"{now.epoch}/{now.epochs}",
            figures=f"{_figures(now)}{self.validation}  {_left(now)}",
        )


def _figures(now: Progress) -> str:
    return f"loss {now.loss:.4f}  accuracy {percent(now.accuracy)}"


def _left(now: Progress) -> str:
    return f"{duration(now.seconds_left)} left"
