"""What the words of `convscope train` ask for: the data that are read, and the plan that is carried out.

torch is imported beside the reading of the data.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import typer

from convscope import progress
from convscope.data import Reading, load, load_default
from convscope.errors import UsageError
from convscope.recipes import changed, recipe_named
from convscope.runs import unfinished

if TYPE_CHECKING:
    from convscope.experiment import Plan

Say = Callable[[str], None]


@contextmanager
def importing(module: str) -> Iterator[None]:
    """Import what takes long beside the block, which mostly waits for files."""

    def work() -> None:
        gc.disable()  # it would go through the million objects that stay over and over
        try:
            with suppress(Exception):  # whoever needs it says so
                import_module(module)
        finally:
            gc.freeze()
            gc.enable()

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def reading_of(size: int | None, channels: Any, crop: bool, group_by: str | None) -> Reading:
    """What was asked for of pictures."""
    if channels not in (None, 1, 3, 4):
        raise UsageError(f"--channels {channels}: expected 1, 3 or 4")
    return Reading(size=size, channels=channels, fit="crop" if crop else "letterbox", group_by=group_by)


def stands_alone(context: typer.Context, option: str, beside: set[str]) -> None:
    """Raises UsageError where any other option or argument was given but those `beside` it."""

    def was_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name != "DEFAULT"

    given = [
        str(parameter.name).upper() if parameter.param_type_name == "argument" else parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in beside and was_given(str(parameter.name))
    ]
    if given:
        raise UsageError(f"{option} goes on as the run's config.json says: leave out {', '.join(given)}")


def new_plan(
    data: str | None,
    reading: Reading,
    model: str | None,
    recipe: str,
    wishes: dict[str, Any],
    seed: int,
    threads: int | None,
    say: Say,
) -> Plan:
    """The plan of a training; `wishes` are values of the recipe, None where there is none."""
    changed(recipe_named(recipe), **wishes)  # a slip of the pen shows before anything is loaded
    with progress.loading() as downloading, importing("convscope.experiment"):
        dataset = load(data, downloading, reading, say) if data else load_default(say, downloading)
    from convscope import experiment  # it is there by now

    chosen = changed(recipe_named(recipe, dataset.kind), **wishes)
    return experiment.plan(dataset, model, chosen, seed=seed, threads=threads, origin=data or dataset.name)


def plan_again(run: Path, say: Say) -> Plan:
    """The plan of a training that was stopped or killed."""
    unfinished(run)  # a slip of the pen shows before anything is loaded
    from convscope.resume import planned_again

    with progress.loading() as downloading:
        return planned_again(run, None, say, downloading)
