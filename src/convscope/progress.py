"""How far long work has come: a bar on a terminal, one line per epoch or file elsewhere; always on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from convscope.data.store import DECODING
from convscope.display import duration

if TYPE_CHECKING:
    from convscope.train import Progress

MANY_FILES = 500  # whose decoding takes long enough to be told


@contextmanager
def training(epochs: int) -> Iterator[Callable[[Progress], None]]:
    """What `fit` calls after every batch."""
    if not sys.stderr.isatty():
        yield _line_at_epoch_end
        return
    columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, epoch=f"1/{epochs}", figures="")

        def watch(now: Progress) -> None:
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


def _line_at_epoch_end(now: Progress) -> None:
    """After about ten of the epochs, whatever their number, and after the last."""
    epoch_ended = now.step * now.epochs == now.epoch * now.steps
    if epoch_ended and (now.epoch % ceil(now.epochs / 10) == 0 or now.epoch == now.epochs):
        sys.stderr.write(f"epoch {now.epoch}/{now.epochs}  {_figures(now)}\n")


def _figures(now: Progress) -> str:
    return (
        f"loss {now.loss:.4f}  accuracy {100 * now.accuracy:.2f} %  {now.images_per_second:,.0f} images/s  "
        f"{duration(now.seconds_left)} left"
    )
