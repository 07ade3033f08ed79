"""`convscope train`: a new training, one that resumes, or more epochs for a finished run."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from convscope._extras import require_package
from convscope._workers import under_torchrun
from convscope.api.training.options import TrainOptions
from convscope.cli.commands.train_processes import Before, launch
from convscope.cli.console import AsJson, print_message, print_result
from convscope.cli.options import Log, check_stands_alone, expand_records
from convscope.errors import ConvscopeError, DataError, UsageError

if TYPE_CHECKING:
    from convscope.api.training.plan import Plan
    from convscope.backends.pytorch.group import Group
    from convscope.integrations.tracking.tracker import TrackRun
    from convscope.report.render_pool import Renderer
    from convscope.runs.config import RunConfig
    from convscope.runs.folder import Run

app = typer.Typer(rich_markup_mode=None)

EXIT_GATE_NOT_MET = 5
RESUME_OPTIONS = {
    "resume",
    "checkpoint_interval",
    "log",
    "processes",
    "as_json",
}  # that --resume does not take from config.json


@app.command(epilog="Example: convscope train mnist --model small --recipe default")
@expand_records
def train(
    context: typer.Context,
    options: TrainOptions,
    before: Before,
    data: Annotated[
        str | None, typer.Argument(help="A name (digits, mnist, fashion-mnist, cifar10) or a path.")
    ] = None,
    log: Log = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Train in N processes, restarted after a crash; see also torchrun.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a classifier, evaluate it on the test split, and write its run folder and report."""
    require_package("torch", "train")
    if log is not None:
        from convscope.integrations.tracking.open import check_where

        check_where(log)  # before anything is loaded
    if before.resume is not None:
        check_stands_alone(context, RESUME_OPTIONS | before.new_run_options, "the run's config.json")
    if processes is not None:
        raise typer.Exit(launch(processes, data, options, before))
    run = (_train_in_group if under_torchrun() else _train_alone)(data, options, before, log)
    if run is None:
        return
    if run.manifest.signal:
        print_message(
            f"stopped by signal {run.manifest.signal} after {len(run.history)} of {run.config.epochs} epochs; "
            f"the weights are saved in {run.path}; continue with: convscope train --resume {run.path}"
        )
        raise typer.Exit(128 + run.manifest.signal)
    from convscope.cli.format_training import run_lines

    print_result(as_json, run.summary(), run_lines(run))
    if run.missed_target:
        raise typer.Exit(EXIT_GATE_NOT_MET)


@dataclass(frozen=True)
class RunContext:
    """What draws the figures of a run, where it is logged, None for nowhere, and its processes, None for this one."""

    renderer: Renderer
    log: str | None
    group: Group | None = None

    def track(self, config: RunConfig) -> list[TrackRun]:
        """The callback that logs, if there is one."""
        if self.log is None:
            return []
        from convscope.cli.progress import CliReporter
        from convscope.integrations.tracking.open import open_tracker
        from convscope.integrations.tracking.tracker import TrackRun

        return [TrackRun(open_tracker(self.log, config.dataset.name, CliReporter()), config)]


def _train_alone(data: str | None, options: TrainOptions, before: Before, log: str | None) -> Run:
    from convscope.report.render_pool import rendering_workers

    with rendering_workers(options.threads) as renderer:  # first, so that they are ready when they are needed
        return _train_or_resume(data, options, before, RunContext(renderer, log))


def _train_in_group(data: str | None, options: TrainOptions, before: Before, log: str | None) -> Run | None:
    """Train as one of torchrun's processes; a run folder in which this training has begun is resumed.

    Returns None in all processes but rank 0, which says what went wrong everywhere.
    """
    from convscope.api.training.group import options_in_group, share_nothing
    from convscope.integrations.torchrun import begun_run, complete_run, follow, process_group
    from convscope.report.render_pool import rendering_workers

    with process_group() as group:
        assert group is not None
        if group.rank:
            try:
                follow(group, options.threads)
            except (DataError, UsageError):
                raise
            except ConvscopeError as error:  # rank 0 says the same
                raise typer.Exit(error.exit_code) from error
            return None
        options = options_in_group(options)
        begun = begun_run(before.resume if before.resume and not before.more_epochs else options.run)
        if begun is not None:
            if run := complete_run(begun):
                share_nothing(group)
                return run
            before = Before(resume=begun)
        with rendering_workers(options.threads) as renderer:
            return _train_or_resume(data, options, before, RunContext(renderer, log, group))


def _train_or_resume(data: str | None, options: TrainOptions, before: Before, context: RunContext) -> Run:
    if before.resume is None:
        return _train(data, options, before.more_epochs, context)
    return _train_more(before.resume, before.more_epochs, options, context)


def _train(data: str | None, options: TrainOptions, more_epochs: int | None, context: RunContext) -> Run:
    from convscope._hardware import process_start
    from convscope.api.training.sources import load_sources
    from convscope.cli.progress import CliReporter
    from convscope.runs.folder import require_unused

    started = process_start()
    if more_epochs:
        raise UsageError("--more-epochs needs the finished run that it continues: --resume RUN")
    if options.run is not None:
        require_unused(options.run)
    options.chosen_recipe()  # a wrong option is reported before anything is loaded
    with CliReporter() as reporter:
        with _importing("convscope.api.train"):
            sources = load_sources(data, options, reporter)
        from convscope.api.training.start import plan_training

        plan = plan_training(sources, options, reporter, started)
    return _run(plan, options, context)


def _train_more(path: Path, more_epochs: int | None, options: TrainOptions, context: RunContext) -> Run:
    from convscope.cli.progress import CliReporter
    from convscope.runs.folder import open_run, open_unfinished

    check = open_run if more_epochs else open_unfinished
    check(path)  # a wrong path is reported before anything is loaded
    from convscope.api.resume import plan_more, plan_resume

    with CliReporter() as reporter:
        plan = plan_more(path, more_epochs, None, reporter) if more_epochs else plan_resume(path, None, reporter)
    if not more_epochs:
        options = options.model_copy(update={"run": path})
    return _run(plan, options, context, resume=not more_epochs)


def _run(plan: Plan, options: TrainOptions, context: RunContext, *, resume: bool = False) -> Run:
    from convscope.api.train import run_plan
    from convscope.api.training.hooks import Hooks
    from convscope.cli.format_data import issue_lines
    from convscope.cli.format_training import plan_lines
    from convscope.cli.progress import CliReporter, training_display

    if context.group is not None:
        from convscope.api.training.group import share_plan

        plan = share_plan(plan, context.group, options.threads)
    config = plan.config
    for line in (*issue_lines(plan.data.dataset.issues), *plan_lines(config)):
        print_message(line)
    with training_display(config.recipe.validation_name, announce=config.budget is None) as display:
        tracked = context.track(config)
        hooks = Hooks(callbacks=[display, *tracked], reporter=CliReporter(), renderer=context.renderer)
        run = run_plan(plan, options, hooks, resume=resume)
    for one in tracked:
        one.finish(run)
    return run


@contextmanager
def _importing(module: str) -> Iterator[None]:
    """Import a large module in a thread while the block, mostly, waits for files."""

    def work() -> None:
        gc.disable()  # it would scan the million objects of torch again and again
        try:
            with suppress(Exception):  # reported where the module is needed
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
