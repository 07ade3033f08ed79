"""A backbone as it is, and a classifier on its features: how a training from a backbone begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope._hardware import keep_freed_memory, max_threads
from convscope._reporting import Reporter
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import flips_are_safe, measure_preprocessing
from convscope.api.training.sources import Pretraining
from convscope.backends.native.backend import use_threads
from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.data.options import cache_folder
from convscope.errors import UsageError
from convscope.evaluation.calibration import fit_calibration, log_likelihoods
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.cost import check_memory
from convscope.network.network import Network
from convscope.pretrained.backbone import PretrainedBackbone
from convscope.runs.config import ValidationScore
from convscope.training.callbacks import Weights
from convscope.training.finetuning.cut import choose_cut
from convscope.training.finetuning.feature_maps import FeatureExtractor, FrozenLayers, View
from convscope.training.finetuning.head import Head, fit_head
from convscope.training.finetuning.speed import seconds_per_image
from convscope.training.recipe import Recipe
from convscope.training.resolve import TrainData, train_val_split

SOFTNESS = 4.0  # chosen on validation images of trashnet and traffic signs; dev/LOG.md has the measurements
STATISTICS_VALUES = 2**26  # pixel values that show what is typical of the images; the backbone brings mean and scale


@dataclass(frozen=True)
class FrozenStart:
    """A backbone, its features of the training and validation images, and the classifier fitted on them.

    Attributes:
        backbone: Where the weights come from.
        data: The images, of the backbone's size and channels.
        recipe: How the last layers would be trained.
        network: The backbone with a classifier for these classes.
        preprocessing: Gives its input.
        cut: How many layers stay frozen when the others are trained, 0 if all are; None if only the classifier is.
        extractor: Computes more views.
        views: Features of the training images; the first are those of the images as they are.
        validation: Features of the validation images.
        head: The classifier.
        seconds_per_image: That the features of an image take.
        seconds: That all of this took.
    """

    backbone: PretrainedBackbone
    data: TrainData
    recipe: Recipe
    network: Network
    preprocessing: Preprocessing
    cut: int | None
    extractor: FeatureExtractor
    views: Sequence[View]
    validation: View
    head: Head
    seconds_per_image: float
    seconds: float

    @property
    def score(self) -> ValidationScore:
        """Of the backbone with this classifier."""
        return validation_score(self.head.logits(self.validation.features), self.data.validation.labels)

    @property
    def weights(self) -> Weights:
        """Of all layers, by name; logits are divided by `SOFTNESS` times their temperature.

        That changes no answer and nothing after calibration, but lets the last layers learn: a sure classifier has
        small gradients where it is right, and steep ones where it is wrong.
        """
        scale = self._scale
        classifier = {"classifier.weight": scale * self.head.weight, "classifier.bias": scale * self.head.bias}
        return {**self.backbone.weights, **classifier}

    @property
    def calibration(self) -> TemperatureScaling | None:
        """Of these weights, found on training images that were held out; None if there are enough validation images."""
        if self.head.held_out is None:
            return None
        return fit_calibration(self._scale * self.head.held_out, self.data.train.labels)

    @property
    def _scale(self) -> np.float32:
        """Of the classifier's logits in the weights."""
        logits = self.head.logits(self.validation.features)
        return np.float32(1 / (SOFTNESS * fit_calibration(logits, self.data.validation.labels).temperature))

    def with_views(self, views: Sequence[View]) -> FrozenStart:
        """The same with a classifier fitted on more views."""
        labels = self.data.validation.labels
        head = fit_head(
            [view.features for view in views],
            self.data.train.labels,
            self.network.classes,
            (self.validation.features, labels),
        )
        return replace(self, views=views, head=head)


def start_frozen(options: TrainOptions, pretraining: Pretraining, origin: str, reporter: Reporter) -> FrozenStart:
    """Compute the features of the training and validation images, and fit a classifier on them.

    Args:
        options: Recipe, seed and threads count here.
        pretraining: The backbone and its images.
        origin: Name or path that the images were loaded from.
        reporter: Where messages and progress go.

    Raises:
        UsageError: The recipe cannot start from a backbone, or trains no layer of it although some are to be tuned.
        ArchitectureError: The images are too small for the backbone, or all its layers do not fit into memory.
        DataError: No image can be held out for validation.
    """
    started, backbone, dataset = time.monotonic(), pretraining.backbone, pretraining.images
    recipe = options.chosen_recipe("pretrained")
    if recipe.validates_on_test:
        raise UsageError(f"recipe {recipe.name} begins with random weights: choose another recipe, or --init none")
    data = TrainData(dataset, *train_val_split(dataset, recipe, options.seed), flips_are_safe(origin))
    network = parse_network(backbone.architecture, dataset.shape, len(dataset.classes))
    threads = options.threads or max_threads()
    use_threads(threads, torch_works=True)
    keep_freed_memory()
    normalization = {"scale": backbone.scale, "mean": backbone.mean}
    preprocessing = measure_preprocessing(data, recipe, STATISTICS_VALUES).model_copy(update=normalization)
    cut = _chosen_cut(options, recipe, network)
    if cut == 0:
        check_memory(network, min(recipe.batch_size, len(data.train)))
    layers = FrozenLayers(network, backbone.weights, preprocessing, cut or None, threads)
    extractor = FeatureExtractor(layers, features_folder(), reporter)
    extractor.expect(len(data.train) + len(data.validation))
    views, validation = [extractor.plain(data.train)], extractor.plain(data.validation)
    found = (validation.features, data.validation.labels)
    head = fit_head([views[0].features], data.train.labels, network.classes, found)
    return FrozenStart(
        backbone=backbone,
        data=data,
        recipe=recipe,
        network=network,
        preprocessing=preprocessing,
        cut=cut,
        extractor=extractor,
        views=views,
        validation=validation,
        head=head,
        seconds_per_image=seconds_per_image(network, backbone.weights, threads),
        seconds=time.monotonic() - started,
    )


def _chosen_cut(options: TrainOptions, recipe: Recipe, network: Network) -> int | None:
    """How many layers stay frozen while the others are trained; None if only the classifier is."""
    if options.tune in ("last", "all") and not recipe.epochs:
        raise UsageError(
            f"recipe {recipe.name} trains the classifier alone: leave out --tune {options.tune}, or choose another "
            "recipe"
        )
    if options.tune == "all":
        return 0
    return choose_cut(network) if recipe.epochs and options.tune != "classifier" else None


def features_folder() -> Path:
    """The cache of features."""
    return cache_folder() / "features"


def validation_score(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> ValidationScore:
    """How good logits are, after calibration on the same images."""
    return ValidationScore(
        accuracy=float((logits.argmax(1) == labels).mean()),
        cross_entropy=float(-log_likelihoods(logits, labels).mean()),
    )
