"""Callbacks of the training loop, with Keras's hook names."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

if TYPE_CHECKING:  # callbacks are defined without loading torch
    from torch import nn

    from convscope.training.optimizers import Optimizer
    from convscope.training.state import EpochMetrics, TrainerState

Weights = dict[str, NDArray[Any]]

SECOND_SIGNAL_AFTER_S = 0.5


@dataclass
class TrainResult:
    """The outcome of training: the weights of the best and of the last epoch, and the metrics of all epochs.

    If training stopped before its first epoch ended, both epoch numbers are 0 and the weights are the current ones.

    Attributes:
        select: which weights the recipe uses.
        best: weights of the epoch with the highest validation accuracy, the latest of equals.
        best_epoch: its number, from 1.
        last: weights of the last epoch.
        last_epoch: its number, from 1.
        history: metrics of all epochs.
        seconds: time that training took.
    """

    select: Literal["best", "last"] = "last"
    best: Weights = field(default_factory=dict)
    best_epoch: int = 0
    last: Weights = field(default_factory=dict)
    last_epoch: int = 0
    history: list[EpochMetrics] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def weights(self) -> Weights:
        """The weights that the recipe selects."""
        return self.best if self.select == "best" else self.last

    @property
    def epoch(self) -> int:
        """The epoch of `weights`."""
        return self.best_epoch if self.select == "best" else self.last_epoch

    @property
    def last_is_best(self) -> bool:
        """Whether no epoch had a better validation accuracy than the last one."""
        accuracies = [epoch.validation_accuracy for epoch in self.history]
        return accuracies[-1] == max(accuracies)

    @property
    def epochs_without_gain(self) -> int:
        """Epochs since validation accuracy last rose above all earlier values; a tie is no gain."""
        accuracies = [epoch.validation_accuracy for epoch in self.history]
        return len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0


@dataclass
class Trainer:
    """Everything that training changes, except for torch's random numbers; callbacks receive it.

    A callback ends training by setting `stop_training`: after the current batch, or after the epoch at its end.
    """

    model: nn.Module
    optimizer: Optimizer
    state: TrainerState
    result: TrainResult
    stop_training: bool = False


class Callback:
    """Base class of callbacks; override the hooks that you need."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Called before the first batch."""

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Called after every batch, when the weights have been updated."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Called after an epoch's validation; `trainer.result.history[-1]` holds its metrics."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Called once when training ends, early or not."""


@dataclass
class StopOnSignal(Callback):
    """Ends training after the current batch once a signal has come.

    Attributes:
        received: the signal, or 0.
        number: the signal that has ended training; 0 if none did, or if it came when training had ended.
    """

    received: int = 0
    number: int = 0

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Ask training to stop."""
        if self.received:
            trainer.stop_training, self.number = True, self.received

    on_epoch_end = on_train_batch_end


@contextmanager
def stop_on_signals() -> Iterator[StopOnSignal]:
    """Record the first Ctrl-C, SIGTERM or SIGHUP instead of dying from it; a second one acts at once.

    A second one counts from half a second later: see `SECOND_SIGNAL_AFTER_S`. SIGHUP comes when a terminal is closed;
    if it is ignored, as by nohup, it stays so.
    What stops a process often sends both signals together, or one of them to the process and to its group.
    Python delivers signals to the main thread only; in any other thread this does nothing.
    """
    stop = StopOnSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
        numbers.append(signal.SIGHUP)
    previous = {number: signal.getsignal(number) for number in numbers}
    first = math.inf

    def record(number: int, _: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not stop.received:
            stop.received, first = number, now
        elif now - first >= SECOND_SIGNAL_AFTER_S:
            _restore(previous)
            signal.raise_signal(number)

    for number in previous:
        signal.signal(number, record)
    try:
        yield stop
    finally:
        _restore(previous)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
