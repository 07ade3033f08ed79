"""Does a picture keep its class when it is mirrored or turned? Measured, before anyone trains on such pictures.

A small network learns for some seconds from upright pictures only. What it makes of held-out pictures, upright and
mirrored, tells: flowers are recognized as well either way, digits, letters and signs are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Split, stratified_group_split
from convscope.errors import ArchitectureError, ConvscopeError, DataError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.layers import Network
from convscope.network.presets import PRESETS
from convscope.training.loop import fit, logits_of
from convscope.training.recipes import RECIPES

MAX_IMAGES = 6000
HELD_OUT = 0.25
MIN_HELD_OUT = 40
SIDE = 32  # pixels; more do not help a small network to tell left from right
STEPS = 200
WORTH = 0.03  # of all pictures may be recognized worse; a network that never saw a mirrored one is a little worse at it
SURE = 2  # standard errors


@dataclass(frozen=True)
class FlipProbe:
    """Shares of `n` held-out pictures that were recognized: upright, mirrored, and turned by a quarter and by a half.

    Where it could not be measured, `why` says so.
    """

    n: int
    upright: float = 0.0
    mirrored: float = 0.0
    turned: float = 0.0
    flips: bool = False
    turns: bool = False
    why: str = ""

    @property
    def words(self) -> str:
        """What was measured and what follows from it, for people."""
        if self.why:
            return f"pictures are not mirrored: whether they may be could not be measured ({self.why})"
        shares = f"{100 * self.mirrored:.1f} % of them were recognized mirrored, {100 * self.upright:.1f} % upright"
        also = f", {100 * self.turned:.1f} % turned" if self.flips else ""
        then = "mirrored and turned" if self.turns else "mirrored" if self.flips else "not mirrored"
        return f"pictures are {then}: {shares}{also} (a quick network, n = {self.n:,})"


def probe_flips(train: Split, classes: int, seed: int = 0) -> FlipProbe:
    """Whether pictures of these classes may be mirrored, and turned by quarters, when a network learns them.

    Pure function of its arguments but for the threads, which change the last bits of the sums. Nothing is measured on
    fewer than 40 held-out pictures, on pictures that are too small, or where the network learns nothing.
    """
    try:
        learned, held = (_small(split) for split in stratified_group_split(train.subsample(MAX_IMAGES), HELD_OUT, seed))
        network = _small_network(learned, classes)
    except (DataError, ArchitectureError):
        return FlipProbe(0, why="the pictures are too few or too small")
    if len(held) < MIN_HELD_OUT:
        return FlipProbe(0, why=f"only {len(held)} pictures could be held out, {MIN_HELD_OUT} are needed")
    preprocessing = Preprocessing.standardized(learned.images)
    recipe = RECIPES["fast"].model_copy(update={"least_steps": STEPS})
    model = build_model(network, seed)
    try:
        fit(model, learned, held.take(np.arange(1)), preprocessing, recipe, seed)
    except ConvscopeError:
        return FlipProbe(0, why="the probe's loss did not stay a number")
    images = held.images

    def right(changed: NDArray[np.uint8]) -> NDArray[np.bool_]:
        answers = logits_of(model, np.ascontiguousarray(changed), preprocessing).argmax(1)
        return np.asarray(answers == held.labels)

    upright, mirrored = right(images), right(images[:, :, ::-1])
    if upright.mean() < np.bincount(held.labels).max() / len(held) + SURE * _error(upright):
        return FlipProbe(len(held), float(upright.mean()), why="the probe learned nothing")
    square = images.shape[1] == images.shape[2]
    ways = [images[:, ::-1, ::-1], *([np.rot90(images, k, (1, 2)) for k in (1, 3)] if square else [])]
    turned = np.stack([right(way) for way in ways])
    flips = _kept(upright, mirrored)
    return FlipProbe(
        n=len(held),
        upright=float(upright.mean()),
        mirrored=float(mirrored.mean()),
        turned=float(turned.mean()),
        flips=flips,
        turns=square and flips and all(_kept(upright, way) for way in turned),
    )


def _small(split: Split) -> Split:
    """The images at about 32 pixels: whole blocks of pixels become their mean."""
    height, width, channels = split.shape
    block = max(1, round(min(height, width) / SIDE))
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


def _kept(upright: NDArray[np.bool_], changed: NDArray[np.bool_]) -> bool:
    """Whether not clearly more than a few of all pictures were recognized upright but not so."""
    lost = upright.astype(float) - changed
    return bool(lost.mean() - SURE * _error(lost) <= WORTH and lost.mean() <= 2 * WORTH)


def _error(values: NDArray[np.bool_] | NDArray[np.float64]) -> float:
    """The standard error of their mean."""
    return float(values.std()) / sqrt(len(values))
