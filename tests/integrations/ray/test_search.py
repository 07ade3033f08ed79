"""A search on a Ray cluster of several nodes: every trial once, while a node is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convscope import open_run
from convscope._reporting import SilentReporter
from convscope.api.tuning.options import SearchOptions
from convscope.api.tuning.search import SearchHooks, start_search
from convscope.api.tuning.search_folder import SearchConfig, StoredTrial, read_trials
from convscope.integrations.ray.mapping import RayMapper

pytestmark = pytest.mark.slow
TRIALS = 4


def test_search_while_a_node_is_killed_has_each_trial_once(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convscope.api.training.results.render_figures", lambda *_: [])
    mapper, done = RayMapper(threads=1), []

    def kill_node(_: SearchConfig, stored: StoredTrial) -> None:
        done.append((stored.trial.rung, stored.trial.number))
        if len(done) == 2:  # the first trial, alone, says how long the others may take
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    options = SearchOptions(out=tmp_path / "s", trials=TRIALS, epochs=1, model="flatten", threads=1)
    summary = start_search("digits", options, SearchHooks(SilentReporter(), mapper, kill_node))
    assert mapper.workers == 3
    assert sorted(done) == sorted(read_trials(tmp_path / "s")) == [(one.rung, one.number) for one in summary.trials]
    assert {number for rung, number in done if rung == 0} == set(range(TRIALS))
    assert not any(one.error for one in summary.trials)
    assert open_run(summary.run).manifest.status == "complete"
