"""What the words of `convscope train` ask for: the data that are read, and the plan that is carried out.

torch is imported beside the reading of the data.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import typer

from convscope._hardware import process_start, usable_cores
from convscope.cli import progress
from convscope.data.load import load_data, load_default
from convscope.data.options import LoadOptions
from convscope.errors import UsageError
from convscope.runs.folder import open_run, unfinished
from convscope.training.recipes import changed, recipe_for, recipe_named

if TYPE_CHECKING:
    from convscope.api.train import Plan

READY = 10.0  # seconds of a budget that decoding, trials and results take, about


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


def seconds_of(text: str | None) -> float | None:
    """The seconds that a text such as 90, 60s, 2min or 1.5h names. Raises UsageError for another.

    >>> seconds_of("90"), seconds_of("2 min"), seconds_of("1.5h"), seconds_of(None)
    (90.0, 120.0, 5400.0, None)
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|)\s*", text)
    if not found or not float(found[1]):
        raise UsageError(f"--budget {text!r}: expected a time such as 60s, 2min or 1.5h")
    return float(found[1]) * {"h": 3600, "m": 60, "min": 60}.get(found[2], 1)


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
    reading: LoadOptions,
    model: str | None,
    recipe: str | None,
    wishes: dict[str, Any],
    seed: int,
    threads: int | None,
    budget: str | None,
) -> Plan:
    """The plan of a training; `wishes` are values of the recipe, None where there is none.

    Without a recipe it is `default`, or with a budget the most accurate one that there is time for.
    """
    seconds = seconds_of(budget)
    if seconds and wishes.get("epochs"):
        raise UsageError("--budget and --epochs: give one of them, for each says when training ends")
    changed(recipe_named(recipe or "default"), **wishes)  # a slip of the pen shows before anything is loaded
    core_seconds = seconds and max(seconds - READY, 1) * usable_cores()
    if core_seconds and not reading.image_size:
        reading = reading.model_copy(update={"core_seconds": core_seconds})
    with progress.loading() as reporter, importing("convscope.api.train"):
        dataset = load_data(data, reading, reporter) if data else load_default(reporter)
    from convscope.api import train as experiment  # it is there by now
    from convscope.training.budget import Budget

    if core_seconds and not recipe:
        recipe = recipe_for(core_seconds, dataset.kind, dataset.train.store[0].size * len(dataset.train))
    chosen = changed(recipe_named(recipe or "default", dataset.kind), **wishes)
    return experiment.plan(
        dataset, model, chosen, seed=seed, threads=threads, origin=data or dataset.name,
        budget=Budget(seconds, process_start()) if seconds else None,
    )  # fmt: skip


def needs_resume(more_epochs: int | None) -> None:
    """Raises UsageError where there are more epochs of nothing."""
    if more_epochs:
        raise UsageError("--more-epochs needs the finished training that it goes on from: --resume RUN")


def plan_again(context: typer.Context, run: Path, more_epochs: int | None) -> Plan:
    """The plan of a training that was stopped or killed, or of more epochs for one that is finished."""
    more = {"more_epochs", "run"} if more_epochs else set()
    stands_alone(context, "--resume", {"resume", "checkpoint_every", "as_json", *more})
    check = open_run if more_epochs else unfinished
    check(run)  # a slip of the pen shows before anything is loaded
    from convscope.api.resume import planned_again, planned_more

    with progress.loading() as reporter:
        if more_epochs:
            return planned_more(run, more_epochs, None, reporter)
        return planned_again(run, None, reporter)
