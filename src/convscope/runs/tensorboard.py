"""TensorBoard events of a run, appended after every epoch.

tensorboardX's SummaryWriter is not used: when its background thread meets a full disk, it ends, and the next
`add_scalar` blocks the training forever. Its record format is used here without the thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from convscope._files import remove
from convscope.training.state import EpochMetrics

SCALARS = {  # tag: field of an epoch
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}
FLUSH_INTERVAL_S = 1.0


class EventWriter:
    """Writes the scalars of each epoch to a new event file, which replaces the others in the folder.

    The file starts with `history`, the epochs of a resumed run. It tells a TensorBoard that has read an older file to
    drop everything from step 1 on, so that no step appears twice.
    """

    def __init__(self, folder: Path, start: float, history: Iterable[EpochMetrics] = ()) -> None:
        """Create the file.

        Args:
            folder: Created if it is missing.
            start: Time at which the run was created, in seconds since 1970.
            history: Epochs that are finished already.

        Raises:
            OSError: The file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            remove(old)
        self.clock, self.flushed = start, 0.0
        self.records = RecordWriter(str(folder / f"events.out.tfevents.{time.time():.0f}.convscope"))
        self._write(Event(wall_time=start, file_version="brain.Event:2"))
        self._write(Event(wall_time=start, step=1, session_log=SessionLog(status=SessionLog.START)))
        try:
            for epoch in history:
                self._add(epoch)
            self.flush()
        except BaseException:
            self.records.close()
            raise

    def add(self, epoch: EpochMetrics) -> None:
        """Append an epoch. Raises OSError if that fails."""
        self._add(epoch)
        if time.monotonic() - self.flushed >= FLUSH_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Put everything on the disk. Raises OSError if that fails."""
        self.records.flush()
        self.flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close the file. Raises OSError if that fails."""
        try:
            self.flush()
        finally:
            self.records.close()

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append values by tag. Raises OSError if that fails."""
        for tag, value in values.items():
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            self._write(Event(wall_time=self.clock, step=step, summary=summary))

    def _add(self, epoch: EpochMetrics) -> None:
        self.clock += epoch.seconds
        values = {tag: getattr(epoch, field) for tag, field in SCALARS.items()}
        self.add_scalars(epoch.epoch, {tag: value for tag, value in values.items() if value is not None})

    def _write(self, event: Event) -> None:
        self.records.write(event.SerializeToString())
