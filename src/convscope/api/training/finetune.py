"""The plan of a training from a backbone: how many views, which layers, how many epochs, for the time there is."""

from __future__ import annotations

import shutil
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convscope._hardware import hardware_info, slowdown
from convscope._reporting import Reporter
from convscope._statistics import CLEAR
from convscope._text import percent
from convscope.api.training.frozen import FrozenStart, features_folder
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import ESTIMATE_MARGIN, Plan, describe_data
from convscope.backends.native import backend
from convscope.data.dataset import Split
from convscope.pretrained.backbone import BackboneInfo
from convscope.runs.config import InitInfo, Race, RunConfig
from convscope.runs.folder import utc_now
from convscope.training.callbacks import Weights
from convscope.training.finetuning.feature_maps import MAX_CACHE_BYTES, FeatureExtractor, FrozenLayers, View
from convscope.training.finetuning.tail import Tail
from convscope.training.probes.budget import RESULT_IMAGES, RESULTS_SECONDS, Budget
from convscope.training.recipe import AugmentationConfig, Recipe
from convscope.training.recipes import recipe_named
from convscope.training.resolve import Reasons, TrainData

MAX_VIEWS = 8  # of the training images; more gain nothing
VIEW_COST = 2.0  # of an augmented view, relative to the plain features
LAST_COST, ALL_COST = 0.4, 6.0  # of an epoch that trains the last layers, or all
MIN_EPOCHS = 3  # of the last layers; fewer gain nothing
HEAD_SECONDS = 1.0  # to fit the classifier on all views
MAX_DISK_FRACTION = 0.5  # of what is free
MIN_SIDE_FRACTION = 0.25  # of the side of the images that a backbone was trained on; in smaller ones it sees little


class Effort(NamedTuple):
    """What there is time for: views of the training images, epochs of the last layers, and a time limit for these."""

    views: int
    epochs: int
    seconds: float | None


def plan_finetuning(
    start: FrozenStart, options: TrainOptions, origin: str, budget: Budget, race: Race | None = None
) -> Plan:
    """Decide how a training from a backbone continues: compute more views, and fit the classifier on all of them.

    Args:
        start: The backbone, its features and the first classifier.
        options: See `TrainOptions`.
        origin: Name or path that the images were loaded from.
        budget: The time of the whole command.
        race: The training from scratch that was no better.
    """
    recipe, reasons = _resolve_flip(start)
    reasons |= _too_small(start)
    effort = plan_effort(start, options, budget)
    recipe = recipe.override(epochs=effort.epochs)
    views = compute_views(start.extractor, start.data.train, recipe.augmentation, options.seed, effort.views)
    if effort.views > 1:
        start = start.with_views(views)
    init = InitInfo(
        backbone=BackboneInfo.model_validate(start.backbone.model_dump()),
        cut=start.cut if effort.epochs else None,
        views=effort.views,
        strength=start.head.strength,
        score=start.score,
        calibration=start.calibration,
        race=race,
    )
    config = RunConfig(
        created=utc_now(),
        dataset=describe_data(start.data, origin),
        classes=start.data.dataset.classes,
        model=start.backbone.name,
        architecture=start.backbone.architecture,
        input_shape=start.data.dataset.shape,
        preprocessing=start.preprocessing,
        recipe=recipe,
        reasons=reasons,
        epochs=effort.epochs,
        init=init,
        max_error=options.max_error,
        budget=options.budget_seconds,
        time_limit=effort.seconds,
        seed=options.seed,
        precision="bf16" if recipe.precision == "bf16" else "float32",
        backend=backend.backend_name(),
        machine=hardware_info(start.extractor.frozen.threads),
    )
    return Plan(start.data, config, start.weights, make_tail(init, views, start.validation))


