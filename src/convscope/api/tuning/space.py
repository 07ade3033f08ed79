"""What a search tries: the defaults, and random draws of start, recipe, network, learning rate and image size."""

from __future__ import annotations

from math import exp, log
from pathlib import Path
from random import Random
from typing import Any

from convscope._records import Record
from convscope.api.training.options import TrainOptions
from convscope.api.training.sources import DEFAULT_BACKBONE, FROM_SCRATCH
from convscope.data.dataset import LARGE_IMAGE_SIDE, Dataset
from convscope.errors import ArchitectureError, DataError
from convscope.network.build import parse_network
from convscope.network.presets import PRESETS
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.store import find_backbone
from convscope.training.recipe import Recipe
from convscope.training.recipes import recipe_named

RECIPE_NAMES = ("default", "fast", "best")
NETWORKS = {  # by kind of data; those that are too large for the images are left out
    "gray": ("quick", "small", "large", "residual"),
    "color": ("small", "large", "airbench", "residual"),
    "images": ("airbench", "airbench-deep", "residual"),
}
OWN_NETWORK = 0.5  # probability of the network that the recipe was made for, and of its own learning rate
MAX_RATE_FACTOR = 3.0  # of the recipe's learning rate, up or down
SIDE_FACTORS = (0.75, 1.0, 1.25)
SIDE_STEP, MAX_SIDE = 8, 320  # pixels


class Configuration(Record):
    """What one trial does differently from the defaults; None leaves a field as it is by default."""

    init: str | None = None
    recipe: str | None = None
    model: str | None = None
    learning_rate: float | None = None
    image_size: int | None = None

    def apply(self, options: TrainOptions, budget: float | None) -> TrainOptions:
        """The options of a training with this configuration.

        Args:
            options: What all trials share.
            budget: Seconds; None for no limit.
        """
        changes: dict[str, Any] = {**self.model_dump(exclude_none=True), "budget": budget}
        return options.model_copy(update=changes)

    @property
    def text(self) -> str:
        """For example `recipe best, learning rate 0.05`; `defaults` for nothing."""
        parts = (f"{name.replace('_', ' ')} {value}" for name, value in self.model_dump(exclude_none=True).items())
        return ", ".join(parts) or "defaults"


def draw_configurations(dataset: Dataset, options: TrainOptions, count: int) -> list[Configuration]:
    """The configurations to try, all different: the defaults, then the backbone if there is one, then random ones.

    Args:
        dataset: The images, in their default size.
        options: Fields that are given are not searched; the seed is that of the draws.
        count: How many; fewer if there are no more.
    """
    random, backbone = Random(options.seed), _has_backbone(dataset, options)
    found = [Configuration(), *([Configuration(init=DEFAULT_BACKBONE)] if backbone else [])]
    for _ in range(100 * count):
        if len(found) >= count:
            break
        drawn = _draw(dataset, options, random, backbone)
        if drawn not in found:
            found.append(drawn)
    return found[:count]


def _draw(dataset: Dataset, options: TrainOptions, random: Random, backbone: bool) -> Configuration:
    init = random.choice((DEFAULT_BACKBONE, FROM_SCRATCH)) if backbone else None
    kind = "pretrained" if (init or options.init) not in (None, FROM_SCRATCH) else dataset.kind
    name = random.choice(RECIPE_NAMES)
    recipe = options.recipe if isinstance(options.recipe, Recipe) else recipe_named(options.recipe or name, kind)
    model = rate = side = None
    networks = _networks(dataset)
    if options.model is None and kind != "pretrained" and networks and random.random() > OWN_NETWORK:
        model = random.choice(networks)
    if options.learning_rate is None and random.random() > OWN_NETWORK:
        factor = exp(random.uniform(-log(MAX_RATE_FACTOR), log(MAX_RATE_FACTOR)))
        rate = float(f"{factor * recipe.optimizer.learning_rate:.2g}")
    if options.image_size is None and dataset.load_options is not None and kind != "pretrained":
        factor = random.choice(SIDE_FACTORS)
        wanted = round(factor * dataset.shape[0] / SIDE_STEP) * SIDE_STEP
        side = wanted if factor != 1 and SIDE_STEP <= wanted <= MAX_SIDE else None
    return Configuration(
        init=init, recipe=None if options.recipe else name, model=model, learning_rate=rate, image_size=side
    )


def _networks(dataset: Dataset) -> list[str]:
    """The presets that suit the images."""
    kind = dataset.kind if dataset.kind in NETWORKS else "images"

    def fits(name: str) -> bool:
        try:
            parse_network(PRESETS[name], dataset.shape, len(dataset.classes))
        except ArchitectureError:
            return False
        return True

    return [name for name in NETWORKS[kind] if fits(name)]


def _has_backbone(dataset: Dataset, options: TrainOptions) -> bool:
    """Whether the default backbone is on this machine, and options and images leave room for it."""
    free = options.init is None and options.model is None and not isinstance(options.recipe, Recipe | Path)
    if not free or (dataset.file_side or 0) < LARGE_IMAGE_SIDE or dataset.shape[2] != 3:
        return False
    try:
        return find_backbone(PUBLISHED[DEFAULT_BACKBONE]) is not None
    except DataError:
        return False
