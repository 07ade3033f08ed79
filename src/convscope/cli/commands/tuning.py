"""`convscope crossval` and `search`: many trainings on the same data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope._extras import require_package
from convscope._text import duration, percent
from convscope.api.tuning.options import CrossvalOptions, SearchOptions
from convscope.cli.console import AsJson, aligned, plain_table, print_result
from convscope.cli.options import Log, check_stands_alone, expand_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from convscope._reporting import Reporter
    from convscope.api.tuning.cross_validation import CrossvalSummary
    from convscope.api.tuning.search import OnTrial, SearchSummary
    from convscope.api.tuning.trial import Mapper

app = typer.Typer(rich_markup_mode=None)

Data = Annotated[str | None, typer.Argument(help="A name (digits, mnist, fashion-mnist, cifar10) or a path.")]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Train on the machines of this Ray cluster; auto for the one that is found."),
]


@app.command(epilog="Example: convscope crossval photos/ --folds 5 --out probabilities.parquet")
@expand_records
def crossval(options: CrossvalOptions, data: Data = None, ray: Ray = None, as_json: AsJson = False) -> None:
    """Train once per fold without its images, and measure the accuracy on these: no image is wasted for testing.

    The test split is not used.
    """
    require_package("torch", "crossval")
    from convscope.cli.progress import CliReporter

    with CliReporter() as reporter:
        from convscope.api.tuning.cross_validation import run_folds

        found = run_folds(data, options, reporter, _mapper(ray, options.threads))
    print_result(as_json, found.summary, _crossval_lines(found.summary))


@app.command(epilog="Example: convscope search photos/ --budget 10min")
@expand_records
def search(
    context: typer.Context,
    options: SearchOptions,
    data: Data = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Continue a stopped or killed search.")] = None,
    ray: Ray = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Look for better options of a training than the defaults, on validation images; train and test the best once.

    Options of a training that are given are kept; --budget is the time for all of it.
    """
    require_package("torch", "search")
    from convscope.cli.progress import CliReporter

    with CliReporter() as reporter:
        from convscope.api.tuning.search import SearchHooks, resume_search, start_search

        hooks = SearchHooks(reporter, _mapper(ray, options.threads), *_on_trial(log, reporter))
        if resume is None:
            found = start_search(data, options, hooks)
        else:
            check_stands_alone(context, {"resume", "ray", "log", "as_json"}, "search.json of the search")
            found = resume_search(resume, hooks=hooks)
    print_result(as_json, found, _search_lines(found))


def _on_trial(log: str | None, reporter: Reporter) -> list[OnTrial]:
    """What logs the trials, if anything does."""
    if log is None:
        return []
    from convscope.integrations.tracking.open import open_tracker

    return [open_tracker(log, "searches", reporter).add_trial]


def _mapper(address: str | None, threads: int | None) -> Mapper:
    """What runs the trainings: this machine, or a Ray cluster."""
    if address is None:
        from convscope.api.tuning.trial import Mapper

        return Mapper()
    require_package("ray", "--ray")
    from convscope.integrations.ray.mapping import RayMapper

    return RayMapper(address, threads)


def _crossval_lines(summary: CrossvalSummary) -> Iterator[str | Table]:
    low, high = map(percent, summary.interval)
    pairs = {
        "accuracy": f"{percent(summary.accuracy)} (95 % interval {low} to {high}, n = {summary.n:,})",
        "loss": f"{summary.loss:.4f}",
        "calibration error": summary.calibration.text,
    }
    if summary.out:
        pairs["probabilities"] = str(summary.out)
    yield from aligned(pairs)
    rows = (
        (str(fold.fold), percent(fold.accuracy), f"{fold.n:,}", fold.recipe, str(fold.epochs), duration(fold.seconds))
        for fold in summary.folds
    )
    yield plain_table(("fold", "accuracy", "images", "recipe", "epochs", "time"), rows)


def _search_lines(summary: SearchSummary) -> Iterator[str | Table]:
    last = max(trial.rung for trial in summary.trials)
    order = sorted(summary.trials, key=lambda trial: (-trial.rung, trial.rank))
    rows = (
        (
            str(trial.number),
            f"{trial.rung + 1} of {last + 1}",
            trial.error or percent(trial.accuracy),
            duration(trial.seconds),
            trial.configuration.text,
        )
        for trial in order
    )
    yield plain_table(("trial", "rung", "accuracy", "time", "differs by"), rows)
    yield from aligned(
        {
            "best": summary.configuration.text,
            "how sure": summary.verdict,
            "test accuracy": f"{summary.test.text[:-1]}, n = {summary.test_images:,})",
            "run": str(summary.run),
            "report": str(summary.folder / "report.html"),
        }
    )
