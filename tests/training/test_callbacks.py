"""Callbacks of the training loop: signals, and the result that they see."""

from __future__ import annotations

import signal
import threading

import pytest

from convscope.training.callbacks import TrainResult, stop_on_signals
from convscope.training.state import EpochMetrics


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stop_on_signals_first_signal_is_recorded_and_a_later_one_acts(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[-1])
    received: list[int] = []
    previous = signal.signal(number, lambda number, _: received.append(number))
    try:
        with stop_on_signals() as stop:
            assert stop.received == 0
            signal.raise_signal(number)
            assert (stop.received, received) == (number, [])
            for other in (signal.SIGINT, signal.SIGTERM):  # at once, as from a supervisor
                signal.raise_signal(other)
            assert (stop.received, received) == (number, [])
            clock.append(10.5)
            signal.raise_signal(number)
            assert received == [number]
        with stop_on_signals():
            pass
        signal.raise_signal(number)
        assert received == [number] * 2
    finally:
        signal.signal(number, previous)


def test_stop_on_signals_ignored_hangup_stays_ignored() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by nohup
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.received == 0
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_stop_on_signals_outside_the_main_thread_leaves_handlers_alone() -> None:
    previous = signal.getsignal(signal.SIGINT)
    found: list[object] = []

    def work() -> None:
        with stop_on_signals() as stop:
            found.extend([stop.received, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0, previous]


def metrics_of(epoch: int, accuracy: float) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        train_loss=1.0,
        train_accuracy=0.5,
        validation_loss=1.0,
        validation_accuracy=accuracy,
        learning_rate=0.1,
        images_per_second=100.0,
        seconds=1.0,
    )


@pytest.mark.parametrize(
    ("accuracies", "without_gain", "last_is_best"),
    [
        ([0.5], 0, True), ([0.5, 0.6], 0, True), ([0.6, 0.5], 1, False), ([0.6, 0.6, 0.5, 0.4], 3, False),
        ([0.6, 0.6, 0.6], 2, True), ([0.5, 0.6, 0.4, 0.6], 2, True),
    ],
)  # fmt: skip
def test_train_result_tie_is_best_but_no_gain(accuracies: list[float], without_gain: int, last_is_best: bool) -> None:
    result = TrainResult(history=[metrics_of(epoch, accuracy) for epoch, accuracy in enumerate(accuracies, 1)])
    assert (result.epochs_without_gain, result.last_is_best) == (without_gain, last_is_best)
