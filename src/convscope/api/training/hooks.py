"""What the caller of a training adds to it: callbacks, metrics, an augmentation, a reporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from convscope._reporting import Reporter
from convscope.errors import UsageError
from convscope.images.fit import Fit
from convscope.report.render_pool import Renderer, render_serially
from convscope.training.callbacks import Callback
from convscope.training.config import Augment
from convscope.training.metrics import Metric

RESERVED_METRICS = {"loss", "accuracy"}


@dataclass(frozen=True)
class Hooks:
    """What the caller adds to a training.

    callbacks: see `Callback`. metrics: functions of logits (n, classes) and labels (n,), by name, measured on the
    validation data after each epoch and on the test data at the end. augment: a function of uint8 images
    (n, height, width, channels) and a NumPy generator that returns images of the same shape. reporter: where messages
    and progress go. renderer: turns the plots of the report into PNG files.
    """

    callbacks: Sequence[Callback] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    augment: Augment | None = None
    reporter: Reporter = field(default_factory=Reporter)
    renderer: Renderer = render_serially

    def __post_init__(self) -> None:
        for name in RESERVED_METRICS & self.metrics.keys():
            raise UsageError(f"metrics: {name!r} is measured anyway: choose another name")


class HookKeywords(TypedDict, total=False):
    """Keyword arguments for the fields of `Hooks`."""

    callbacks: Sequence[Callback]
    metrics: Mapping[str, Metric]
    augment: Augment | None
    reporter: Reporter


class OptionKeywords(TypedDict, total=False):
    """Keyword arguments for fields of `TrainOptions` that all commands that train share."""

    init: str | Path | None
    tune: Literal["classifier", "last", "all"] | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    precision: Literal["float32", "bf16", "auto"] | None
    target_accuracy: float | None
    patience: int | None
    budget: float | str | None
    image_size: int | None
    channels: Literal[1, 3, 4] | None
    fit: Fit | None
    group_by: str | None
    class_level: Literal[1, 2] | None
    max_megapixels: float | None
    seed: int
    threads: int | None


class TrainKeywords(OptionKeywords, HookKeywords, total=False):
    """Keyword arguments of `train_model`: the fields of `TrainOptions` and of `Hooks`."""

    run: str | Path | None
    max_error: float | None
    checkpoint_interval: float
