"""How long training takes on this machine, from a few seconds of the real loop on random images."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from convscope._hardware import hardware_info
from convscope.backends.native.backend import Precision
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.images.preprocessing import Preprocessing
from convscope.network.cost import TimeEstimate, TrainingCost, check_memory
from convscope.network.layers.base import Shape
from convscope.network.network import Network
from convscope.training.config import TrainConfig
from convscope.training.loop import autocast, fit, validate
from convscope.training.probes.autotune import TuningProbe, autotune
from convscope.training.recipe import Recipe
from convscope.training.recipes import recipe_named
from convscope.training.resolve import keep_usable_resizing, mean_relative_cost, train_val_split

BACKWARD_FACTOR = 3  # a training step is the forward pass, and as much work again for inputs and for weights
MNIST_TRAIN_IMAGES, MNIST_TEST_IMAGES = 60_000, 10_000
TUNING_BATCHES = 20
WARM_UP_BATCHES, QUICK_BATCHES = 8, 3
FIRST_IMAGES = 16
PROBE_SECONDS = 4.0
LEARNING_RATE_DIVISOR = 1e6  # the probe must not diverge


@dataclass(frozen=True)
class Throughput:
    """Images per second of training, at their full size, and of evaluation."""

    training: float
    evaluation: float

    def training_seconds(self, network: Network, recipe: Recipe, epochs: int, images: int) -> float:
        """Return the expected seconds of that many epochs, without validation."""
        return epochs * mean_relative_cost(network, recipe, epochs) * images / self.training


def training_cost(
    network: Network, dataset: Dataset | None = None, recipe: str = "default", threads: int | None = None
) -> TrainingCost:
    """Measure how long a network would train on a data set, or on as many images as MNIST has.

    Args:
        network: the network, for the data set's images and classes.
        dataset: sets the number of images and the variant of the recipe.
        recipe: name of the recipe.
        threads: CPU threads; None chooses them by measurement.

    Raises:
        UsageError: a batch does not fit into memory.
    """
    chosen, counts = _chosen(dataset, recipe)
    chosen = keep_usable_resizing(chosen, network)
    check_memory(network, min(chosen.batch_size, counts[0]))
    images = random_images(network.input_shape, network.classes, min(counts[0], TUNING_BATCHES * chosen.batch_size))
    tuning = autotune(TuningProbe(network, images, Preprocessing.plain(images.images), chosen, 0), threads)
    time = training_time(network, chosen, tuning.precision, counts)
    relative = mean_relative_cost(network, chosen, time.epochs)
    return TrainingCost(
        recipe=chosen.name,
        images=counts[0],
        epoch_multiply_adds=round(BACKWARD_FACTOR * counts[0] * relative * network.multiply_adds),
        time=time,
        machine=hardware_info(tuning.threads),
    )


def _chosen(dataset: Dataset | None, recipe: str) -> tuple[Recipe, tuple[int, int]]:
    """Return the recipe for a data set, or for MNIST's, and the numbers of training and of validation images."""
    if dataset is not None:
        chosen = recipe_named(recipe, dataset.kind)
        train, validation = train_val_split(dataset, chosen, seed=0)
        return chosen, (len(train), len(validation))
    chosen = recipe_named(recipe)
    held_out = round(MNIST_TRAIN_IMAGES * chosen.selection.validation_fraction)
    return chosen, (MNIST_TRAIN_IMAGES - held_out, held_out or MNIST_TEST_IMAGES)


def training_time(
    network: Network,
    recipe: Recipe,
    precision: Precision,
    counts: tuple[int, int],
    probe_seconds: float = PROBE_SECONDS,
) -> TimeEstimate:
    """Train on random images for a few seconds, and extrapolate.

    Args:
        network: the network to train.
        recipe: the resolved recipe.
        precision: of the products.
        counts: number of training and of validation images.
        probe_seconds: time for the measurement, about.
    """
    images, validation_images = counts
    warm_up = WARM_UP_BATCHES * recipe.batch_size
    speed = _measure(network, recipe, precision, (warm_up, recipe.batch_size)).training
    probed = int(min(images, max(warm_up, speed * probe_seconds)))
    evaluated = max(1, probed // 4)
    throughput = _measure(network, recipe, precision, (probed, evaluated))
    epochs = recipe.planned_epochs(images)
    training = throughput.training_seconds(network, recipe, epochs, images)
    epoch = training / epochs + validation_images / throughput.evaluation
    return TimeEstimate(
        epochs=epochs,
        epoch_seconds=epoch,
        training_seconds=epochs * epoch,
        probe_seconds=probed / throughput.training + evaluated / throughput.evaluation,
    )


def estimate_throughput(
    network: Network, recipe: Recipe, precision: Precision, images: int, seconds: float
) -> Throughput:
    """Return a rough estimate, from at most a few batches of random images.

    Args:
        network: the network to train.
        recipe: the resolved recipe.
        precision: of the products.
        images: number of training images.
        seconds: time for the measurement, about; the first few images are always measured.
    """
    few = min(images, recipe.batch_size, FIRST_IMAGES)
    small = recipe.override(batch_size=few)
    first = _measure(network, small, precision, (few, few))
    affordable = int(first.training * seconds)
    if affordable < few:
        return first
    trained = min(images, QUICK_BATCHES * recipe.batch_size, affordable)
    small = recipe.override(batch_size=min(recipe.batch_size, trained))
    return _measure(network, small, precision, (trained, min(trained, recipe.batch_size)))


def random_images(shape: Shape, classes: int, images: int) -> Split:
    """Return images of random pixels with random labels."""
    random = np.random.default_rng(0)
    return Split(random.integers(0, 256, (images, *shape), np.uint8), random.integers(0, classes, images))


def _measure(network: Network, recipe: Recipe, precision: Precision, counts: tuple[int, int]) -> Throughput:
    """Run one epoch of the real loop on that many random images, and evaluate on that many."""
    recipe = recipe.divide_learning_rates(LEARNING_RATE_DIVISOR).override(epochs=1, progressive_resizing=())
    train, validation = (random_images(network.input_shape, network.classes, images) for images in counts)
    config = TrainConfig(Preprocessing.plain(validation.images), recipe, precision=precision)
    model = build_model(network)
    result = fit(model, train, validation, config)
    start = time.perf_counter()
    with autocast(precision):
        validate(model, validation, config)  # a second time: the first one prepares everything
    return Throughput(result.history[0].images_per_second, counts[1] / max(1e-9, time.perf_counter() - start))
