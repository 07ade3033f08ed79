"""Order and augmentation of an epoch: pure functions of seed, epoch and the image's index in the data.

To add an augmentation: give `AugmentationConfig` its field, draw its parameters and apply them in `EpochAugmentation`,
and add its phrase to `describe_augmentation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from convscope._text import pluralize
from convscope.network.build import scaled_side
from convscope.training.recipe import AugmentationConfig, Recipe

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]


class EpochAugmentation:
    """The augmentation of one epoch, all its random parameters drawn once.

    `shifts` and `flips` are applied when a batch is gathered from the data set (see `gather_batch`), the rest by
    `apply`; None stands for an augmentation that is turned off.

    Args:
        config: which augmentations, and how strong they are.
        seed: seed of the training.
        epoch: number of the epoch, from 1; it counts the epochs of a training that this one continues.
        images: shape of the training images, (n, height, width, channels).
        batches: number of batches in the epoch.
    """

    def __init__(
        self, config: AugmentationConfig, seed: int, epoch: int, images: tuple[int, int, int, int], batches: int
    ) -> None:
        count, channels = images[0], images[3]
        self.shifts = epoch_shifts(seed, epoch, count, config.max_shift) if config.max_shift else None
        self.flips = epoch_flips(seed, epoch, count) if config.horizontal_flip == "always" else None
        self.crops = epoch_crops(seed, epoch, count, config.min_crop_area) if config.min_crop_area < 1 else None
        self.colors = epoch_colors(seed, epoch, count, channels, config.color_jitter) if config.color_jitter else None
        self.boxes, self.cutmix_until = cutmix_boxes(seed, epoch, batches, config.cutmix), config.cutmix_until

    def apply(self, images: Tensor, draws: Indices, scale: float) -> Tensor:
        """Crop, resize and recolor a batch.

        Args:
            images: float32 (n, channels, height, width), normalized.
            draws: int64 (n,), which of the epoch's random draws each image gets.
            scale: of the height and width, for progressive resizing.
        """
        crops = None if self.crops is None else self.crops[draws]
        images = resize(images, scale) if crops is None else crop_and_resize(images, crops, scale)
        return images if self.colors is None else adjust_colors(images, self.colors[draws])

    def mix(self, images: Tensor, batch: int, done: float) -> float:
        """Apply CutMix to batch number `batch` in place; return lam, the fraction of each image that is its own."""
        return cutmix(images, self.boxes[batch]) if done < self.cutmix_until else 1


def describe_augmentation(recipe: Recipe) -> Iterator[str]:
    """Yield one phrase for each augmentation of a recipe, for the report."""
    config = recipe.augmentation
    if config.max_shift:
        yield f"random shifts of up to {pluralize(config.max_shift, 'pixel')}"
    if config.horizontal_flip == "always":
        yield "horizontal flips"
    if config.min_crop_area < 1:
        yield f"random crops of at least {100 * config.min_crop_area:.3g} % of the area"
    if config.color_jitter:
        yield f"contrast, brightness and saturation jitter of up to {100 * config.color_jitter:.3g} %"
    if config.cutmix:
        until = 100 * config.cutmix_until
        yield f"CutMix in {100 * config.cutmix:.3g} % of the batches until {until:.3g} % of training"
    for until, scale in recipe.schedule.progressive_resizing:
        yield f"images at {100 * scale:.3g} % of their size until {100 * until:.3g} % of training"


# Random parameters


class Stream(IntEnum):
    """Independent streams of random numbers. The values are arbitrary; changing one changes every training."""

    ORDER = 0xF5299398
    SHIFT = 0xA50B3B45
    CROP = 0xEDC23D9B
    COLOR = 0xFAF865CE
    CUTMIX = 0xE22B9636
    FLIP = 0x9AFEE455
    CUSTOM = 0x4023F5B0
    VIEW = 0x7A1C04D3


def generator(seed: int, epoch: int, stream: Stream) -> np.random.Generator:
    """Return an independent generator for each (seed, epoch, stream); Philox is the same on every platform."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, int(stream)])))


def epoch_order(seed: int, epoch: int, images: int) -> Indices:
    """Return the order in which an epoch visits the images: a permutation, int64 (images,).

    >>> epoch_order(seed=1, epoch=0, images=5).tolist() == epoch_order(seed=1, epoch=0, images=5).tolist()
    True
    """
    return generator(seed, epoch, Stream.ORDER).permutation(images)


def balanced_order(seed: int, epoch: int, labels: Indices, balance: float) -> Indices:
    """Return an order that draws images of rare classes more often: int64, of the length of `labels`.

    Each class gets a fraction of the epoch in proportion to its number of images to the power of `1 - balance`; at a
    balance of 1 all classes get the same. The images of a class are drawn equally often, within one.

    >>> sorted(balanced_order(seed=1, epoch=0, labels=np.array([0, 0, 0, 0, 0, 1]), balance=1).tolist())[-3:]
    [5, 5, 5]
    """
    random, counts = generator(seed, epoch, Stream.ORDER), np.bincount(labels)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    members = [indices for indices in by_class if len(indices)]
    weights = np.array([len(indices) for indices in members], float) ** (1 - balance)
    ends = np.round(np.cumsum(weights) / weights.sum() * len(labels)).astype(np.int64)
    drawn = []
    for indices, count in zip(members, np.diff(ends, prepend=0), strict=True):
        rounds, remainder = divmod(int(count), len(indices))
        drawn += [np.tile(indices, rounds), random.permutation(indices)[:remainder]]
    return random.permutation(np.concatenate(drawn))


