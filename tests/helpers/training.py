"""Callbacks and states of training for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from convscope.training.callbacks import Callback, Trainer
from convscope.training.recipe import Recipe
from convscope.training.state import Progress, TrainerState

Hook = Callable[[Trainer], object]


class LambdaCallback(Callback):
    """Calls a function from each hook, like Keras's callback of that name."""

    def __init__(
        self,
        on_train_begin: Hook | None = None,
        on_train_batch_end: Hook | None = None,
        on_epoch_end: Hook | None = None,
        on_train_end: Hook | None = None,
    ) -> None:
        given = {
            "on_train_begin": on_train_begin,
            "on_train_batch_end": on_train_batch_end,
            "on_epoch_end": on_epoch_end,
            "on_train_end": on_train_end,
        }
        for name, hook in given.items():
            if hook is not None:
                setattr(self, name, hook)


class ProgressRecorder(Callback):
    """Records the progress after every batch."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Record the progress."""
        self.seen.append(trainer.state.progress())


def state_at(recipe: Recipe, images: int, epoch: int, batch: int = 0, initial_epoch: int = 0) -> TrainerState:
    """Return the state of training on `images` images in that epoch, from 1, after `batch` batches of it."""
    state = TrainerState(recipe, images, initial_epoch=initial_epoch)
    state.begin_epoch(epoch)
    state.step = (epoch - 1) * state.batches_per_epoch + batch
    return state


def weights_bytes(weights: dict[str, NDArray[Any]]) -> bytes:
    """Return all values, for a bit-exact comparison."""
    return b"".join(array.tobytes() for array in weights.values())
