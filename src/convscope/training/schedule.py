"""What follows the progress of training: the learning rate, and the size of the images."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from convscope._records import Record

PositiveFraction = Annotated[float, Field(gt=0, le=1)]


class ScheduleConfig(Record):
    """The learning-rate schedule and progressive resizing, both functions of the completed fraction of training, 0..1.

    Attributes:
        name: "constant", or "one-cycle": the learning rate rises linearly during `warmup_fraction` of training and
            then falls linearly to zero (after Smith and Topin, 2017).
        warmup_fraction: 0..1.
        progressive_resizing: pairs `(until_fraction, scale)`. Until that fraction of training, images have that scale
            of their height and width; after the last pair, and always in the last epoch, they have their full size.
    """

    name: Literal["constant", "one-cycle"] = "one-cycle"
    warmup_fraction: float = Field(default=0.2, ge=0, lt=1)
    progressive_resizing: tuple[tuple[PositiveFraction, PositiveFraction], ...] = ()

    @model_validator(mode="after")
    def _resizing_is_in_order(self) -> Self:
        if list(self.progressive_resizing) != sorted(self.progressive_resizing):
            raise ValueError("progressive_resizing must be sorted: earlier, smaller sizes first")
        return self

    def learning_rate(self, peak: float, done: float) -> float:
        """Return the learning rate when the fraction `done` of training is complete; `peak` is the highest one."""
        if self.name == "constant":
            return peak
        climb = done / self.warmup_fraction if self.warmup_fraction else 1
        return peak * min(climb, (1 - done) / (1 - self.warmup_fraction))

    def image_scale(self, done: float) -> float:
        """Return the scale of the images' height and width when the fraction `done` of training is complete."""
        return next((scale for until, scale in self.progressive_resizing if done < until - 1e-9), 1)

    def image_scale_in_epoch(self, epoch: int, epochs: int) -> float:
        """Return the scale in `epoch` of `epochs`, counted from 1; images have their full size in the last epoch."""
        return 1 if epoch == epochs else self.image_scale((epoch - 1) / epochs)
