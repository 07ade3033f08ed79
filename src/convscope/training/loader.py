"""An epoch's batches: images cut from the store and moved, mirrored, cropped, colored and patched by the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from convscope.backends.native.step import cross_entropy, gather_batch
from convscope.backends.pytorch.models import as_batch
from convscope.data.dataset import Split
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import scaled_side
from convscope.training.augmentation import (
    balanced_order,
    epoch_colors,
    epoch_crops,
    epoch_flips,
    epoch_moves,
    epoch_order,
    epoch_patches,
)
from convscope.training.state import Course


@dataclass(frozen=True)
class Batch:
    """float32 (n, channels, height, width) and int64 (n,); `own` is the share of each image that is of its label.

    The rest of it is a part of the image before it in the batch, of the last for the first.
    """

    images: Tensor
    labels: Tensor
    own: float = 1

    def loss(self, logits: Tensor, smoothing: float) -> tuple[Tensor, int]:
        """Mean cross-entropy in nats, and how many labels have the highest score."""
        loss, right = cross_entropy(logits, self.labels, smoothing)
        if self.own < 1:
            other, _ = cross_entropy(logits, self.labels.roll(1), smoothing)
            loss = self.own * loss + (1 - self.own) * other
        return loss, right


def batches(train: Split, preprocessing: Preprocessing, course: Course, seed: int) -> Iterator[Batch]:
    """The batches that are left of the course's epoch.

    A pure function of data, recipe, seed and epoch; only the size of growing images, and when patches end, may follow
    the clock.
    """
    recipe, epoch, images = course.recipe, course.before + course.epoch, len(train)
    order = (
        balanced_order(seed, epoch, train.labels, recipe.balance)
        if recipe.balance
        else epoch_order(seed, epoch, images)
    )
    moves = epoch_moves(seed, epoch, images, recipe.shift_pixels) if recipe.shift_pixels else None
    crops = epoch_crops(seed, epoch, images, recipe.crop_area) if recipe.crop_area < 1 else None
    colors = epoch_colors(seed, epoch, images, train.shape[2], recipe.jitter) if recipe.jitter else None
    flips = epoch_flips(seed, epoch, images) if recipe.flip == "always" else None
    patches = epoch_patches(seed, epoch, course.batches, recipe.cutmix)
    turns = np.arange(images) if recipe.balance else order  # an image that comes twice is changed in two ways
    starts = recipe.batch * np.arange(1, course.batches)
    parts = zip(np.split(order, starts), np.split(turns, starts), patches, strict=True)
    for index, turn, patch in list(parts)[course.batch :]:
        moved, flipped = None if moves is None else moves[turn], None if flips is None else flips[index]
        pixels = as_batch(gather_batch(train.store, train.indices(index), preprocessing.table, moved, flipped))
        share = course.image_share()
        seen = scaled(pixels, share) if crops is None else cropped(pixels, crops[turn], share)
        seen = seen if colors is None else colored(seen, colors[turn])
        own = patched(seen, patch) if course.done_at(course.step) < recipe.cutmix_until else 1
        yield Batch(seen, torch.from_numpy(train.labels[index]), own)


def scaled(images: Tensor, share: float) -> Tensor:
    """Images (n, c, h, w) at that share of their height and width: bilinear, without aliasing."""
    if share == 1:
        return images
    size = [scaled_side(side, share) for side in images.shape[2:]]
    small = functional.interpolate(images, size, mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)


def cropped(images: Tensor, crops: NDArray[np.float32], share: float) -> Tensor:
    """A part of each image (n, c, h, w), see `epoch_crops`, at that share of the images' height and width: bilinear."""
    size = [scaled_side(side, share) for side in images.shape[2:]]
    top, left, height, width = torch.from_numpy(crops.T.copy())
    zero = torch.zeros_like(top)
    moves = [width, zero, 2 * left + width - 1, zero, height, 2 * top + height - 1]
    grid = functional.affine_grid(torch.stack(moves, 1).view(-1, 2, 3), [*images.shape[:2], *size], align_corners=False)
    seen = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return seen.contiguous(memory_format=torch.channels_last)


def colored(images: Tensor, colors: NDArray[np.float32]) -> Tensor:
    """Images (n, c, h, w) with another contrast, brightness and saturation, see `epoch_colors`."""
    columns = torch.from_numpy(colors)[:, :, None, None]
    contrast, saturation, added = columns[:, :1], columns[:, 1:2], columns[:, 2:]
    changed = torch.lerp(images.mean((2, 3), keepdim=True), images, contrast) + added
    return torch.lerp(changed.mean(1, keepdim=True), changed, saturation)


def patched(images: Tensor, patch: NDArray[np.float32]) -> float:
    """Put a rectangle, see `epoch_patches`, of the image before it into each (n, c, h, w); the share that is left."""
    height, width = images.shape[2:]
    borders = np.concatenate([patch[:2], patch[:2] + patch[2:]]) * (height, width, height, width)
    top, left, down, right = np.round(borders).astype(int).tolist()
    images[:, :, top:down, left:right] = images[:, :, top:down, left:right].roll(1, 0)
    return float(1 - (down - top) * (right - left) / (height * width))
