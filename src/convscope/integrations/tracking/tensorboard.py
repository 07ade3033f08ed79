"""Trainings as TensorBoard events, one folder each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from convscope.errors import ConvscopeError
from convscope.integrations.tracking.tracker import Tracker
from convscope.runs.tensorboard import EventWriter
from convscope.training.state import EpochMetrics


class TensorBoardTracker(Tracker):
    """Writes events to FOLDER/EXPERIMENT/RUN.

    Args:
        folder: That `tensorboard --logdir` is given.
        experiment: Of the runs.
    """

    def __init__(self, folder: str | Path, experiment: str) -> None:
        self.folder = Path(folder) / experiment
        self.writer: EventWriter | None = None
        self.epoch = 0

    def begin(self, name: str, parameters: Mapping[str, str]) -> None:  # noqa: ARG002 events have no parameters
        """Start the run's event file."""
        try:
            self.writer, self.epoch = EventWriter(self.folder / name, time.time()), 0
        except OSError as error:
            raise ConvscopeError(
                f"cannot write {self.folder / name}: {error.strerror}; choose another folder"
            ) from error

    def add(self, epoch: EpochMetrics) -> None:
        """Append the epoch."""
        assert self.writer is not None, "begin comes first"
        self.epoch = epoch.epoch
        self.writer.add(epoch)

    def end(self, results: Mapping[str, float]) -> None:
        """Append the results at the last epoch, and close the file."""
        assert self.writer is not None, "begin comes first"
        self.writer.add_scalars(max(1, self.epoch), results)
        self.writer.close()
        self.writer = None
