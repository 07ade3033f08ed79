"""Trainings in a real MLflow server on this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient

from convscope._reporting import SilentReporter
from convscope.errors import ConvscopeError
from convscope.integrations.tracking.mlflow import MlflowTracker
from convscope.training.state import EpochMetrics
from helpers.command import required
from helpers.reporting import RecordingReporter

pytestmark = pytest.mark.slow

SERVER = Path(__file__).parents[3] / "build" / "mlflow" / "bin" / "mlflow"  # an environment of its own, see .ci/run
EPOCHS = [EpochMetrics(number, 0.5, None, 0.4, number / 10, 0.1, 1000.0, 2.0) for number in (1, 2)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not SERVER.exists():
        required("an MLflow server in build/mlflow, see .ci/run")
    folder, port = tmp_path_factory.mktemp("mlflow"), 5931
    words = [
        str(SERVER),
        "server",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder}/db",
    ]
    process = subprocess.Popen(words, cwd=folder, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"})
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            time.sleep(0.5)
            try:
                urlopen(f"{url}/health").close()
                break
            except OSError:
                assert process.poll() is None
        yield url
    finally:
        process.terminate()
        process.wait()


def test_mlflow_tracker_writes_parameters_epochs_and_results(server: str) -> None:
    for epochs in (EPOCHS[:1], EPOCHS[1:]):  # a resumed training continues its run
        tracker = MlflowTracker(server, "digits", SilentReporter())
        tracker.begin("run-1", {"recipe": "best"})
        for epoch in epochs:
            tracker.add(epoch)
    tracker.end({"test_accuracy": 0.9})
    (run,) = tracker.client.search_runs([tracker.experiment])
    assert (run.info.run_name, run.info.status, run.data.params) == ("run-1", "FINISHED", {"recipe": "best"})
    history = tracker.client.get_metric_history(run.info.run_id, "validation_accuracy")
    assert [(value.step, value.value) for value in history] == [(1, 0.1), (2, 0.2)]
    assert run.data.metrics["test_accuracy"] == 0.9
    assert "train_accuracy" not in run.data.metrics


def test_mlflow_tracker_without_server_raises() -> None:
    with pytest.raises(ConvscopeError, match=r"^--log mlflow:http://127\.0\.0\.1:1: no MLflow server answers: "):
        MlflowTracker("http://127.0.0.1:1", "digits", SilentReporter())


def test_mlflow_tracker_whose_server_goes_away_says_so_once(server: str) -> None:
    reporter = RecordingReporter()
    tracker = MlflowTracker(server, "digits", reporter)
    tracker.client = MlflowClient("http://127.0.0.1:1")
    tracker.begin("run-2", {})
    tracker.add(EPOCHS[0])
    tracker.end({})
    assert len(reporter.messages) == 1
    assert "does not answer, nothing more is logged: " in reporter.messages[0]