def epoch_shifts(seed: int, epoch: int, images: int, pixels: int) -> Indices:
    """Return each image's shift down and to the right: int64 (images, 2), -pixels..pixels."""
    return generator(seed, epoch, Stream.SHIFT).integers(-pixels, pixels, size=(images, 2), endpoint=True)


def epoch_crops(seed: int, epoch: int, images: int, min_area: float) -> Floats:
    """Return each image's crop: float32 (images, 4), top, left, height and width as fractions of the image's sides.

    Areas are uniform from `min_area` to 1, aspect ratios log-uniform from 3:4 to 4:3 if they fit, positions uniform.
    """
    random = generator(seed, epoch, Stream.CROP)
    area = random.uniform(min_area, 1, images)
    aspect = np.exp(random.uniform(-np.log(4 / 3), np.log(4 / 3), images))
    sides = np.minimum(1, np.sqrt(np.stack([area / aspect, area * aspect], axis=1)))
    corners = random.random((images, 2)) * (1 - sides)
    return np.concatenate([corners, sides], axis=1).astype(np.float32)


def epoch_colors(seed: int, epoch: int, images: int, channels: int, strength: float) -> Floats:
    """Return each image's change of contrast, saturation and brightness: float32 (images, 2 + channels).

    The columns are two factors, uniform from 1 - strength to 1 + strength, and an offset for each channel: the sum of
    one for all channels, up to `strength`, and one of its own, half as large, in standard deviations of the pixels.
    """
    random = generator(seed, epoch, Stream.COLOR)
    factors = random.uniform(1 - strength, 1 + strength, (images, 2))
    common = random.uniform(-strength, strength, (images, 1))
    offsets = common + random.uniform(-0.5, 0.5, (images, channels)) * strength
    return np.concatenate([factors, offsets], axis=1).astype(np.float32)


def cutmix_boxes(seed: int, epoch: int, batches: int, probability: float) -> Floats:
    """Return each batch's CutMix box (Yun et al., 2019): float32 (batches, 4).

    The columns are top, left, height and width as fractions of the image's sides, height and width 0 for batches
    without a box. Areas are uniform from 0 to 1, with the image's aspect ratio; positions are uniform.
    """
    random = generator(seed, epoch, Stream.CUTMIX)
    side = np.sqrt(random.random(batches)) * (random.random(batches) < probability)
    corners = random.random((batches, 2)) * (1 - side)[:, np.newaxis]
    return np.concatenate([corners, np.stack([side, side], axis=1)], axis=1).astype(np.float32)


def epoch_flips(seed: int, epoch: int, images: int) -> NDArray[np.bool_]:
    """Return which images are flipped left to right: bool (images,).

    Each image is flipped in every other epoch (Jordan, 2024), half of them in the first.
    """
    first: NDArray[np.bool_] = generator(seed, 0, Stream.FLIP).random(images) < 0.5
    return first ^ bool(epoch % 2)


# What they do to a batch


def resize(images: Tensor, scale: float) -> Tensor:
    """Resize images (n, c, h, w) to that scale of their height and width: bilinear, with antialiasing."""
    if scale == 1:
        return images
    size = [scaled_side(side, scale) for side in images.shape[2:]]
    small = functional.interpolate(images, size, mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)


def crop_and_resize(images: Tensor, crops: Floats, scale: float) -> Tensor:
    """Crop images (n, c, h, w), see `epoch_crops`, and resize the crops to that scale of h and w: bilinear."""
    size = [scaled_side(side, scale) for side in images.shape[2:]]
    top, left, height, width = torch.from_numpy(crops.T.copy())
    zero = torch.zeros_like(top)
    transform = [width, zero, 2 * left + width - 1, zero, height, 2 * top + height - 1]
    theta = torch.stack(transform, 1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, [*images.shape[:2], *size], align_corners=False)
    cropped = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return cropped.contiguous(memory_format=torch.channels_last)


def adjust_colors(images: Tensor, colors: Floats) -> Tensor:
    """Change contrast, brightness and saturation of images (n, c, h, w), see `epoch_colors`."""
    columns = torch.from_numpy(colors)[:, :, None, None]
    contrast, saturation, offset = columns[:, :1], columns[:, 1:2], columns[:, 2:]
    adjusted = torch.lerp(images.mean((2, 3), keepdim=True), images, contrast) + offset
    return torch.lerp(adjusted.mean(1, keepdim=True), adjusted, saturation)


def cutmix(images: Tensor, box: Floats) -> float:
    """Paste a box, see `cutmix_boxes`, of the previous image into each image (n, c, h, w); return the rest, lam."""
    height, width = images.shape[2:]
    edges = np.concatenate([box[:2], box[:2] + box[2:]]) * (height, width, height, width)
    top, left, bottom, right = np.round(edges).astype(int).tolist()
    images[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right].roll(1, 0)
    return float(1 - (bottom - top) * (right - left) / (height * width))
