"""The rows of all epochs in a run folder, as JSON lines and as TensorBoard events, while it is being trained."""

from __future__ import annotations

import time

from convscope.runs.config import EVENTS_FILE, METRICS_FILE
from convscope.runs.folder import RunWriter
from convscope.runs.tensorboard import event_file
from convscope.training.loop import history_rows
from convscope.training.state import Epoch

LEAST_PAUSE, PAUSE = 1.0, 50  # seconds between two times, or as many times what writing took


class Metrics:
    """Writes all rows anew after an epoch, but not so often that training would wait for it."""

    def __init__(self, writer: RunWriter) -> None:
        self.writer, self.due = writer, 0.0

    def epoch_done(self, history: list[Epoch]) -> None:
        """Write them where it is time."""
        if time.monotonic() >= self.due:
            self.write(history)

    def write(self, history: list[Epoch]) -> None:
        began = time.monotonic()
        self.writer.write_rows(METRICS_FILE, history_rows(history))
        self.writer.write(EVENTS_FILE, event_file(history, self.writer.config.created.timestamp()))
        ended = time.monotonic()
        self.due = ended + max(LEAST_PAUSE, PAUSE * (ended - began))
