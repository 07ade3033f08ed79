"""The rows of all epochs, while a training goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from convscope import Dataset
from convscope.api.train import plan
from convscope.runs.folder import RunWriter
from convscope.runs.metrics_log import LEAST_PAUSE, PAUSE, Metrics
from convscope.training.state import Epoch

HISTORY = [Epoch(number, 1.0, 0.5, 1.0, 0.5, 0.1, 100.0, 1.0) for number in range(1, 5)]


def test_rows_are_written_when_it_is_time(stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second later at the earliest, or fifty times what writing took: 0.1 seconds here."""
    assert (LEAST_PAUSE, PAUSE) == (1, 50)
    writer = RunWriter(tmp_path / "run", plan(stripes, "flatten", threads=1).config)
    moments = iter([100.0, 100.0, 100.001, 100.9, 101.1, 101.1, 101.2, 106.1, 106.3, 106.3, 106.3])
    monkeypatch.setattr("convscope.runs.metrics_log.time", SimpleNamespace(monotonic=lambda: next(moments)))
    metrics, rows = Metrics(writer), []
    for epochs in (1, 2, 3, 4, 4):
        metrics.epoch_done(HISTORY[:epochs])
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        rows.append([json.loads(line)["epoch"] for line in lines])
    assert rows == [[1], [1], [1, 2, 3], [1, 2, 3], [1, 2, 3, 4]]
    assert next(moments, None) is None
    events = (tmp_path / "run" / "tensorboard" / "events.out.tfevents.convscope").stat().st_size
    monkeypatch.undo()
    metrics.write(HISTORY[:1])
    assert (tmp_path / "run" / "tensorboard" / "events.out.tfevents.convscope").stat().st_size < events
