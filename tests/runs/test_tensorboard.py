"""TensorBoard events, read back with a reader written from the definition of their format."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from convscope import Run
from convscope.runs.config import EVENT_FOLDER
from convscope.runs.tensorboard import EventWriter
from convscope.training.state import EpochMetrics

TAGS = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(content: bytes) -> Iterator[bytes]:
    """TFRecord: length uint64, its masked CRC, that many bytes, their masked CRC."""
    while content:
        length, length_crc = struct.unpack_from("<QI", content)
        data, (data_crc,) = content[12 : 12 + length], struct.unpack_from("<I", content, 12 + length)
        assert length_crc == masked(content[:8])
        assert data_crc == masked(data)
        yield data
        content = content[16 + length :]


def events_in(folder: Path) -> list[Event]:
    """The events of the only file in the folder."""
    (file,) = folder.iterdir()
    assert re.fullmatch(r"events\.out\.tfevents\.\d{10}\.convscope", file.name)
    return [Event.FromString(data) for data in records(file.read_bytes())]


def scalars(events: list[Event]) -> list[tuple[int, str, float]]:
    return [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]


def epochs(first: int, last: int) -> list[EpochMetrics]:
    return [EpochMetrics(n, 1 / n, 0.5, 2 / n, 0.25, 0.1, 1000.0, 2.0) for n in range(first, last + 1)]


def test_crc32c_check_value_equals_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_events_of_a_run_hold_its_metrics(digits_run: Run) -> None:
    version, start, *events = events_in(digits_run.path / EVENT_FOLDER)
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (SessionLog.START, 1)
    assert scalars(events) == [
        (row["epoch"], tag, float(np.float32(row[name]))) for row in digits_run.history for tag, name in TAGS.items()
    ]
    ends = digits_run.config.created.timestamp() + np.cumsum([row["seconds"] for row in digits_run.history])
    assert [event.wall_time for event in events] == pytest.approx(np.repeat(ends, len(TAGS)), rel=0, abs=1e-5)


def test_event_writer_without_epochs_writes_no_scalars(tmp_path: Path) -> None:
    EventWriter(tmp_path, datetime.now(UTC).timestamp()).close()
    assert scalars(events_in(tmp_path)) == []


def test_event_writer_100_epochs_holds_every_value(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, 1_000_000.0)
    for epoch in epochs(1, 100):
        writer.add(epoch)
    writer.close()
    _, _, *events = events_in(tmp_path)
    assert len(scalars(events)) == len(events) == 100 * len(TAGS)
    assert [event.wall_time for event in events[:: len(TAGS)]] == [1_000_000.0 + 2 * n for n in range(1, 101)]


def test_event_writer_epoch_without_train_accuracy_leaves_it_out(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, 0.0)
    writer.add(replace(epochs(1, 1)[0], train_accuracy=None))
    writer.close()
    assert len(scalars(events_in(tmp_path))) == len(TAGS) - 1


def test_event_writer_after_an_epoch_only_appends(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, 0.0, epochs(1, 2))
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    assert len(scalars(events_in(tmp_path))) == 2 * len(TAGS)  # a reader sees them at once
    writer.add(epochs(3, 3)[0])
    writer.flush()
    after = file.read_bytes()
    assert after.startswith(before)
    assert len(after) > len(before)
    writer.close()


def test_event_writer_of_a_resumed_run_replaces_the_file_without_duplicate_steps(tmp_path: Path) -> None:
    """The first process was killed after epoch 4, of which the checkpoint knows nothing."""
    killed = EventWriter(tmp_path, 0.0)
    for epoch in epochs(1, 4):
        killed.add(epoch)
    killed.flush()
    killed.records.close()
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "events.out.tfevents.1000000000.convscope")  # some time ago
    resumed = EventWriter(tmp_path, 0.0, epochs(1, 2))
    for epoch in epochs(3, 5):
        resumed.add(epoch)
    resumed.close()
    version, start, *events = events_in(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (SessionLog.START, 1)  # TensorBoard drops what it has read before
    steps = [step for step, tag, _ in scalars(events) if tag == "loss/train"]
    assert steps == [1, 2, 3, 4, 5]
