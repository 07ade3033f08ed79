"""How far training has come: its counters, its clock, and what is left."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from convscope.errors import ConvscopeError
from convscope.training.recipe import Recipe


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch measured: mean cross-entropy in nats, accuracies 0..1, time in seconds.

    As in Keras, training values are means over the epoch's batches, taken while the weights were changing. The accuracy
    leaves out batches that CutMix has mixed, whose images have two labels; it is None if there are no others.
    `metrics` are the values of the user's own metrics on the validation data.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_row(self) -> dict[str, float | None]:
        """Return the row of `metrics.jsonl`; the user's own metrics come last, as `validation_NAME`."""
        row = {name: value for name, value in vars(self).items() if name != "metrics"}
        return row | {f"validation_{name}": value for name, value in self.metrics.items()}


@dataclass(frozen=True)
class Progress:
    """The state after a batch; `epoch` counts from 1, `loss` and `accuracy` are means of this epoch so far.

    `accuracy` is None while CutMix has mixed all batches of the epoch. With a time limit, `epochs` and `steps` are
    estimates.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float | None
    images_per_second: float
    seconds_left: float


StateDict = dict[str, int | float]  # the counters of a TrainerState by name, as a checkpoint holds them


class TrainerState:
    """The counters of the current epoch and the clock of the whole training.

    Training ends after `epochs` epochs; or, with a `time_limit` in seconds, at that time, if necessary in the middle of
    an epoch, and learning rate and image size then follow the clock (after Li et al., 2020). With an `initial_epoch`,
    these are the last epochs of a training that had `initial_epoch` epochs before.

    Args:
        recipe: what the schedule and the number of steps follow from.
        images: number of training images.
        time_limit: seconds, or None to train all epochs.
        initial_epoch: number of epochs that the model has been trained for already.

    Attributes:
        agreed_seconds: the seconds since training began that several processes have agreed on; None if there is one.
    """

    agreed_seconds: float | None = None

    def __init__(self, recipe: Recipe, images: int, time_limit: float | None = None, initial_epoch: int = 0) -> None:
        self.recipe, self.time_limit, self.initial_epoch = recipe, time_limit, initial_epoch
        self.epochs, self.batches_per_epoch = recipe.planned_epochs(images), recipe.batches_per_epoch(images)
        total = initial_epoch + self.epochs
        self.initial_done = initial_epoch / total if total else 0
        self.image_scales = [
            recipe.schedule.image_scale_in_epoch(epoch, total) for epoch in range(initial_epoch + 1, total + 1)
        ]
        self.step, self.start = 0, time.perf_counter()
        self.begin_epoch(1)

    def begin_epoch(self, epoch: int) -> None:
        """Reset the counters of the epoch."""
        self.epoch, self.epoch_start = epoch, time.perf_counter()
        self.loss_sum, self.correct, self.seen, self.unmixed = 0.0, 0, 0, 0

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.epochs * self.batches_per_epoch

    @property
    def batch(self) -> int:
        """Completed batches of this epoch."""
        return self.step - (self.epoch - 1) * self.batches_per_epoch

    @property
    def elapsed(self) -> float:
        """Seconds since training began, on the clock of this process."""
        return time.perf_counter() - self.start

    @property
    def seconds(self) -> float:
        """Seconds since training began, on which decisions depend."""
        return self.elapsed if self.agreed_seconds is None else self.agreed_seconds

    @property
    def epoch_seconds(self) -> float:
        """Seconds since the epoch began."""
        return time.perf_counter() - self.epoch_start

    @property
    def out_of_time(self) -> bool:
        """Whether the time limit has been reached; at least one batch is always trained."""
        return self.time_limit is not None and self.step > 0 and self.seconds >= self.time_limit

    @property
    def finished(self) -> bool:
        """Whether no epoch is left to begin or to continue."""
        return self.epoch > self.epochs if self.time_limit is None else self.out_of_time and not self.seen

    def done_at(self, step: int) -> float:
        """Return the completed fraction of training, 0..1, in the middle of a step; with a time limit, that of now."""
        done = (step + 0.5) / self.steps if self.time_limit is None else min(1, self.seconds / self.time_limit)
        return self.initial_done + (1 - self.initial_done) * done

    def image_scale(self) -> float:
        """Return the present scale of the images' height and width, see `ScheduleConfig`."""
        if self.time_limit is None:
            return self.image_scales[self.epoch - 1]
        return self.recipe.schedule.image_scale(self.done_at(self.step))

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy of this epoch's batches so far, without mixed ones; None if there are no others."""
        return self.correct / self.unmixed if self.unmixed else None

    def add_batch(self, loss: float, correct: int, images: int, *, mixed: bool = False) -> None:
        """Count one batch.

        Args:
            loss: its mean loss.
            correct: number of images whose label had the highest logit.
            images: number of images.
            mixed: whether CutMix has mixed them; `correct` then means nothing.

        Raises:
            ConvscopeError: the loss is not finite.
        """
        self.step += 1
        self._check_finite("loss", loss)
        self.loss_sum += loss * images
        self.seen += images
        if not mixed:
            self.correct += correct
            self.unmixed += images

    def end_epoch(self, validation: tuple[float, float, Mapping[str, float]], seconds: float) -> EpochMetrics:
        """Return the metrics of the epoch that ends.

        Args:
            validation: loss, accuracy and the user's own metrics on the validation data.
            seconds: time that the epoch's batches took.

        Raises:
            ConvscopeError: the validation loss is not finite.
        """
        loss, accuracy, metrics = validation
        self._check_finite("validation loss", loss)
        rate = self.recipe.learning_rate_at(self.done_at(self.step - 1))
        return EpochMetrics(
            epoch=self.epoch,
            train_loss=self.loss_sum / self.seen,
            train_accuracy=self.accuracy,
            validation_loss=loss,
            validation_accuracy=accuracy,
            learning_rate=rate,
            images_per_second=self.seen / seconds,
            seconds=seconds,
            metrics=metrics,
        )

    def progress(self) -> Progress:
        """Return the present state for people, with the expected time left."""
        if self.time_limit is None:
            work = [scale**2 for scale in self.image_scales]  # of a step of each epoch
            done = sum(work[: self.epoch - 1]) * self.batches_per_epoch + work[self.epoch - 1] * self.batch
            left = self.seconds * max(0.0, sum(work) * self.batches_per_epoch / done - 1)
            epochs, steps = self.epochs, self.steps
        else:
            left = max(0.0, self.time_limit - self.seconds)
            steps = round(self.step * self.time_limit / self.seconds)
            epochs = max(self.epoch, math.ceil(steps / self.batches_per_epoch))
        return Progress(
            epoch=self.epoch,
            epochs=epochs,
            step=self.step,
            steps=steps,
            loss=self.loss_sum / self.seen,
            accuracy=self.accuracy,
            images_per_second=self.seen / self.epoch_seconds,
            seconds_left=left,
        )

    def state_dict(self) -> StateDict:
        """Return the counters, for a checkpoint."""
        names = ("step", "epoch", "loss_sum", "correct", "seen", "unmixed", "seconds", "epoch_seconds")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from these counters; the clocks skip the time in between."""
        now = time.perf_counter()
        self.agreed_seconds = None
        self.start, self.epoch_start = now - state["seconds"], now - state["epoch_seconds"]
        self.step, self.epoch = int(state["step"]), int(state["epoch"])
        self.loss_sum, self.correct = state["loss_sum"], int(state["correct"])
        self.seen, self.unmixed = int(state["seen"]), int(state["unmixed"])

    def _check_finite(self, name: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise ConvscopeError(
                f"the {name} became {loss} in epoch {self.epoch}, step {self.step}: lower --learning-rate, "
                "for example to a tenth"
            )
