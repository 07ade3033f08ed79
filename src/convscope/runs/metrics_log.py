"""The metrics of a run, appended after every epoch: `metrics.jsonl` and TensorBoard events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Self

from convscope.errors import ConvscopeError
from convscope.runs.config import EVENT_FOLDER, METRICS_FILE
from convscope.runs.folder import RunWriter
from convscope.runs.tensorboard import EventWriter
from convscope.training.callbacks import Callback, Trainer
from convscope.training.state import EpochMetrics


class MetricsLog(Callback):
    """Appends one row per epoch to both files, which it closes at the end of a with block.

    A process that is killed may leave the last row incomplete; a resumed run starts both files with the epochs of its
    checkpoint. All methods raise ConvscopeError if a file cannot be written.
    """

    def __init__(self, writer: RunWriter) -> None:
        self.writer = writer
        self.rows: IO[str] | None = None
        self.events: EventWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.rows, self.events):
            if file is not None:
                with self._one_line():
                    file.close()

    def on_train_begin(self, trainer: Trainer) -> None:
        """Begin both files."""
        self.start(trainer.result.history)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Append the epoch."""
        self.add(trainer.result.history[-1])

    def start(self, history: Sequence[EpochMetrics] = ()) -> None:
        """Begin both files with the epochs that are finished already."""
        self.writer.write_rows(METRICS_FILE, [epoch.to_row() for epoch in history])
        with self._one_line():
            self.rows = (self.writer.path / METRICS_FILE).open("a", encoding="utf-8", newline="\n", buffering=1)
            start = self.writer.config.created.timestamp()
            self.events = EventWriter(self.writer.path / EVENT_FOLDER, start, history)

    def add(self, epoch: EpochMetrics) -> None:
        """Append an epoch."""
        assert self.rows and self.events, "start comes first"
        with self._one_line():
            self.rows.write(json.dumps(epoch.to_row()) + "\n")
            self.events.add(epoch)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turn an OSError into a message."""
        try:
            yield
        except OSError as error:
            message = f"cannot write the metrics to {self.writer.path}: {error.strerror}; free some space"
            raise ConvscopeError(message) from error
