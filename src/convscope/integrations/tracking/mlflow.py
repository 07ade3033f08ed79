"""Trainings as runs of an MLflow server; mlflow-skinny, or mlflow, is its client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

# Read when mlflow is imported: no telemetry, and a server that is gone is not waited for.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from convscope._reporting import Reporter
from convscope.errors import ConvscopeError
from convscope.integrations.tracking.tracker import Tracker
from convscope.training.state import EpochMetrics

NAME_TAG = "convscope.run"
MAX_VALUE = 500  # characters of a parameter


class MlflowTracker(Tracker):
    """Writes runs to an MLflow server. If it stops answering, training goes on without it, with one message.

    Args:
        uri: Of the server.
        experiment: Under which the runs are listed; it is created if it is missing.
        reporter: Receives the message.

    Raises:
        ConvscopeError: The server does not answer.
    """

    def __init__(self, uri: str, experiment: str, reporter: Reporter) -> None:
        self.uri, self.reporter, self.run_id = uri, reporter, ""
        try:
            self.client = MlflowClient(tracking_uri=uri)
            known = self.client.get_experiment_by_name(experiment)
            self.experiment = known.experiment_id if known else self.client.create_experiment(experiment)
        except Exception as error:  # of any library below mlflow
            raise ConvscopeError(f"--log mlflow:{uri}: no MLflow server answers: {_first_line(error)}") from error

    def begin(self, name: str, parameters: Mapping[str, str]) -> None:
        """Create the run, or continue the one of that name."""
        self._try(lambda: self._begin(name, parameters))

    def add(self, epoch: EpochMetrics) -> None:
        """Record the epoch's values; its number is the step."""
        values = {name: value for name, value in epoch.to_row().items() if name != "epoch" and value is not None}
        self._try(lambda: self.client.log_batch(self.run_id, metrics=_metrics(values, epoch.epoch)))

    def end(self, results: Mapping[str, float]) -> None:
        """Record the results, and close the run."""
        self._try(lambda: self.client.log_batch(self.run_id, metrics=_metrics(results, 0)))
        self._try(lambda: self.client.set_terminated(self.run_id))

    def _begin(self, name: str, parameters: Mapping[str, str]) -> None:
        found = self.client.search_runs([self.experiment], f"tags.`{NAME_TAG}` = '{name}'", max_results=1)
        if found:
            self.run_id = found[0].info.run_id
            return
        run = self.client.create_run(self.experiment, run_name=name, tags={NAME_TAG: name})
        self.run_id = run.info.run_id
        given = [Param(name, value[:MAX_VALUE]) for name, value in parameters.items()]
        self.client.log_batch(self.run_id, params=given)

    def _try(self, call: Callable[[], object]) -> None:
        if not self.uri:
            return
        try:
            call()
        except Exception as error:  # of any library below mlflow
            self.reporter.message(f"{self.uri} does not answer, nothing more is logged: {_first_line(error)}")
            self.uri = ""


def _metrics(values: Mapping[str, float], step: int) -> list[Metric]:
    now = int(1000 * time.time())
    return [Metric(name, float(value), now, step) for name, value in values.items()]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:MAX_VALUE]
