"""How far long work has come: a bar on a terminal, one line per epoch or file elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from convscope.data.store import DECODING
from convscope.words import counted, duration

if TYPE_CHECKING:
    from convscope.course import Progress

KNOWN_AFTER, WORTH_SAYING = 1.0, 10.0  # seconds: of training that tell how long it takes, and of one that is long
MANY_FILES = 500  # whose decoding takes long enough to be told


@contextmanager
def training(epochs: int, by_the_clock: bool = False) -> Iterator[Callable[[Progress], None]]:
    """What `fit` calls after every batch; how long all epochs take is told early, where no clock ends them."""
    expected = (lambda _: "") if by_the_clock else _Expected()
    if not sys.stderr.isatty():

        def write(now: Progress) -> None:
            sys.stderr.write(expected(now))
            _line_at_epoch_end(now)

        yield write
        return
    columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, epoch=f"1/{epochs}", figures="")

        def watch(now: Progress) -> None:
            bars.console.print(expected(now), end="", markup=False, highlight=False)
            bars.update(
                task, completed=now.step, total=now.steps, epoch=f"{now.epoch}/{now.epochs}", figures=_figures(now)
            )

        yield watch


@contextmanager
def loading() -> Iterator[Callable[[str, int, int | None], None]]:
    """What `load` calls: the file's name, bytes done, and bytes in all where that is known; or decoded files."""
    if not sys.stderr.isatty():
        said: set[str] = set()

        def name_once(name: str, _done: int, total: int | None) -> None:
            if name not in said and (name != DECODING or (total or 0) >= MANY_FILES):
                said.add(name)
                sys.stderr.write(f"decoding {total:,} files\n" if name == DECODING else f"downloading {name}\n")

        yield name_once
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def watch(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total, figures="")
            bars.update(tasks[name], completed=done, total=total, figures=_so_far(name, done, total))

        yield watch


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
        return f"about {duration(passed + now.seconds_left)} for {counted(now.epochs, 'epoch')} on this machine\n"


def _line_at_epoch_end(now: Progress) -> None:
    """After about ten of the epochs, whatever their number, and after the last."""
    if now.ends_epoch and (now.epoch % ceil(now.epochs / 10) == 0 or now.step == now.steps):
        sys.stderr.write(f"epoch {now.epoch}/{now.epochs}  {_figures(now)}\n")


def _figures(now: Progress) -> str:
    return (
        f"loss {now.loss:.4f}  accuracy {100 * now.accuracy:.2f} %  {now.images_per_second:,.0f} images/s  "
        f"{duration(now.seconds_left)} left"
    )
