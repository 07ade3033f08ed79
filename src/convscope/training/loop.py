"""The training loop, written out in one place: batch, forward, loss, backward, step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convscope._statistics import reaches
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision
from convscope.backends.native.step import cross_entropy, gather_batch
from convscope.backends.pytorch.fusion import leaves_work_to_torch
from convscope.backends.pytorch.models import as_batch, get_weights, set_weights
from convscope.backends.pytorch.modules import Whitening
from convscope.data.dataset import Dataset, Split, stratified_group_split
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import resize_network
from convscope.network.layers import Network
from convscope.training.loader import batches
from convscope.training.optimizers import Optimizer
from convscope.training.recipes import Recipe
from convscope.training.state import Course, Epoch, Progress

Weights = dict[str, NDArray[Any]]
SCORING_BATCH = 1000
WHITENED_NUMBERS = 60_000_000  # of the patches that are whitened: 240 MB


@dataclass
class Fitted:
    """What the loop leaves: the selected weights, which epoch they are from, and how it went.

    `beside` are the weights that are not selected: of the best epoch where the recipe takes the last, and the other way
    round. `signal` is the number of the signal that ended training early, or 0. An epoch number of 0 means that it was
    stopped before its first epoch ended; the weights are then those it had at that moment.
    """

    weights: Weights
    epoch: int
    history: list[Epoch] = field(default_factory=list)
    beside: Weights = field(default_factory=dict)
    beside_epoch: int = 0
    seconds: float = 0.0
    signal: int = 0


@dataclass(frozen=True)
class State:
    """Everything that training changes, but for torch's random numbers: what a checkpoint keeps."""

    model: nn.Module
    optimizer: Optimizer
    course: Course
    fitted: Fitted


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    preprocessing: Preprocessing,
    recipe: Recipe,
    seed: int,
    *,
    precision: Precision = "float32",
    limit: float | None = None,
    before: int = 0,
    after_batch: Callable[[Progress], None] = lambda _: None,
    after_epoch: Callable[[list[Epoch]], None] = lambda _: None,
    start: Callable[[State], None] = lambda _: None,
    save: Callable[[State], None] = lambda _: None,
    stop: Stop | None = None,
) -> Fitted:
    """Train `model` in place by `recipe` and return the weights that the recipe selects.

    The whole loop stands here, in one piece, to be read. With a `limit`, training ends after so many seconds instead of
    the recipe's epochs. Where the model has seen epochs `before`, order and learning rate are those of an end of all of
    them. `start` may put everything where an earlier training stood; `save` may keep it, after every batch and every
    epoch. Once `stop.number` is not 0, training ends after the batch at hand. Raises ConvscopeError when a loss is no
    longer finite.
    """
    stop = stop or Stop()
    learn_whitening(model, train, preprocessing)
    if recipe.classifier_share != 1:
        cast("nn.Linear", model.get_submodule("classifier")).weight.data.mul_(recipe.classifier_share)
    optimizer = Optimizer(model, recipe)
    fitted = Fitted({}, 0)
    course = Course(recipe, recipe.planned_epochs(len(train)), recipe.batches(len(train)), limit, before)
    backend.share_torch_threads(leaves_work_to_torch(model))
    torch.manual_seed(seed)  # for dropout
    state = State(model, optimizer, course, fitted)
    start(state)
    while not course.over:
        if _is_enough(fitted.history, recipe, len(validation)):
            break
        model.train()
        for batch in batches(train, preprocessing, course, seed):
            with precise(precision):
                logits = model(batch.images).float()
            loss, right = batch.loss(logits, recipe.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(recipe.learning_rate_at(course.done_at(course.step)))
            course.add(loss.item(), right, len(batch.labels))
            after_batch(course.progress())
            save(state)
            if stop.number or course.out_of_time:
                break
        if stop.number:
            break
        seconds = course.epoch_seconds
        with precise(precision):
            measured = loss_and_accuracy(model, validation, preprocessing)
        fitted.history.append(course.epoch_done(measured, seconds))
        kept, better = (get_weights(model), course.epoch), _since_best(fitted.history) == 0
        if recipe.select == "last" or better:
            fitted.weights, fitted.epoch = kept
        if recipe.select == "best" or better:
            fitted.beside, fitted.beside_epoch = kept
        after_epoch(fitted.history)
        course.new_epoch(course.epoch + 1)
        save(state)
    fitted.weights = fitted.weights or get_weights(model)
    set_weights(model, fitted.weights)
    fitted.seconds, fitted.signal = course.seconds, stop.number
    return fitted


def precise(precision: Precision) -> torch.autocast:
    """In bf16, layers multiply numbers rounded to 8 bits and sum them in float32; weights stay float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def parts(dataset: Dataset, recipe: Recipe, seed: int) -> tuple[Split, Split]:
    """The images to train on and those to validate on: the set's own, or held out of the former.

    The test set, where a recipe says so.

    Raises DataError where nothing can be held out.
    """
    if recipe.validates_on_test:
        return dataset.train, dataset.test
    if dataset.validation:
        return dataset.train, dataset.validation
    return stratified_group_split(dataset.train, recipe.validation_share, seed)


def fitting(recipe: Recipe, network: Network) -> Recipe:
    """The recipe, its images growing only where the network takes any size, as one with `flatten` does not."""
    grows = all(resize_network(network, size) for _, size in recipe.growth)
    return recipe if grows else recipe.model_copy(update={"growth": ()})


def learn_whitening(model: nn.Module, train: Split, preprocessing: Preprocessing) -> None:
    """Give whitening layers their kernels."""
    for layer in model.modules():
        if isinstance(layer, Whitening):
            numbers = preprocessing.height * preprocessing.width * layer.weight[0].numel()
            some = train.subsample(max(1, WHITENED_NUMBERS // numbers))
            layer.learn(as_batch(gather_batch(some.store, some.indices(np.arange(len(some))), preprocessing.table)))


def logits_of(model: nn.Module, images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Scores before softmax, float32 (n, classes), of uint8 images (n, h, w, c); the model's mode is kept."""
    was_training, table = model.training, preprocessing.table
    model.eval()
    with torch.inference_mode():
        parts = [
            model(as_batch(gather_batch(images, np.arange(first, min(first + SCORING_BATCH, len(images))), table)))
            .float()
            .numpy()
            for first in range(0, len(images), SCORING_BATCH)
        ]
    model.train(was_training)
    return np.concatenate(parts)


def loss_and_accuracy(model: nn.Module, split: Split, preprocessing: Preprocessing) -> tuple[float, float]:
    """Mean cross-entropy in nats and share of right answers on a split."""
    parts = [logits_of(model, images, preprocessing) for images in split.chunks(SCORING_BATCH)]
    logits = torch.from_numpy(np.concatenate(parts))
    loss, right = cross_entropy(logits, torch.from_numpy(np.array(split.labels)))
    return loss.item(), right / len(split)


def history_rows(history: list[Epoch]) -> list[dict[str, float]]:
    """The history as plain rows, one per epoch, as `metrics.jsonl` holds them."""
    return [asdict(epoch) for epoch in history]


@dataclass
class Stop:
    """The number of the signal that asked for the end, or 0."""

    number: int = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Note Ctrl-C and SIGTERM instead of dying from them; a second one acts at once.

    Signals reach only the main thread, so in any other this does nothing.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: FrameType | None) -> None:
        stop.number = number
        _restore(previous)

    for number in previous:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        _restore(previous)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _is_enough(history: list[Epoch], recipe: Recipe, validation: int) -> bool:
    """Whether the target is reached, or patience lost."""
    if not history:
        return False
    reached = reaches(history[-1].validation_accuracy, validation, recipe.target)
    return reached or (recipe.patience is not None and _since_best(history) >= recipe.patience)


def _since_best(history: list[Epoch]) -> int:
    """How many epochs the best validation accuracy is old; of equals, the latest counts."""
    accuracies = [epoch.validation_accuracy for epoch in reversed(history)]
    return accuracies.index(max(accuracies))
