"""What a training starts from: images, and perhaps a backbone with the images that it takes. Without torch."""

from __future__ import annotations

from dataclasses import dataclass

from convscope._hardware import max_threads
from convscope._reporting import Reporter
from convscope.api.training.options import TrainOptions
from convscope.data.dataset import LARGE_IMAGE_SIDE, Dataset
from convscope.data.load import DataSource
from convscope.errors import DataError, UsageError
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.pretrained.backbone import PretrainedBackbone
from convscope.pretrained.load import load_backbone
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.store import find_backbone
from convscope.training.probes.budget import RESULT_IMAGES
from convscope.training.recipes import RECIPES

FROM_SCRATCH = "none"  # as the value of `init`
DEFAULT_BACKBONE = "efficientnet-lite0"  # that a budget tries if it is on this machine
SIDES = (224, 192, 160, 128, 96)  # pixels, of the images that a backbone gets
PROBED_SIDE = 128  # pixels, of the images that show how fast this machine is
MAX_FEATURE_FRACTION = 0.55  # of a budget, for the features of all images and for results


@dataclass(frozen=True)
class Pretraining:
    """A backbone, and the images in its size and channels."""

    backbone: PretrainedBackbone
    images: Dataset


@dataclass(frozen=True)
class Sources:
    """What a training can start from.

    Attributes:
        origin: Name or path that the images were loaded from; "" for data in memory.
        dataset: The images to train from scratch with; None if the backbone is to be used in any case.
        pretraining: None to train from scratch in any case.
    """

    origin: str
    dataset: Dataset | None = None
    pretraining: Pretraining | None = None


def load_sources(
    data: DataSource | None, options: TrainOptions, reporter: Reporter, all_images: bool = False
) -> Sources:
    """Load what the options ask for: with a budget, a backbone competes with training from scratch.

    Args:
        data: See `load_data`.
        options: See `TrainOptions`.
        reporter: Where messages and progress go.
        all_images: Whether a budget leaves the number of the images as it is, and their size from scratch.

    Raises:
        UsageError: The backbone is unknown or not on this machine, or does not suit the options or the images.
        DataError: The data or the backbone cannot be read.
    """
    chosen = options.init if options.init != FROM_SCRATCH else None
    if options.tune and not chosen:
        raise UsageError(f"--tune {options.tune} needs a backbone to start from: add --init, or leave out --tune")
    if chosen and options.model:
        raise UsageError(f"--init {chosen} brings its own network: leave out --model")
    named = load_backbone(chosen) if chosen else None
    if named and options.channels not in (None, named.channels):
        raise UsageError(
            f"{chosen} takes images with {named.channels} channels, not {options.channels}: leave out --channels, or "
            "choose another backbone"
        )
    loading = options.model_copy(update={"budget": None}) if all_images else options
    if named and options.budget is None:
        images, origin = loading.load_data(data, reporter, named.input_shape)
        return Sources(origin, pretraining=Pretraining(named, images))
    dataset, origin = loading.load_data(data, reporter)
    backbone = named or _installed_backbone(options, dataset, reporter)
    if backbone is None:
        return Sources(origin, dataset)
    side = _affordable_side(options, backbone, sum(map(len, dataset.splits.values())))
    images, _ = loading.load_data(data, reporter, (side, side, backbone.channels))
    return Sources(origin, dataset, Pretraining(backbone, images))


def _installed_backbone(options: TrainOptions, dataset: Dataset, reporter: Reporter) -> PretrainedBackbone | None:
    """The default backbone, if the options leave the choice to convscope and it suits the images."""
    is_free = options.budget and not options.init and not options.model and options.recipe in (None, *RECIPES)
    if not is_free or options.recipe == "article":
        return None
    if (dataset.file_side or 0) < LARGE_IMAGE_SIDE or dataset.shape[2] == 4 or options.channels == 1:
        return None
    try:
        return find_backbone(PUBLISHED[DEFAULT_BACKBONE])
    except DataError as error:
        reporter.message(f"training from scratch, without {DEFAULT_BACKBONE}: {error}")
        return None


def _affordable_side(options: TrainOptions, backbone: PretrainedBackbone, images: int) -> int:
    """The side of the images that a backbone gets: as published, or smaller if their features would take too long."""
    if options.image_size or not options.budget_seconds:
        return options.image_size or backbone.image_size
    from convscope.training.finetuning.speed import seconds_per_image

    def network(side: int) -> Network:
        return parse_network(backbone.architecture, (side, side, backbone.channels))

    probed = network(PROBED_SIDE)
    seconds = seconds_per_image(probed, backbone.weights, options.threads or max_threads())
    available = MAX_FEATURE_FRACTION * options.budget_seconds / (images + RESULT_IMAGES)
    sides = [backbone.image_size, *(side for side in SIDES if side < backbone.image_size)]
    fitting = [side for side in sides if seconds * network(side).multiply_adds / probed.multiply_adds <= available]
    return fitting[0] if fitting else sides[-1]
