"""`convscope predict`: classify images, folders and archives."""

from __future__ import annotations

import os
import sys
import time
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from convscope._extras import require_package
from convscope._records import Record
from convscope._storage import is_address
from convscope.cli.console import AsJson, model_file, print_message, print_result
from convscope.cli.options import AnyModel, expand_records
from convscope.errors import ImageError, UsageError
from convscope.images.files.source import STANDARD_INPUT

if TYPE_CHECKING:
    from convscope.deploy.prediction import Prediction
    from convscope.deploy.predictor import Predictor
    from convscope.deploy.prepare import BatchOptions
    from convscope.deploy.sources.items import Found, PassedOver

app = typer.Typer(rich_markup_mode=None)

UPDATE_S = 0.1  # between updates of the bar
SOURCES = (
    "Images, folders, .zip and .tar archives, .parquet, patterns such as 'photos/**/*.jpg', addresses such as "
    "s3://bucket/photos/; - for an image on standard input."
)


class PredictOptions(Record):
    """Options of `convscope predict`."""

    out: str | None = Field(
        default=None,
        description="Write the answers to this .csv, .jsonl or .parquet, with --ray into this folder; run again to "
        "resume.",
        json_schema_extra={"metavar": "PATH"},
    )
    top_k: int | None = Field(
        default=None, ge=1, description="Number of classes, most likely first; by default 3, but all with --json."
    )
    files_from: str | None = Field(
        default=None,
        description="Read more sources from this file, one per line; - for standard input.",
        json_schema_extra={"metavar": "FILE"},
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads that decode and compute; by default one per core."
    )
    batch_size: int = Field(default=64, ge=1, description="Images that the network gets at once.")
    ray: str | None = Field(
        default=None,
        description="Score on a Ray cluster: local starts one on this machine, auto or HOST:PORT joins one.",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    max_megapixels: float = Field(default=25.0, ge=0.001, description="Reject larger images, in millions of pixels.")


@app.command(epilog="Example: convscope predict runs/mnist-small-1 photos/ more.zip --out answers.csv")
@expand_records
def predict(
    model: AnyModel,
    options: PredictOptions,
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE...", help=SOURCES)] = None,
    null: Annotated[bool, typer.Option("--null", "-0", help="--files-from is separated by null characters.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite --out, and start again if its earlier answers cannot be used.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Classify images of any size, and report how each was preprocessed.

    A bad image does not end the command: it becomes an error, and the exit code is 3.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's BLAS threads would only busy-wait

    from convscope.deploy.predictor import Predictor
    from convscope.deploy.sources.find import find_images
    from convscope.deploy.sources.items import PassedOver

    if options.files_from == STANDARD_INPUT and STANDARD_INPUT in (sources or ()):
        raise UsageError("standard input is either an image (-) or the list (--files-from -)")
    words = [*(sources or ()), *_listed(options.files_from, null)]
    if not words:
        raise UsageError("expected at least one image, folder, archive or pattern, got none")
    if options.ray:
        raise typer.Exit(ImageError.exit_code if _score(model, words, options, force, as_json) else 0)
    if options.out and is_address(options.out):
        raise UsageError(f"--out {options.out}: an address needs --ray; name a file on this machine")
    predictor, passed_over = Predictor(model_file(model), threads=options.threads), PassedOver()
    found = list(find_images(words, passed_over))
    if options.out:
        failed = _write(predictor, found, passed_over, options, force, as_json)
    else:
        failed = _print(predictor, found, passed_over, options, as_json)
    for text in passed_over.messages:
        print_message(text)
    raise typer.Exit(ImageError.exit_code if failed else 0)


def _listed(path: str | None, null: bool) -> list[str]:
    """The sources in the file that --files-from names."""
    from convscope.images.files.source import open_source

    if path is None:
        if null:
            raise UsageError("--null needs --files-from")
        return []
    with open_source(path) as file:
        lines = file.read().removeprefix(BOM_UTF8).split(b"\0" if null else b"\n")
    return [os.fsdecode(line if null else line.removesuffix(b"\r")) for line in lines if line.strip()]


def _print(
    predictor: Predictor, found: Sequence[Found], passed_over: PassedOver, options: PredictOptions, as_json: bool
) -> bool:
    """Print the answers, and errors to stderr; whether there are any errors."""
    from convscope.cli.format_prediction import TOP_K, prediction_lines
    from convscope.deploy.prediction import PredictionList
    from convscope.deploy.sources.read import OnceFilter, read_archives

    answered, failed = [], False
    images = read_archives(found, passed_over, OnceFilter(frozenset(), passed_over))
    outcomes = predictor.predict_found(images, _batches(predictor, options))
    for outcome in _with_progress(outcomes, found, 0, shown=as_json or not sys.stdout.isatty()):
        if isinstance(outcome, ImageError):
            print_message(f"convscope: {outcome}")
            failed = True
        elif as_json:
            answered.append(outcome.keep(options.top_k))
        else:
            print_result(False, outcome, prediction_lines(outcome, options.top_k or TOP_K))
    if answered:
        print_result(True, PredictionList(predictions=tuple(answered)), [])
    return failed


def _write(
    predictor: Predictor,
    found: Sequence[Found],
    passed_over: PassedOver,
    options: PredictOptions,
    force: bool,
    as_json: bool,
) -> bool:
    """Write the answers to a file, and print a summary; whether there are any errors."""
    from convscope.cli.format_prediction import TOP_K, summary_lines
    from convscope.deploy.answers import AnswerSummary, PartHeader, is_stream, open_answers
    from convscope.deploy.sources.read import OnceFilter, read_archives

    assert options.out is not None
    header = PartHeader(
        model=predictor.sha256,
        top_k=min(options.top_k or TOP_K, len(predictor.classes)),
        max_megapixels=options.max_megapixels,
        folder=str(Path.cwd()),
    )
    with open_answers(Path(options.out), header, force, restart=any(map(is_stream, found))) as answers:
        once = OnceFilter(answers.done, passed_over)
        outcomes = predictor.predict_found(read_archives(found, passed_over, once), _batches(predictor, options))
        try:
            for outcome in _with_progress(outcomes, found, len(answers.done), shown=True):
                answers.add(outcome)
        except KeyboardInterrupt:
            print_message(f"{answers.part} keeps the answers so far: run the same command again to resume")
            raise
        statuses = answers.finish(once.seen)
    summary = AnswerSummary(
        path=options.out,
        images=sum(statuses.values()),
        statuses=statuses,
        resumed=len(answers.done & once.seen),
        left_out=len(answers.done - once.seen),
        passed_over=passed_over.kinds.total(),
    )
    print_result(as_json, summary, summary_lines(summary))
    return "error" in statuses


def _score(model: Path, words: Sequence[str], options: PredictOptions, force: bool, as_json: bool) -> bool:
    """Write the answers of a Ray cluster into a folder, and print a summary; whether there are any errors."""
    from convscope.cli.format_prediction import TOP_K, cluster_lines
    from convscope.cli.progress import CliReporter

    assert options.ray is not None
    if options.out is None:
        raise UsageError("--ray needs --out FOLDER, for the answers")
    if options.threads:
        raise UsageError("--ray uses one thread per core of the cluster: leave out --threads")
    require_package("ray", "--ray")
    from convscope.integrations.ray.scoring import ScoringOptions, predict

    chosen = ScoringOptions(
        top_k=options.top_k or TOP_K, max_megapixels=options.max_megapixels, batch_size=options.batch_size
    )
    with CliReporter() as reporter:
        summary = predict(
            model, words, options.out, address=options.ray, options=chosen, force=force, reporter=reporter
        )
    print_result(as_json, summary, cluster_lines(summary))
    return "error" in summary.statuses


def _batches(predictor: Predictor, options: PredictOptions) -> BatchOptions:
    from convscope.deploy.prepare import BatchOptions

    return BatchOptions(options.max_megapixels, options.batch_size, predictor.threads)


def _with_progress(
    outcomes: Iterator[Prediction | ImageError], found: Sequence[Found], done: int, shown: bool
) -> Iterator[Prediction | ImageError]:
    """The same outcomes; on a terminal a bar shows how many there have been."""
    if not (shown and sys.stderr.isatty()):
        yield from outcomes
        return
    from convscope.cli.progress import CLASSIFYING, CliReporter
    from convscope.deploy.sources.read import count_images

    total, updated = count_images(found), 0.0
    with CliReporter() as reporter:
        for count, outcome in enumerate(outcomes, done + 1):
            yield outcome
            if time.monotonic() > updated + UPDATE_S:
                updated = time.monotonic()
                reporter.progress(CLASSIFYING, count, total)
