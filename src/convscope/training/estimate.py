"""What a network costs before it is trained: work, memory, and time on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from convscope._hardware import HardwareInfo, hardware_info
from convscope.backends.native.backend import Precision
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Split
from convscope.data.load import load_data
from convscope.errors import ArchitectureError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network, resize_network
from convscope.network.layers import Network, Shape
from convscope.network.presets import MNIST_SHAPE, resolve_architecture
from convscope.training.autotune import TuningProbe, autotune
from convscope.training.loop import fit, fitting, parts
from convscope.training.recipes import Recipe, recipe_named

BACKWARD = 3  # a training step is the forward work, and as much again for each of the inputs and the weights
HEIGHT_4K, WIDTH_4K = 2160, 3840
MNIST_IMAGES, MNIST_TEST_IMAGES = 60_000, 10_000
WARM_UP_BATCHES, QUICK_BATCHES = 8, 3


@dataclass(frozen=True)
class TimeEstimate:
    """Expected seconds on this machine, scaled up from `probe_seconds` of real training on random images."""

    epochs: int
    epoch_seconds: float
    training_seconds: float
    probe_seconds: float


@dataclass(frozen=True)
class Cost:
    """What one network costs for one data set; `photo` is the same line on a 3840x2160 picture, where it fits."""

    network: Network
    images: int
    recipe: Recipe
    machine: HardwareInfo
    time: TimeEstimate
    photo: Network | None

    @property
    def epoch_multiply_adds(self) -> int:
        """Forward and backward work of one epoch."""
        mean_size = _mean_size(self.network, self.recipe, self.time.epochs)
        return round(BACKWARD * self.images * mean_size * self.network.multiply_adds)

    def to_dict(self) -> dict[str, Any]:
        """The cost as JSON-able values."""
        photo = self.photo
        return {
            "architecture": self.network.architecture,
            "input": list(self.network.input_shape),
            "classes": self.network.classes,
            "layers": self.network.table(),
            "image": self.network.totals,
            "epoch": {"images": self.images, "multiply_adds": self.epoch_multiply_adds},
            "time": asdict(self.time),
            "recipe": self.recipe.name,
            "machine": self.machine.model_dump(),
            "photo_4k": None if photo is None else {"input": list(photo.input_shape), **photo.totals},
        }


def cost_of(model: str, data: str | None = None, recipe: str = "default", threads: int | None = None) -> Cost:
    """Place a preset or a line on a data set (or on MNIST's shape and size) and measure how long it would train.

    Raises the errors of `load_data`, `parse_network` and `recipe_named`.
    """
    line, chosen = resolve_architecture(model), recipe_named(recipe)
    if data is None:
        shape, classes, held_out = MNIST_SHAPE, 10, round(MNIST_IMAGES * chosen.validation_share)
        training, validation = MNIST_IMAGES - held_out, held_out or MNIST_TEST_IMAGES
    else:
        dataset = load_data(data)
        chosen = recipe_named(recipe, dataset.kind)
        shape, classes = dataset.shape, len(dataset.classes)
        training, validation = map(len, parts(dataset, chosen, seed=0))
    network = parse_network(line, shape, classes)
    chosen = fitting(chosen, network)
    noise = _noise(shape, classes, min(training, 20 * chosen.batch))
    settings = autotune(TuningProbe(network, noise, Preprocessing.plain(noise.images), chosen, 0), threads)
    time = training_time(network, chosen, settings.precision, training, validation)
    machine = hardware_info(settings.threads)
    return Cost(network, training, chosen, machine, time, at_4k(line, shape[-1], classes))


def training_time(
    network: Network,
    recipe: Recipe,
    precision: Precision,
    images: int,
    validation_images: int,
    probe_seconds: float = 4.0,
) -> TimeEstimate:
    """Train on random images for a few seconds with the real loop, and scale up to the real numbers of images."""
    speed = _pace(network, recipe, precision, WARM_UP_BATCHES * recipe.batch, recipe.batch).training
    probed = int(min(images, max(WARM_UP_BATCHES * recipe.batch, speed * probe_seconds)))
    scored = max(1, probed // 4)
    pace = _pace(network, recipe, precision, probed, scored)
    epochs = recipe.planned_epochs(images)
    epoch = pace.training_seconds(network, recipe, epochs, images) / epochs + validation_images / pace.scoring
    return TimeEstimate(epochs, epoch, epochs * epoch, probed / pace.training + scored / pace.scoring)


@dataclass(frozen=True)
class Pace:
    """Images per second of training, at their own size, and of scoring."""

    training: float
    scoring: float

    def training_seconds(self, network: Network, recipe: Recipe, epochs: int, images: int) -> float:
        """Expected seconds of so many epochs, without validation."""
        return epochs * _mean_size(network, recipe, epochs) * images / self.training


def quick_pace(network: Network, recipe: Recipe, precision: Precision, images: int) -> Pace:
    """Roughly, from a few batches of random images."""
    return _pace(network, recipe, precision, min(images, QUICK_BATCHES * recipe.batch), min(images, recipe.batch))


def at_4k(line: str, channels: int, classes: int) -> Network | None:
    """The same line placed on a 3840x2160 picture; None where it does not fit."""
    try:
        return parse_network(line, (HEIGHT_4K, WIDTH_4K, channels), classes)
    except ArchitectureError:
        return None


def _mean_size(network: Network, recipe: Recipe, epochs: int) -> float:
    """The share of its multiply-adds that the network does in an epoch, on average, while images grow."""
    sizes = (resize_network(network, recipe.size_share(epoch, epochs)) for epoch in range(1, epochs + 1))
    return sum((small or network).multiply_adds for small in sizes) / (epochs * network.multiply_adds)


def _pace(network: Network, recipe: Recipe, precision: Precision, images: int, scored: int) -> Pace:
    """Of the real loop on so many random images."""
    one_epoch = recipe.slower(1e6).model_copy(update={"epochs": 1, "least_steps": 0, "growth": ()})
    training, scoring = (
        _noise(network.input_shape, network.classes, images),
        _noise(network.input_shape, network.classes, scored),
    )
    fitted = fit(
        build_model(network), training, scoring, Preprocessing.plain(scoring.images), one_epoch, 0, precision=precision
    )
    epoch = fitted.history[0]
    return Pace(epoch.images_per_second, scored / max(1e-9, fitted.seconds - epoch.seconds))


def _noise(shape: Shape, classes: int, images: int) -> Split:
    random = np.random.default_rng(0)
    return Split(random.integers(0, 256, (images, *shape), np.uint8), random.integers(0, classes, images))
