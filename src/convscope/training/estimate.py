"""How long a network trains on this machine, estimated from a few seconds of real training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convscope._hardware import hardware_info
from convscope.backends.native.backend import Precision
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import resize_network
from convscope.network.cost import TimeEstimate, TrainingCost
from convscope.network.layers import Network, Shape
from convscope.training.autotune import TuningProbe, autotune
from convscope.training.loop import fit, fitting, parts
from convscope.training.recipes import Recipe, recipe_named

BACKWARD = 3  # a training step is the forward work, and as much again for each of the inputs and the weights
MNIST_IMAGES, MNIST_TEST_IMAGES = 60_000, 10_000
WARM_UP_BATCHES, QUICK_BATCHES = 8, 3


def training_cost(
    network: Network, dataset: Dataset | None = None, recipe: str = "default", threads: int | None = None
) -> TrainingCost:
    """Measure how long a network would train on a data set, or on as many images as MNIST has.

    Args:
        network: The network, for the data set's images and classes.
        dataset: Sets the number of images and the variant of the recipe.
        recipe: Name of the recipe.
        threads: Processor threads; by default chosen by measurement.
    """
    if dataset is None:
        chosen = recipe_named(recipe)
        held_out = round(MNIST_IMAGES * chosen.validation_share)
        training, validation = MNIST_IMAGES - held_out, held_out or MNIST_TEST_IMAGES
    else:
        chosen = recipe_named(recipe, dataset.kind)
        training, validation = map(len, parts(dataset, chosen, seed=0))
    chosen = fitting(chosen, network)
    noise = _noise(network.input_shape, network.classes, min(training, 20 * chosen.batch))
    settings = autotune(TuningProbe(network, noise, Preprocessing.plain(noise.images), chosen, 0), threads)
    time = training_time(network, chosen, settings.precision, training, validation)
    mean_size = _mean_size(network, chosen, time.epochs)
    return TrainingCost(
        recipe=chosen.name,
        images=training,
        epoch_multiply_adds=round(BACKWARD * training * mean_size * network.multiply_adds),
        time=time,
        machine=hardware_info(settings.threads),
    )


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
    return TimeEstimate(
        epochs=epochs,
        epoch_seconds=epoch,
        training_seconds=epochs * epoch,
        probe_seconds=probed / pace.training + scored / pace.scoring,
    )


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