def plan_effort(start: FrozenStart, options: TrainOptions, budget: Budget) -> Effort:
    """Share the time that is left: between views for the classifier, and epochs of the last layers if they fit."""
    images, wanted = len(start.data.train), start.recipe.epochs if start.cut is not None else 0
    most = _most_views(start)
    if budget.seconds == inf:
        return Effort(most, wanted, None)
    if options.recipe is None and not options.epochs:
        wanted = recipe_named("best", "pretrained").epochs if start.cut is not None else 0
    plain = start.seconds_per_image * images
    view, epoch = VIEW_COST * plain, (LAST_COST if start.cut else ALL_COST) * plain
    classified = len(start.data.validation) + len(start.data.dataset.test) + RESULT_IMAGES
    results = RESULTS_SECONDS * slowdown() + start.seconds_per_image * classified
    left = max(0.0, budget.left - results - HEAD_SECONDS)
    if not wanted or left < MIN_EPOCHS * epoch:
        return Effort(min(most, 1 + int(left / view)), 0, None)
    views = min(most, 1 + int((left - MIN_EPOCHS * epoch) / 2 / view))
    seconds = left - (views - 1) * view
    if seconds >= ESTIMATE_MARGIN * wanted * epoch:
        return Effort(views, wanted, None)
    return Effort(views, max(1, int(seconds / epoch)), seconds)


def compute_views(
    extractor: FeatureExtractor, train: Split, augmentation: AugmentationConfig, seed: int, count: int
) -> list[View]:
    """Features of the training images as they are, and of `count` - 1 augmented versions."""
    extractor.expect(count * len(train))
    return [
        extractor.augmented(train, augmentation, seed, number) if number else extractor.plain(train)
        for number in range(count)
    ]


def make_tail(init: InitInfo, views: list[View], validation: View) -> Tail | None:
    """What the last layers are trained on; None if only the classifier is, or all are."""
    if not init.cut:
        return None
    assert validation.maps is not None
    return Tail(init.cut, tuple(view.maps for view in views if view.maps is not None), validation.maps)


def recorded_tail(config: RunConfig, data: TrainData, weights: Weights, reporter: Reporter) -> Tail | None:
    """What the last layers of a run were trained on, from the cache or computed again.

    Args:
        config: Of the run.
        data: Its images.
        weights: Its initial weights.
        reporter: Receives progress.
    """
    init = config.init
    if init is None or not init.cut:
        return None
    body = {name: array for name, array in weights.items() if not name.startswith("classifier.")}
    layers = FrozenLayers(config.network, body, config.preprocessing, init.cut, config.machine.threads)
    extractor = FeatureExtractor(layers, features_folder(), reporter)
    views = compute_views(extractor, data.train, config.recipe.augmentation, config.seed, init.views)
    return make_tail(init, views, extractor.plain(data.validation))


def _most_views(start: FrozenStart) -> int:
    """As many views as pay off, and fit into the cache and on the disk."""
    folder = next(path for path in (features_folder(), *features_folder().parents) if path.exists())
    space = min(MAX_CACHE_BYTES, MAX_DISK_FRACTION * shutil.disk_usage(Path(folder)).free)
    return max(1, min(MAX_VIEWS, int(space / (len(start.data.train) * start.extractor.frozen.bytes_per_image))))


def _resolve_flip(start: FrozenStart) -> tuple[Recipe, Reasons]:
    """Decide whether flipped images keep their labels: if the classifier knows them as well as the others."""
    recipe, safe = start.recipe, start.data.flips_are_safe
    if recipe.augmentation.horizontal_flip != "auto":
        return recipe, {}
    if safe is not None:
        return recipe.override(horizontal_flip="always" if safe else "never"), {}
    labels = start.data.validation.labels
    plain, flipped = (
        start.head.logits(view.features).argmax(1) == labels
        for view in (start.validation, start.extractor.flipped(start.data.validation))
    )
    lost, gained = int((plain & ~flipped).sum()), int((flipped & ~plain).sum())
    harmless = lost - gained <= CLEAR * np.sqrt(max(1, lost + gained))
    reason = (
        f"flipped left to right, {percent(float(flipped.mean()))} of the validation images are recognized, "
        f"as they are {percent(float(plain.mean()))}"
    )
    return recipe.override(horizontal_flip="always" if harmless else "never"), {"horizontal_flip": reason}


def _too_small(start: FrozenStart) -> Reasons:
    """Say so if the images are so much smaller than those of the backbone that it recognizes little in them."""
    (side, *_), backbone = start.data.dataset.shape, start.backbone
    if side >= MIN_SIDE_FRACTION * backbone.image_size:
        return {}
    reason = (
        f"{backbone.name} was trained on images of {backbone.image_size} pixels and recognizes little in images of "
        f"{side}: choose a larger --image-size, or --init none"
    )
    return {"image_size": reason}
