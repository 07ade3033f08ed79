"""Training in a group of ranks: batches, losses, weights, validation and decisions are those of one process."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.training.callbacks import Callback, Trainer, Weights
from convscope.training.config import Pixels, TrainConfig
from convscope.training.loader import Batch, batches
from convscope.training.loop import fit
from convscope.training.recipe import AugmentationConfig, Recipe
from convscope.training.recipes import RECIPES
from convscope.training.state import EpochMetrics, TrainerState
from helpers.thread_group import ThreadGroup, in_ranks

ARCHITECTURE = "conv 4 3 pad same, batchnorm, gelu, conv 4 3, gelu, flatten, dense 8, batchnorm, tanh"
AUGMENTED = AugmentationConfig(
    max_shift=1, horizontal_flip="always", min_crop_area=0.5, color_jitter=0.3, cutmix=0.5, cutmix_until=0.8
)
BATCH_SIZE, IMAGES = 9, 40  # batches of 9, 9, 9, 9 and 4


def recipe(augmentation: AugmentationConfig = AUGMENTED, epochs: int = 2) -> Recipe:
    found = RECIPES["default"].override(epochs=epochs, batch_size=BATCH_SIZE)
    return found.model_copy(update={"augmentation": augmentation})


def config(data: Dataset, **changes: object) -> TrainConfig:
    return replace(TrainConfig(Preprocessing.standardized(data.train.images), recipe(), 3), **changes)  # type: ignore[arg-type]


def posterize(images: Pixels, random: np.random.Generator) -> Pixels:
    """An augmentation that draws one number for the whole batch."""
    return images // random.integers(1, 9, dtype=np.uint8)


class Training(NamedTuple):
    losses: list[float]
    weights: Weights
    history: list[EpochMetrics]


class RecordLosses(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self.losses.append(trainer.state.loss_sum)


def train(data: Dataset, settings: TrainConfig, *callbacks: Callback) -> Training:
    recorded = RecordLosses()
    model = build_model(parse_network(ARCHITECTURE, data.shape, 2), 1)
    result = fit(model, data.train, data.test.take(np.arange(7)), settings, [recorded, *callbacks])
    return Training(recorded.losses, result.last, result.history)


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer) -> None:
        trainer.stop_training = trainer.state.step == self.step


class LateClock(Callback):
    """The clock of a process that began long ago."""

    def on_train_begin(self, trainer: Trainer) -> None:
        trainer.state.start -= 1000


@pytest.mark.parametrize("augment", [None, posterize])
@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_batches_of_all_ranks_are_those_of_one_process(stripes: Dataset, size: int, augment: object) -> None:
    settings = config(stripes, augment=augment)
    whole = list(batches(stripes.train, settings, TrainerState(settings.recipe, IMAGES)))
    assert {batch.lam < 1 for batch in whole} == {True, False}
    logits = torch.randn(IMAGES, 2)

    def work(group: ThreadGroup) -> list[Batch]:
        shared = replace(settings, group=group)
        return list(batches(stripes.train, shared, TrainerState(shared.recipe, IMAGES)))

    for batch, *parts in zip(whole, *in_ranks(size, work), strict=True):
        if len(batch.labels) < size:  # every rank has the whole batch
            assert all(torch.equal(part.images, batch.images) for part in parts)
        else:
            assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
            assert max(len(part.labels) for part in parts) - min(len(part.labels) for part in parts) <= 1
        position, loss = 0, torch.zeros(())
        for part in parts:
            assert part.weight is not None
            some = logits[position : position + len(part.labels)]
            loss = loss + part.weight * part.loss(some, 0.1)[0]
            position += len(part.labels) if len(batch.labels) >= size else 0
        torch.testing.assert_close(loss, batch.loss(logits[: len(batch.labels)], 0.1)[0])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_fit_in_group_equals_fit_in_one_process(stripes: Dataset, size: int) -> None:
    alone = train(stripes, config(stripes))
    ranks = in_ranks(size, lambda group: train(stripes, config(stripes, group=group)))
    for rank in ranks:
        np.testing.assert_allclose(rank.losses, alone.losses, rtol=1e-5)
        for name, array in alone.weights.items():
            np.testing.assert_allclose(rank.weights[name], array, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(rank.weights[name], ranks[0].weights[name])
        for ours, theirs in zip(rank.history, alone.history, strict=True):
            assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-4)
            assert ours.validation_accuracy == theirs.validation_accuracy
            assert ours.train_accuracy == theirs.train_accuracy


def test_fit_in_group_stops_everywhere_after_the_batch_in_which_rank_0_stops(stripes: Dataset) -> None:
    def work(group: ThreadGroup) -> list[float]:
        return train(stripes, config(stripes, group=group), *([StopAfter(7)] if group.rank == 0 else [])).losses

    assert [len(losses) for losses in in_ranks(3, work)] == [7, 7, 7]


def test_fit_in_group_with_time_limit_follows_the_clock_of_rank_0(stripes: Dataset) -> None:
    def work(group: ThreadGroup) -> Training:
        settings = config(stripes, group=group, time_limit=0.3)
        return train(stripes, settings, *([LateClock()] if group.rank else []))

    first, second = in_ranks(2, work)
    assert first.losses == second.losses
    assert first.history[-1].validation_loss == second.history[-1].validation_loss


def test_fit_in_group_measures_own_metrics_in_rank_0_only(stripes: Dataset) -> None:
    def work(group: ThreadGroup) -> Training:
        metrics = {"n": lambda logits, labels: len(logits) + 0 * len(labels)}
        return train(stripes, config(stripes, group=group, metrics=metrics))

    assert [rank.history[-1].metrics for rank in in_ranks(3, work)] == [{"n": 7.0}, {}, {}]


def test_begin_batch_splits_a_batch_evenly() -> None:
    def work(group: ThreadGroup) -> list[int]:
        return list(map(int, group.begin_batch(10)))

    assert in_ranks(4, work) == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]


def test_split_of_one_image_is_validated_by_every_rank(stripes: Dataset) -> None:
    one = replace(stripes, test=Split(stripes.test.images[:1], stripes.test.labels[:1]))

    def work(group: ThreadGroup) -> float:
        settings = config(stripes, group=group)
        model = build_model(parse_network(ARCHITECTURE, one.shape, 2), 1)
        return fit(model, one.train, one.test, settings).history[-1].validation_loss

    losses = in_ranks(3, work)
    assert losses == [losses[0]] * 3
