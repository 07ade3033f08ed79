"""Search: successive halving over start, recipe, network, learning rate and image size, on validation images alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Unpack

from convscope._files import lock_folder, write_atomically
from convscope._records import Record, validate_options
from convscope._reporting import Reporter, SilentReporter
from convscope._text import duration, percent
from convscope.api.train import run_plan
from convscope.api.training.hooks import Hooks, OptionKeywords
from convscope.api.training.options import TrainOptions
from convscope.api.training.sources import Sources, load_sources
from convscope.api.training.start import plan_training
from convscope.api.tuning.comparison import Comparison, compare
from convscope.api.tuning.folds import dataset_of, measured_part
from convscope.api.tuning.halving import MIN_TRIAL_S, Schedule, most_trials, plan_rungs, promote
from convscope.api.tuning.options import SearchOptions
from convscope.api.tuning.search_folder import (
    CONFIG_FILE,
    REPORT_FILE,
    RESULT_FILE,
    RUN_FOLDER,
    SearchConfig,
    StoredTrial,
    Trial,
    next_search_folder,
    pack_hits,
    read_config,
    read_trials,
    write_record,
    write_trial,
)
from convscope.api.tuning.space import Configuration, draw_configurations
from convscope.api.tuning.trial import Mapper, hits, run_trial
from convscope.data.load import DataSource
from convscope.errors import ConvscopeError, DataError, UsageError
from convscope.evaluation.calibration import log_probabilities
from convscope.evaluation.proportion import Proportion
from convscope.report.tuning.page import SearchPage, TrialRow, render_search
from convscope.runs.config import MANIFEST_FILE, MetricsRow
from convscope.runs.folder import Run, open_run, utc_now

BUDGET_MARGIN = 0.9  # of the time that is left is shared out: data are loaded, and trainings end a little late
OnTrial = Callable[[SearchConfig, StoredTrial], object]


class SearchSummary(Record):
    """The outcome of a search: `convscope search --json`, and result.json in its folder.

    Attributes:
        folder: Of the search.
        data: Name of the data set.
        n: Number of images that the trials were measured on, and none was trained on.
        trials: All of them, by rung and number.
        chosen: Number of the best configuration; 0 are the defaults.
        configuration: What it does differently from the defaults.
        comparison: With the defaults in the last rung; None if they are the best.
        verdict: How sure the choice is, in one sentence.
        run: The best configuration, trained on all training images.
        test: Accuracy of that run on the test split, which nothing else was measured on.
        test_images: Number of images in the test split.
        seconds: That all of it took; of a search that was resumed, about.
    """

    folder: Path
    data: str
    n: int
    trials: tuple[Trial, ...]
    chosen: int
    configuration: Configuration
    comparison: Comparison | None
    verdict: str
    run: Path
    test: Proportion
    test_images: int
    seconds: float


class SearchKeywords(OptionKeywords, total=False):
    """Keyword arguments of `search_model`: the fields of `SearchOptions`, and how the search runs."""

    model: str | None
    recipe: str | None
    trials: int | None
    out: str | Path | None
    reporter: Reporter
    mapper: Mapper


def search_model(data: DataSource | None = None, **options: Unpack[SearchKeywords]) -> SearchSummary:
    """Look for a better configuration than the defaults; train the best one, and measure it once on the test split.

    Args:
        data: See `load_data`.
        options: Fields of `SearchOptions`: `trials`, `budget="10min"` for all of it, `out` (the folder), and options
            of a training, which all trials then share; `reporter`, and `mapper`, which runs the trials, by default
            one after the other. Without a budget, every trial of the last rung gets the time that the defaults take.

    Raises:
        UsageError: An option is wrong.
        DataError: The data cannot be read, or a class has too few images.
    """
    given: dict[str, Any] = dict(options)
    hooks = SearchHooks(given.pop("reporter", Reporter()), given.pop("mapper", Mapper()))
    return start_search(data, validate_options(SearchOptions, given), hooks)


def resume_search(
    folder: str | Path, data: DataSource | None = None, hooks: SearchHooks | None = None
) -> SearchSummary:
    """Continue a search that was stopped or killed; its finished trials are not repeated.

    Args:
        folder: Of the search.
        data: The data set, if it was one in memory.
        hooks: Reporter, mapper and callbacks.

    Raises:
        UsageError: There is no search in the folder, or it is complete.
        DataError: The data have changed.
    """
    folder, hooks, started = Path(folder), hooks or SearchHooks(), time.monotonic()
    config = read_config(folder)
    if (folder / RESULT_FILE).exists():
        raise UsageError(f"{folder} is complete already: see {folder / REPORT_FILE}")
    options = validate_options(SearchOptions, config.options)
    if data is None and not config.path:
        raise UsageError(f"{folder} searched with data in memory: give the data, from Python")
    source = data if data is not None else config.path
    sources = load_sources(source, _unlimited(options), hooks.reporter)
    if dataset_of(sources).fingerprint != config.fingerprint:
        raise DataError(f"{config.path or 'the data'} have changed since {folder} began: start a new search")
    with lock_folder(folder):
        return Search(folder, config, options, source, hooks, started).run(sources)


@dataclass(frozen=True)
class SearchHooks:
    """Where messages go, what runs the trials, and what is called after each of them."""

    reporter: Reporter = field(default_factory=Reporter)
    mapper: Mapper = field(default_factory=Mapper)
    on_trial: OnTrial = lambda _, __: None


def start_search(data: DataSource | None, options: SearchOptions, hooks: SearchHooks) -> SearchSummary:
    """A new search with a checked record of options; see `search_model`."""
    started = time.monotonic()
    options.chosen_recipe()  # a wrong option is reported before anything is loaded
    if options.out is not None and options.out.exists():
        raise UsageError(f"{options.out} exists already: choose another --out, or continue with --resume {options.out}")
    sources = load_sources(data, _unlimited(options), hooks.reporter)
    dataset = dataset_of(sources)
    folder = options.out or next_search_folder(dataset.name)
    budget, workers = options.budget_seconds or inf, hooks.mapper.workers
    left = BUDGET_MARGIN * (budget - (time.monotonic() - started))
    configurations = draw_configurations(dataset, options, options.trials or most_trials(left, workers))
    rungs = plan_rungs(len(configurations), lambda schedule: left * schedule.share(len(schedule.sizes) - 1), workers)
    config = SearchConfig(
        created=utc_now(),
        data=dataset.name,
        path=sources.origin,
        fingerprint=dataset.fingerprint,
        options=options.model_dump(mode="json", exclude_unset=True),
        rungs=rungs.sizes,
        configurations=tuple(configurations),
    )
    with lock_folder(folder):
        write_record(folder / CONFIG_FILE, config)
        hooks.reporter.message(f"{len(configurations)} configurations; if it is stopped: --resume {folder}")
        if left * rungs.share(0) < MIN_TRIAL_S:
            text = f"it will take longer than the budget of {duration(budget)}"
            hooks.reporter.message(f"{text}: each trial takes {duration(MIN_TRIAL_S)} or more")
        source = dataset if data is None or not sources.origin else data
        return Search(folder, config, options, source, hooks, started).run(sources)


@dataclass
class Search:
    """A search in progress; everything that it decides follows from its folder."""

    folder: Path
    config: SearchConfig
    options: SearchOptions
    data: DataSource
    hooks: SearchHooks
    started: float

    def run(self, sources: Sources) -> SearchSummary:
        """Run the trials that are missing, train the best configuration, and write result and report."""
        self.stored = read_trials(self.folder)
        self.spent = sum(one.trial.seconds for one in self.stored.values()) / self.hooks.mapper.workers
        self.schedule = Schedule(self.config.rungs, self.hooks.mapper.workers)
        last = len(self.config.rungs) - 1
        if self.options.budget is None:  # how long the defaults take is what the others get
            self._run_trials(last, [0], None)
        numbers = list(range(len(self.config.configurations)))
        for rung, size in enumerate(self.config.rungs):
            numbers = numbers if rung == 0 else promote(numbers, size)
            self._run_trials(rung, numbers, self._seconds(rung))
            numbers = self._rank(rung, numbers)
        return self._finish(sources, numbers[0], last)

    @property
    def shared(self) -> TrainOptions:
        """The options that all trials share; without a budget, it does not choose the recipe."""
        if self.options.budget is not None:
            return self.options
        return self.options.model_copy(update={"recipe": self.options.recipe or "default"})

    def _elapsed(self) -> float:
        return self.spent + time.monotonic() - self.started

    def _seconds(self, rung: int) -> float:
        """The time of each training in a rung."""
        given = [one.trial.budget for (other, _), one in self.stored.items() if other == rung]
        if known := [seconds for seconds in given if seconds is not None]:
            return known[0]
        if self.options.budget_seconds is None:
            full = self.stored[len(self.config.rungs) - 1, 0].trial.seconds
            return max(MIN_TRIAL_S, full * self.schedule.fraction(rung))
        left = BUDGET_MARGIN * (self.options.budget_seconds - self._elapsed())
        return max(MIN_TRIAL_S, left * self.schedule.share(rung))

    def _run_trials(self, rung: int, numbers: Iterable[int], seconds: float | None) -> None:
        """Run the trials of a rung that are not on the disk yet, and write each as soon as it is done."""
        missing = [number for number in numbers if (rung, number) not in self.stored]
        job = Job(self.data, self.shared, self.config.configurations, rung, seconds)
        for number, done in self.hooks.mapper.map(train_candidate, job, missing):
            self.stored[rung, number] = done
            write_trial(self.folder, done)
            self.hooks.on_trial(self.config, done)
            self.hooks.reporter.message(self._describe(done.trial))

    def _describe(self, trial: Trial) -> str:
        result = trial.error or f"{percent(trial.accuracy)} in {duration(trial.seconds)}"
        place = f"rung {trial.rung + 1} of {len(self.config.rungs)}, trial {trial.number}"
        return f"{place}: {result} ({trial.configuration.text})"

    def _rank(self, rung: int, numbers: Iterable[int]) -> list[int]:
        """The configurations of a rung, best first. Raises ConvscopeError if the defaults failed."""
        trials = [self.stored[rung, number].trial for number in numbers]
        if error := self.stored[rung, 0].trial.error:
            raise ConvscopeError(f"the defaults cannot be trained: {error}")
        return [trial.number for trial in sorted(trials, key=lambda trial: trial.rank) if not trial.error]

    def _finish(self, sources: Sources, chosen: int, last: int) -> SearchSummary:
        best, defaults = self.stored[last, chosen], self.stored[last, 0]
        comparison = compare(best.hits(), defaults.hits(), len(self.config.configurations) - 1) if chosen else None
        run = self._train_best(best.trial)
        assert run.evaluation is not None
        summary = SearchSummary(
            folder=self.folder,
            data=self.config.data,
            n=best.n,
            trials=tuple(self.stored[key].trial for key in sorted(self.stored)),
            chosen=chosen,
            configuration=best.trial.configuration,
            comparison=comparison,
            verdict=comparison.verdict if comparison else "nothing that was tried was better than the defaults",
            run=run.path,
            test=Proportion(accuracy=run.evaluation.accuracy, interval=run.evaluation.interval),
            test_images=len(dataset_of(sources).test),
            seconds=self._elapsed(),
        )
        write_atomically(self.folder / REPORT_FILE, render_search(_page(summary)))
        write_record(self.folder / RESULT_FILE, summary)
        return summary

    def _train_best(self, trial: Trial) -> Run:
        """The best configuration, trained on all training images; its run is opened if it is complete already."""
        folder = self.folder / RUN_FOLDER
        if (folder / MANIFEST_FILE).exists() and (run := open_run(folder)).evaluation is not None:
            return run
        if folder.exists():
            shutil.rmtree(folder)  # a killed one
        started = time.monotonic()
        options = trial.configuration.apply(self.shared, trial.budget)
        sources = _load(self.data, self.shared, options, self.hooks.reporter)
        self.hooks.reporter.message(f"training on all images: {trial.configuration.text}")
        plan = plan_training(sources, options, self.hooks.reporter, started)
        run = run_plan(plan, TrainOptions(run=folder), Hooks(reporter=self.hooks.reporter))
        if run.evaluation is None:
            raise KeyboardInterrupt
        return run


@dataclass(frozen=True)
class Job:
    """What the trials of a rung share."""

    data: DataSource
    options: TrainOptions
    configurations: tuple[Configuration, ...]
    rung: int
    seconds: float | None


def train_candidate(job: Job, number: int) -> StoredTrial:
    """Train one configuration, and measure it on images that it was not trained on.

    Args:
        job: What all share.
        number: Of the configuration.
    """
    started, configuration = time.monotonic(), job.configurations[number]
    trial = Trial(number=number, rung=job.rung, configuration=configuration, budget=job.seconds, seconds=0)
    options = configuration.apply(job.options, job.seconds)
    try:
        sources = measured_part(_load(job.data, job.options, options, SilentReporter()), options.seed)
        result = run_trial(sources, options)
    except ConvscopeError as error:
        return StoredTrial(trial=trial.model_copy(update={"error": str(error), "seconds": time.monotonic() - started}))
    labels = dataset_of(sources).test.labels
    correct = hits(result.probabilities, labels)
    measured = {
        "seconds": time.monotonic() - started,
        "model": result.config.model,
        "recipe": result.config.recipe.name,
        "epochs": len(result.training.history),
        "accuracy": float(correct.mean()),
        "loss": float(-log_probabilities(result.probabilities, labels).mean()),
    }
    rows = tuple(MetricsRow.model_validate(epoch.to_row()) for epoch in result.training.history)
    trial = trial.model_copy(update=measured)
    return StoredTrial(trial=trial, epochs=rows, n=len(labels), correct=pack_hits(correct))


def _load(data: DataSource, shared: TrainOptions, options: TrainOptions, reporter: Reporter) -> Sources:
    """Load what one training starts from.

    In a search with a budget, the defaults are those of a training with a budget, in which a backbone may compete.

    Args:
        data: What is searched.
        shared: The options of all trainings.
        options: Those of this one.
        reporter: Where messages and progress go.
    """
    if shared.budget is not None and options == shared.model_copy(update={"budget": options.budget}):
        return load_sources(data, options, reporter, all_images=True)
    return load_sources(data, _unlimited(options), reporter)


def _unlimited(options: TrainOptions) -> TrainOptions:
    """The options to load images with: a budget would choose their size and number."""
    return options.model_copy(update={"budget": None})


def _page(summary: SearchSummary) -> SearchPage:
    order = sorted(summary.trials, key=lambda trial: (-trial.rung, trial.rank))
    rows = tuple(
        TrialRow(
            number=trial.number,
            rung=trial.rung + 1,
            text=trial.configuration.text,
            network=trial.model,
            recipe=trial.recipe,
            accuracy=None if trial.error else trial.accuracy,
            n=summary.n,
            seconds=duration(trial.seconds),
            error=trial.error,
        )
        for trial in order
    )
    return SearchPage(
        title=f"Search on {summary.data}",
        chosen=summary.configuration.text,
        verdict=summary.verdict,
        test=summary.test,
        test_images=summary.test_images,
        seconds=duration(summary.seconds),
        run=str(summary.run),
        trials=rows,
    )
