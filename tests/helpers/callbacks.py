"""Callbacks for tests."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from convscope.training.callbacks import SECOND_SIGNAL_AFTER_S, Callback, Trainer
from convscope.training.state import Progress


class OnBatch(Callback):
    """Calls a function with the progress after every batch."""

    def __init__(self, function: Callable[[Progress], object]) -> None:
        self.function = function

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Call the function."""
        self.function(trainer.state.progress())


class RecordSteps(Callback):
    """Records the number of each step in `steps`."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Record the step."""
        self.steps.append(trainer.state.step)


class Interrupt(Callback):
    """Sends SIGINT to this process after certain steps, `times` times each, far enough apart to be meant each."""

    def __init__(self, *steps: int, times: int = 1) -> None:
        self.steps, self.times = steps, times

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Send the signal if it is one of the steps."""
        for sent in range(self.times if trainer.state.step in self.steps else 0):
            time.sleep(SECOND_SIGNAL_AFTER_S * (sent > 0))
            signal.raise_signal(signal.SIGINT)


class RecordTrainer(Callback):
    """Keeps the trainer, so that a test can look at it."""

    trainer: Trainer

    def on_train_begin(self, trainer: Trainer) -> None:
        """Keep it."""
        self.trainer = trainer
