"""The batches of an epoch, gathered from the data set and augmented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convscope.backends.native.step import cross_entropy, gather_batch
from convscope.backends.pytorch.models import as_batch
from convscope.data.dataset import Split
from convscope.errors import UsageError
from convscope.training.augmentation import EpochAugmentation, Stream, balanced_order, epoch_order, generator
from convscope.training.config import Augment, Pixels, TrainConfig
from convscope.training.state import TrainerState


@dataclass(frozen=True)
class Batch:
    """One training batch.

    images: float32 (n, channels, height, width). labels: int64 (n,). lam: the fraction of each image that belongs to
    its own label; the rest shows the previous image of the batch, the last one in the first (CutMix). previous: int64
    (n,), the labels of those images; by default they follow from `labels`. weight: the fraction of the loss, as a
    scalar, if other processes train on the other images of the batch.
    """

    images: Tensor
    labels: Tensor
    lam: float = 1
    previous: Tensor | None = None
    weight: Tensor | None = None

    def loss(self, logits: Tensor, smoothing: float) -> tuple[Tensor, int]:
        """Return the mean cross-entropy in nats and the number of labels that have the highest logit."""
        loss, correct = cross_entropy(logits, self.labels, smoothing)
        if self.lam < 1:
            previous = self.labels.roll(1) if self.previous is None else self.previous
            other, _ = cross_entropy(logits, previous, smoothing)
            loss = self.lam * loss + (1 - self.lam) * other
        return loss, correct


def batches(train: Split, config: TrainConfig, state: TrainerState) -> Iterator[Batch]:
    """Yield the remaining batches of the current epoch; in a group of processes, this one's images of each.

    They are a pure function of data, recipe, seed and epoch, but with a time limit the size of the images and the end
    of CutMix follow the clock.
    """
    recipe, seed, epoch, count = config.recipe, config.seed, config.initial_epoch + state.epoch, len(train)
    balance = recipe.class_balance
    order = balanced_order(seed, epoch, train.labels, balance) if balance else epoch_order(seed, epoch, count)
    draws = np.arange(count) if balance else order  # an image that comes twice is augmented in two ways
    augmentation = EpochAugmentation(recipe.augmentation, seed, epoch, (count, *train.shape), state.batches_per_epoch)
    starts = recipe.batch_size * np.arange(1, state.batches_per_epoch)
    parts = list(zip(np.split(order, starts), np.split(draws, starts), strict=True))
    randoms = generator(seed, epoch, Stream.CUSTOM).spawn(len(parts)) if config.augment else []
    views = generator(seed, epoch, Stream.VIEW).integers(config.tail.count, size=count) if config.tail else draws
    for number in range(state.batch, len(parts)):
        index, drawn = parts[number]
        if config.tail is not None:
            yield Batch(config.tail.batch(index, views[drawn]), torch.from_numpy(train.labels[index]))
            continue
        store, rows = train.store, train.indices(index)
        if config.augment is not None:
            store, rows = _augmented(store[rows], config.augment, randoms[number]), np.arange(len(index))
        if config.group is not None:
            own = config.group.begin_batch(len(index))
            own = np.append(own[0] - 1, own)  # with the image before them, for CutMix
            index, drawn, rows = index[own], drawn[own], rows[own]
        shifts = None if augmentation.shifts is None else augmentation.shifts[drawn]
        flips = None if augmentation.flips is None else augmentation.flips[index]
        images = as_batch(gather_batch(store, rows, config.preprocessing.table, shifts, flips))
        images = augmentation.apply(images, drawn, state.image_scale())
        lam = augmentation.mix(images, number, state.done_at(state.step))
        labels = torch.from_numpy(train.labels[index])
        if config.group is None:
            yield Batch(images, labels, lam)
        else:
            yield Batch(images[1:], labels[1:], lam, labels[:-1], torch.tensor(config.group.weight))


def _augmented(images: Pixels, augment: Augment, random: np.random.Generator) -> Pixels:
    """Apply the user's own augmentation. Raises UsageError if it does not return images like those it was given."""
    found = augment(images, random)
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape != images.shape:
        got = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise UsageError(f"augment returned {got}: expected uint8 {images.shape}, the shape that it was given")
    return np.ascontiguousarray(found)
