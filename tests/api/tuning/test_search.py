"""A search from end to end: what it writes, that no trial is lost, and that the test split chooses nothing."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from convscope import Dataset, open_run, resume_search
from convscope._reporting import SilentReporter
from convscope.api.training.options import TrainOptions
from convscope.api.tuning import search
from convscope.api.tuning.options import SearchOptions
from convscope.api.tuning.search import OnTrial, SearchHooks, SearchSummary, start_search
from convscope.api.tuning.search_folder import StoredTrial, Trial, pack_hits, read_config
from convscope.api.tuning.space import Configuration
from convscope.data.dataset import Split
from convscope.data.load import load_data
from convscope.errors import DataError, UsageError

pytestmark = pytest.mark.slow
OPTIONS = {"trials": 3, "epochs": 1, "threads": 1, "model": "flatten"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, which take longer than everything else."""
    monkeypatch.setattr("convscope.api.training.results.render_figures", lambda *_: [])


def start(folder: Path, data: str | Dataset = "digits", on_trial: OnTrial = lambda *_: None) -> SearchSummary:
    options = SearchOptions(out=folder, **OPTIONS)  # type: ignore[arg-type]
    return start_search(data, options, SearchHooks(SilentReporter(), on_trial=on_trial))


def trains_to(right: Sequence[int]) -> Callable[[search.Job, int], StoredTrial]:
    """Stands for `train_candidate`: how many of 100 images each configuration has right."""

    def train(job: search.Job, number: int) -> StoredTrial:
        configuration, accuracy = job.configurations[number], right[number] / 100
        trial = Trial(
            number=number, rung=job.rung, configuration=configuration, budget=5.0, seconds=1.0, accuracy=accuracy
        )
        return StoredTrial(trial=trial, n=100, correct=pack_hits(np.arange(100) < right[number]))

    return train


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "trials").iterdir()}


class KilledError(Exception):
    """Stands for a kill."""


def test_search_chooses_the_best_of_the_last_rung_and_tests_it_once(tmp_path: Path) -> None:
    summary = start(tmp_path / "s")
    last = [trial for trial in summary.trials if trial.rung == max(one.rung for one in summary.trials)]
    assert summary.chosen == min(last, key=lambda trial: trial.rank).number
    assert 0 in {trial.number for trial in last}
    run = open_run(tmp_path / "s" / "run")
    assert run.evaluation is not None
    assert run.evaluation.accuracy == summary.test.accuracy
    assert run.config.dataset.train_images + run.config.dataset.validation_images == len(load_data("digits").train)
    page = (tmp_path / "s" / "report.html").read_text("utf-8")
    assert summary.verdict in page.replace("&#43;", "+")
    assert page.count('<th scope="row">') == len(summary.trials)
    assert json.loads((tmp_path / "s" / "result.json").read_text())["chosen"] == summary.chosen


@pytest.mark.parametrize("right", [(50, 60, 40), (50, 40, 60), (60, 50, 40)])
def test_search_chooses_the_configuration_with_the_most_right_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(search, "train_candidate", trains_to(right))
    summary = start(tmp_path / "s")
    assert summary.chosen == right.index(60)
    if summary.comparison is not None:
        assert (summary.comparison.gained, summary.comparison.lost) == (10, 0)


@pytest.mark.parametrize(
    ("budget", "trials", "count", "is_too_short"),
    [("20s", None, 2, True), ("70s", 9, 9, True), ("70s", None, 5, False), ("20min", None, 9, False)],
)
def test_short_budget_has_fewer_trials_or_says_that_it_is_too_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str, trials: int | None, count: int, is_too_short: bool
) -> None:
    messages: list[str] = []
    reporter = SilentReporter()
    monkeypatch.setattr(reporter, "message", messages.append)
    monkeypatch.setattr(search.Search, "run", lambda *_: None)
    start_search("digits", SearchOptions(out=tmp_path / "s", budget=budget, trials=trials), SearchHooks(reporter))
    assert len(read_config(tmp_path / "s").configurations) == count
    warning = re.compile("^it will take longer than the budget of .*: each trial takes 10 s or more$")
    assert any(map(warning.match, messages)) == is_too_short


