"""metrics.jsonl and the event file while a run is being trained."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from convscope import Dataset
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.errors import ConvscopeError
from convscope.runs.folder import RunWriter
from convscope.runs.metrics_log import MetricsLog
from convscope.training.state import EpochMetrics

HISTORY = [EpochMetrics(number, 1.0, 0.5, 1.0, 0.5, 0.1, 100.0, 1.0) for number in range(1, 5)]


@pytest.fixture
def writer(stripes: Dataset, tmp_path: Path) -> RunWriter:
    return RunWriter(tmp_path / "run", make_plan(stripes, TrainOptions(model="flatten", threads=1)).config)


def epochs_in(writer: RunWriter) -> list[int]:
    return [json.loads(line)["epoch"] for line in (writer.path / "metrics.jsonl").read_text().splitlines()]


def test_metrics_log_after_every_epoch_appends_a_row(writer: RunWriter) -> None:
    with MetricsLog(writer) as metrics:
        metrics.start()
        contents = [b""]
        for number, epoch in enumerate(HISTORY, 1):
            metrics.add(epoch)
            contents.append((writer.path / "metrics.jsonl").read_bytes())
            assert contents[-1].startswith(contents[-2])
            assert epochs_in(writer) == list(range(1, number + 1))


def test_metrics_log_of_a_resumed_run_starts_with_the_restored_epochs(writer: RunWriter) -> None:
    """The killed process left epoch 2, which is not in the checkpoint, and a part of the row of epoch 3."""
    with MetricsLog(writer) as metrics:
        metrics.start()
        for epoch in HISTORY[:2]:
            metrics.add(epoch)
    with (writer.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "tra')
    with MetricsLog(writer) as metrics:
        metrics.start(HISTORY[:1])
        assert epochs_in(writer) == [1]
        for epoch in HISTORY[1:]:
            metrics.add(epoch)
    assert epochs_in(writer) == [1, 2, 3, 4]


class FullFile(io.StringIO):
    """A file that refuses every write."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["start", "add", "close"])
def test_metrics_log_full_disk_raises_in_one_line(
    writer: RunWriter, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    message = f"^cannot write the metrics to {writer.path}: No space left on device; free some space$"
    with pytest.raises(ConvscopeError, match=message), MetricsLog(writer) as metrics:
        if step == "start":
            monkeypatch.setattr("convscope.runs.tensorboard.RecordWriter.flush", full)
        metrics.start()
        if step == "add":
            assert metrics.rows
            metrics.rows.close()
            metrics.rows = FullFile()
        metrics.add(HISTORY[0])
        monkeypatch.setattr("convscope.runs.tensorboard.RecordWriter.flush", full)


def test_metrics_log_with_an_error_in_its_block_closes_the_files(writer: RunWriter) -> None:
    with pytest.raises(ZeroDivisionError), MetricsLog(writer) as metrics:
        metrics.start()
        _ = 1 / 0
    assert metrics.rows
    assert metrics.rows.closed
