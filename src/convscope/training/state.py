"""How far a training has come: what it has counted, what its clock says, and how much is left."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from convscope.errors import ConvscopeError
from convscope.training.recipes import Recipe


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured. Losses are mean cross-entropies in nats, accuracies shares of 1, times seconds.

    Training figures are means over the epoch's batches while the weights were changing, as Keras prints them.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Where training stands after a batch; `epoch` counts from 1, `loss` and `accuracy` are of this epoch so far.

    Where the clock ends the training, `epochs` and `steps` are what is expected by now.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Standing:
    """What a Course has counted after `step` steps: the sums of epoch `epoch` so far, and seconds in all and of it."""

    step: int
    epoch: int
    loss_sum: float
    correct: int
    seen: int
    seconds: float
    epoch_seconds: float


class Course:
    """Running sums of an epoch and the clock of the whole training.

    It ends with the last of `epochs` epochs of so many batches; or, where there are `limit` seconds, with them, in the
    middle of an epoch if need be (after Li et al., 2020), and learning rate and image size then follow the clock. Where
    there were epochs `before`, they are those of the last part of a training of all epochs.
    """

    def __init__(self, recipe: Recipe, epochs: int, batches: int, limit: float | None = None, before: int = 0) -> None:
        self.recipe, self.epochs, self.batches, self.limit = recipe, epochs, batches, limit
        self.before, self.begin = before, before / (before + epochs)
        self.sizes = [recipe.size_share(before + epoch, before + epochs) for epoch in range(1, epochs + 1)]
        self.step, self.start = 0, time.perf_counter()
        self.new_epoch(1)

    def new_epoch(self, epoch: int) -> None:
        self.epoch, self.epoch_start = epoch, time.perf_counter()
        self.loss_sum, self.correct, self.seen = 0.0, 0, 0

    @property
    def steps(self) -> int:
        """All batches of all epochs."""
        return self.epochs * self.batches

    @property
    def batch(self) -> int:
        """How many batches of this epoch are done."""
        return self.step - (self.epoch - 1) * self.batches

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    @property
    def epoch_seconds(self) -> float:
        return time.perf_counter() - self.epoch_start

    @property
    def out_of_time(self) -> bool:
        """Whether the clock ends it now; one batch is always trained on."""
        return self.limit is not None and self.step > 0 and self.seconds >= self.limit

    @property
    def over(self) -> bool:
        """Whether there is no epoch to begin or to go on with."""
        return self.epoch > self.epochs if self.limit is None else self.out_of_time and not self.seen

    def done_at(self, step: int) -> float:
        """The share of the training that is done in the middle of a step, 0..1; by the clock it is that of now."""
        share = (step + 0.5) / self.steps if self.limit is None else min(1, self.seconds / self.limit)
        return self.begin + (1 - self.begin) * share

    def image_share(self) -> float:
        """How large images are now, as a share of their own width and height."""
        if self.limit is None:
            return self.sizes[self.epoch - 1]
        return self.recipe.size_at(self.done_at(self.step))

    def add(self, loss: float, correct: int, images: int) -> None:
        """Count one batch. Raises ConvscopeError when its mean loss is no number."""
        self.step += 1
        self.check("loss", loss)
        self.loss_sum += loss * images
        self.correct += correct
        self.seen += images

    def check(self, what: str, loss: float) -> None:
        """Raises ConvscopeError when the loss is no number."""
        if not math.isfinite(loss):
            raise ConvscopeError(
                f"the {what} became {loss} in epoch {self.epoch}, step {self.step}: lower --learning-rate "
                "(each tenfold step down is worth a try)"
            )

    def standing(self) -> Standing:
        sums = self.loss_sum, self.correct, self.seen
        return Standing(self.step, self.epoch, *sums, self.seconds, self.epoch_seconds)

    def go_on(self, then: Standing) -> None:
        """Count on from there; the clocks do not count the time between."""
        now = time.perf_counter()
        self.start, self.epoch_start = now - then.seconds, now - then.epoch_seconds
        self.step, self.epoch = then.step, then.epoch
        self.loss_sum, self.correct, self.seen = then.loss_sum, then.correct, then.seen

    def progress(self) -> Progress:
        speed = self.seen / self.epoch_seconds
        means = self.loss_sum / self.seen, self.correct / self.seen
        if self.limit is None:
            work = [size**2 for size in self.sizes]  # of a step of each epoch
            done = sum(work[: self.epoch - 1]) * self.batches + work[self.epoch - 1] * self.batch
            left = self.seconds * max(0.0, sum(work) * self.batches / done - 1)
            epochs, steps = self.epochs, self.steps
        else:
            left, steps = max(0.0, self.limit - self.seconds), round(self.step * self.limit / self.seconds)
            epochs = max(self.epoch, math.ceil(steps / self.batches))
        return Progress(self.epoch, epochs, self.step, steps, *means, speed, left)

    def epoch_done(self, validation: tuple[float, float], seconds: float) -> Epoch:
        """The epoch's row, with the learning rate of its last batch.

        Raises ConvscopeError when the validation loss is no number.
        """
        self.check("validation loss", validation[0])
        means = self.loss_sum / self.seen, self.correct / self.seen
        rate = self.recipe.learning_rate_at(self.done_at(self.step - 1))
        return Epoch(self.epoch, *means, *validation, rate, self.seen / seconds, seconds)