@pytest.mark.parametrize(
    ("budget", "configuration", "expected"),
    [
        ("60s", Configuration(), (5.0, True)),
        ("60s", Configuration(init="none"), (None, False)),
        (None, Configuration(), (None, False)),
    ],
)
def test_defaults_of_a_search_with_a_budget_start_like_a_training_with_one(
    monkeypatch: pytest.MonkeyPatch, budget: str | None, configuration: Configuration, expected: tuple[object, bool]
) -> None:
    loaded: list[tuple[object, bool]] = []

    def load(_: object, options: TrainOptions, __: object, all_images: bool = False) -> None:
        loaded.append((options.budget, all_images))
        raise DataError("no images")

    monkeypatch.setattr(search, "load_sources", load)
    search.train_candidate(search.Job("digits", SearchOptions(budget=budget), (configuration,), 0, 5.0), 0)
    assert loaded == [expected]


def test_search_killed_after_each_trial_loses_none(tmp_path: Path) -> None:
    def kill(*_: object) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        start(tmp_path / "s", on_trial=kill)
    for count in (1, 2):
        before = files(tmp_path / "s")
        assert len(before) == count
        with pytest.raises(KilledError):
            resume_search(tmp_path / "s", hooks=SearchHooks(SilentReporter(), on_trial=kill))
        assert before.items() < files(tmp_path / "s").items()
    summary = resume_search(tmp_path / "s", hooks=SearchHooks(SilentReporter()))
    assert before.items() < files(tmp_path / "s").items()
    assert len(summary.trials) == len(files(tmp_path / "s"))
    with pytest.raises(UsageError, match=r"s is complete already: see .*report\.html$"):
        resume_search(tmp_path / "s")


def test_search_killed_while_the_best_is_trained_trains_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr("convscope.api.train.write_results", kill)
        start(tmp_path / "s")
    before = files(tmp_path / "s")
    assert resume_search(tmp_path / "s", hooks=SearchHooks(SilentReporter())).test.accuracy > 0.1
    assert files(tmp_path / "s") == before


def test_search_does_not_look_at_the_test_split(tmp_path: Path) -> None:
    digits = load_data("digits")
    random = np.random.default_rng(0).integers(0, 256, digits.test.images.shape, np.uint8)
    other = dataclasses.replace(digits, test=Split(random, 9 - digits.test.labels), content="")
    found = [start(tmp_path / name, data) for name, data in (("a", digits), ("b", other))]
    first, second = ([one.accuracy for one in each.trials if one.budget is None] for each in found)
    assert first == second  # of the trial without a time limit


def test_search_resumed_with_other_data_raises(tmp_path: Path) -> None:
    def kill(*_: object) -> None:
        raise KilledError

    digits = load_data("digits")
    with pytest.raises(KilledError):
        start(tmp_path / "s", digits, on_trial=kill)
    with pytest.raises(UsageError, match=r"s searched with data in memory: give the data, from Python$"):
        resume_search(tmp_path / "s")
    changed = dataclasses.replace(digits, train=digits.train.take(np.arange(1000)))
    with pytest.raises(DataError, match=r"^the data have changed since .* began: start a new search$"):
        resume_search(tmp_path / "s", changed)


def test_search_failed_trial_is_recorded_and_never_chosen() -> None:
    job = search.Job("digits", SearchOptions(), (Configuration(model="conv 8 99"),), 0, 10.0)
    found = search.train_candidate(job, 0).trial
    assert found.error
    assert found.accuracy == 0


def test_resume_search_without_search_raises(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no search\.json: expected the folder of a search$"):
        resume_search(tmp_path)
