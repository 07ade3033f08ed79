"""TensorBoard events, read back by the definition of their format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from convscope import Run
from convscope.runs.config import EVENTS_FILE
from convscope.runs.tensorboard import event_file
from convscope.training.state import Epoch

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


def test_the_crc_is_the_standards() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_events_hold_what_metrics_hold(digits_run: Run) -> None:
    first, *events = [Event.FromString(data) for data in records((digits_run.path / EVENTS_FILE).read_bytes())]
    assert first.file_version == "brain.Event:2"
    found = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert found == [
        (row["epoch"], tag, np.float32(row[name])) for row in digits_run.history for tag, name in TAGS.items()
    ]
    ends = digits_run.config.created.timestamp() + np.cumsum([row["seconds"] for row in digits_run.history])
    assert [event.wall_time for event in events] == pytest.approx(np.repeat(ends, len(TAGS)), rel=0, abs=1e-5)


def test_before_the_first_epoch_there_is_a_file_without_values() -> None:
    (only,) = records(event_file([], datetime.now(UTC).timestamp()))
    assert Event.FromString(only).file_version == "brain.Event:2"


def test_every_value_of_a_long_history_is_there() -> None:
    history = [Epoch(n, 1 / n, 0.5, 2 / n, 0.25, 0.1, 1000.0, 2.0) for n in range(1, 101)]
    _, *events = [Event.FromString(data) for data in records(event_file(history, 1_000_000.0))]
    assert len(events) == 100 * len(TAGS)
    assert [event.wall_time for event in events[:: len(TAGS)]] == [1_000_000.0 + 2 * n for n in range(1, 101)]
