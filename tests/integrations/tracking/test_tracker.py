"""What tracking tools record of trainings and searches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from convscope._reporting import SilentReporter
from convscope.api.tuning.search_folder import SearchConfig, StoredTrial, Trial
from convscope.api.tuning.space import Configuration
from convscope.errors import ConvscopeError, UsageError
from convscope.integrations.tracking.open import open_tracker
from convscope.integrations.tracking.tensorboard import TensorBoardTracker
from convscope.integrations.tracking.tracker import Tracker
from convscope.runs.config import MetricsRow
from convscope.training.state import EpochMetrics
from helpers.command import Command


class RecordingTracker(Tracker):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def begin(self, name: str, parameters: Mapping[str, str]) -> None:
        self.calls.append((name, parameters))

    def add(self, epoch: EpochMetrics) -> None:
        self.calls.append(epoch)

    def end(self, results: Mapping[str, float]) -> None:
        self.calls.append(results)


EPOCH = EpochMetrics(1, 0.5, None, 0.4, 0.9, 0.1, 1000.0, 2.0)

SEARCH = SearchConfig(
    created=datetime(2026, 11, 27, 8, tzinfo=UTC),
    data="digits",
    path="digits",
    fingerprint="",
    options={},
    rungs=(3, 2),
    configurations=(),
)


def stored(**changes: object) -> StoredTrial:
    configuration = Configuration(recipe="best")
    fields = {"number": 2, "rung": 1, "configuration": configuration, "budget": 9, "seconds": 8, "model": "small"}
    trial = Trial.model_validate({**fields, "recipe": "best", "accuracy": 0.75, "loss": 0.6, **changes})
    return StoredTrial(trial=trial, epochs=(MetricsRow.model_validate(EPOCH.to_row()),))


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """The values of the event files below a folder, by tag and step."""
    found: dict[tuple[str, int], float] = {}
    for path in folder.rglob("events.out.tfevents.*"):
        content, start = path.read_bytes(), 0
        while start < len(content):
            length = int.from_bytes(content[start : start + 8], "little")
            event = Event.FromString(content[start + 12 : start + 12 + length])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            start += length + 16
    return found


def test_tracker_of_trial_is_told_configuration_epochs_and_result() -> None:
    tracker = RecordingTracker()
    tracker.add_trial(SEARCH, stored())
    parameters = {"recipe": "best", "model": "small", "differs by": "recipe best"}
    assert tracker.calls == [
        ("digits-20261127-080000 trial 2 rung 2", parameters),
        EPOCH,
        {"accuracy": 0.75, "loss": 0.6},
    ]


def test_tracker_of_failed_trial_is_told_the_error_and_no_accuracy() -> None:
    tracker = RecordingTracker()
    tracker.add_trial(SEARCH, stored(error="loss is infinite"))
    assert tracker.calls[0] == (
        "digits-20261127-080000 trial 2 rung 2",
        {"recipe": "best", "model": "small", "differs by": "recipe best", "error": "loss is infinite"},
    )
    assert tracker.calls[-1] == {}


def test_tensorboard_tracker_writes_epochs_and_results(tmp_path: Path) -> None:
    TensorBoardTracker(tmp_path, "digits").add_trial(SEARCH, stored())
    found = scalars(tmp_path / "digits" / "digits-20261127-080000 trial 2 rung 2")
    assert found["accuracy/validation", 1] == pytest.approx(0.9)
    assert found["accuracy", 1] == 0.75
    assert ("accuracy/train", 1) not in found


@pytest.mark.parametrize("where", ["wandb:x", "mlflow:", "tensorboard", "runs"])
def test_open_tracker_of_another_kind_raises(where: str) -> None:
    with pytest.raises(UsageError, match=f"^--log {where}: expected mlflow:URI, .* or tensorboard:FOLDER$"):
        open_tracker(where, "digits", SilentReporter())


def test_tensorboard_tracker_folder_that_cannot_be_written_raises(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConvscopeError, match=r"^cannot write .*file/digits/trial.*: Not a directory; choose another"):
        TensorBoardTracker(tmp_path / "file", "digits").begin("trial", {})


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_train_log_option_writes_events(command: Command) -> None:
    words = ("train", "digits", "--model", "flatten", "--epochs", "2", "--threads", "1", "--log", "tensorboard:logs")
    assert command(*words).code == 0
    (folder,) = Path("logs/digits").iterdir()
    found = scalars(folder)
    assert {("loss/train", 1), ("loss/train", 2), ("test_accuracy", 2)} <= set(found)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_search_log_option_writes_every_trial(command: Command) -> None:
    words = ("search", "digits", "--model", "flatten", "--epochs", "1", "--threads", "1", "--trials", "2")
    assert command(*words, "--log", "tensorboard:logs", "--out", "found").code == 0
    logged = {path.name.partition(" ")[2] for path in Path("logs/searches").iterdir()}
    assert logged == {"trial 0 rung 1", "trial 1 rung 1"}
