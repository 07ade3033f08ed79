"""Do images keep their class when they are flipped left to right? Measured before a training relies on it.

A small network trains for a few seconds on upright images only. Its accuracy on held-out images, upright and flipped,
tells: it recognizes flipped flowers as well as upright ones, but not flipped digits, letters or signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Split
from convscope.data.splitting import stratified_group_split
from convscope.errors import ArchitectureError, ConvscopeError, DataError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.network.presets import PRESETS
from convscope.training.config import TrainConfig
from convscope.training.loop import fit, predict_logits
from convscope.training.recipes import RECIPES

MAX_IMAGES = 6000
HELD_OUT_FRACTION = 0.25
MIN_HELD_OUT = 40
SIDE_PIXELS = 32  # more do not help a small network to tell left from right
MIN_STEPS = 200
TOLERANCE = 0.03  # loss of accuracy that is accepted: the network never saw a flipped image
STANDARD_ERRORS = 2


@dataclass(frozen=True)
class FlipProbe:
    """Accuracies, 0..1, on `n` held-out images, as they are and flipped left to right.

    `flips` says whether labels survive flips. If nothing could be measured, `problem` says why.
    """

    n: int
    upright: float = 0.0
    flipped: float = 0.0
    flips: bool = False
    problem: str = ""

    @property
    def reason(self) -> str:
        """What was measured and what follows from it, for people."""
        if self.problem:
            return f"images are not flipped: the effect could not be measured ({self.problem})"
        decision = "flipped" if self.flips else "not flipped"
        return (
            f"images are {decision}: a small network recognizes {100 * self.upright:.1f} % upright, "
            f"{100 * self.flipped:.1f} % flipped (n = {self.n:,})"
        )


def probe_flips(train: Split, classes: int, seed: int = 0, seconds: float = inf) -> FlipProbe:
    """Measure whether images of these classes keep their label when they are flipped left to right.

    The result is a pure function of the arguments, up to the number of threads, which changes the last bits of sums.
    Nothing is measured on fewer than 40 held-out images or on very small ones, or if the network learns nothing.

    Args:
        train: the training images.
        classes: number of classes.
        seed: seed of the split and of the probe's training.
        seconds: time limit of the probe's training, which otherwise has a fixed number of steps.
    """
    try:
        sample = train.subsample(MAX_IMAGES)
        learned, held = (_downsample(split) for split in stratified_group_split(sample, HELD_OUT_FRACTION, seed))
        network = _small_network(learned, classes)
    except (DataError, ArchitectureError):
        return FlipProbe(0, problem="there are too few images, or they are too small")
    if len(held) < MIN_HELD_OUT:
        return FlipProbe(0, problem=f"only {len(held)} images could be held out, {MIN_HELD_OUT} are needed")
    recipe, limit = RECIPES["fast"].override(min_steps=MIN_STEPS), seconds if seconds < inf else None
    config = TrainConfig(Preprocessing.standardized(learned.images), recipe, seed, time_limit=limit)
    model = build_model(network, seed)
    try:
        fit(model, learned, held.take(np.arange(1)), config)
    except ConvscopeError:
        return FlipProbe(0, problem="the loss of the probe was not finite")
    images = held.images

    def correct(changed: NDArray[np.uint8]) -> NDArray[np.bool_]:
        answers = predict_logits(model, np.ascontiguousarray(changed), config.preprocessing).argmax(1)
        return np.asarray(answers == held.labels)

    upright, flipped = correct(images), correct(images[:, :, ::-1])
    if upright.mean() < np.bincount(held.labels).max() / len(held) + STANDARD_ERRORS * _standard_error(upright):
        return FlipProbe(len(held), float(upright.mean()), problem="the probe learned nothing")
    return FlipProbe(
        n=len(held),
        upright=float(upright.mean()),
        flipped=float(flipped.mean()),
        flips=_preserves_labels(upright, flipped),
    )


def _downsample(split: Split) -> Split:
    """Return the images at about 32 pixels: each block of pixels becomes its mean."""
    height, width, channels = split.shape
    block = max(1, round(min(height, width) / SIDE_PIXELS))
    if block == 1:
        return split
    high, wide = height // block, width // block
    images = np.empty((len(split), high, wide, channels), np.uint8)
    for i, image in enumerate(chain.from_iterable(split.chunks())):
        blocks = image[: high * block, : wide * block].reshape(high, block, wide, block, channels)
        images[i] = np.rint(blocks.mean(axis=(1, 3)))
    return Split(images, split.labels)


def _small_network(train: Split, classes: int) -> Network:
    try:
        return parse_network(PRESETS["quick"], train.shape, classes)
    except ArchitectureError:
        return parse_network(PRESETS["small"], train.shape, classes)


def _preserves_labels(upright: NDArray[np.bool_], changed: NDArray[np.bool_]) -> bool:
    """Return whether a change costs no more accuracy than tolerated, given which images were recognized."""
    lost = upright.astype(float) - changed
    return bool(lost.mean() - STANDARD_ERRORS * _standard_error(lost) <= TOLERANCE and lost.mean() <= 2 * TOLERANCE)


def _standard_error(values: NDArray[np.bool_] | NDArray[np.float64]) -> float:
    """Return the standard error of the mean."""
    return float(values.std()) / sqrt(len(values))
