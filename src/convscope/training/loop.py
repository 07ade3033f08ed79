"""The training loop, written out in one place: batch, forward, loss, backward, step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convscope._statistics import first_epoch_at_target
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision
from convscope.backends.native.step import cross_entropy, gather_batch
from convscope.backends.pytorch.fusion import FusedSequential, leaves_work_to_torch
from convscope.backends.pytorch.models import as_batch, get_weights, set_weights
from convscope.backends.pytorch.modules import WhiteningConv2d
from convscope.data.dataset import Split
from convscope.images.preprocessing import Preprocessing
from convscope.network.layers.base import inference_bytes
from convscope.training.callbacks import Callback, Trainer, TrainResult
from convscope.training.config import TrainConfig
from convscope.training.finetuning.tail import Tail
from convscope.training.loader import Batch, batches
from convscope.training.metrics import compute_metrics
from convscope.training.optimizers import Optimizer
from convscope.training.state import TrainerState

if TYPE_CHECKING:
    from convscope.backends.pytorch.group import Group

MAX_EVALUATION_BATCH = 1000
MAX_EVALUATION_BYTES = 2**28  # of activations at once; with what the libraries add, under 512 MB
MAX_WHITENING_VALUES = 60_000_000  # in the patches that whitening learns from: 240 MB


def fit(
    model: nn.Module, train: Split, validation: Split, config: TrainConfig, callbacks: Sequence[Callback] = ()
) -> TrainResult:
    """Train `model` in place and leave it with the weights that the recipe selects.

    Args:
        model: a model of `build_model`.
        train: the training images.
        validation: the images that each epoch is measured on.
        config: recipe, preprocessing, seed and the rest.
        callbacks: their hooks are called in this order; the first hook may also restore a checkpoint.

    Raises:
        ConvscopeError: a loss is no longer finite.
    """
    recipe = config.recipe
    state = TrainerState(recipe, len(train), config.time_limit, config.initial_epoch)
    learn_whitening(model, train, config.preprocessing)
    if recipe.head_init_scale != 1:
        cast("nn.Linear", model.get_submodule("classifier")).weight.data.mul_(recipe.head_init_scale)
    trained = model if config.tail is None else config.tail.layers_of(model)
    optimizer = Optimizer(trained, recipe.optimizer)
    result = TrainResult(recipe.selection.weights)
    trainer = Trainer(model, optimizer, state, result)
    group = config.group
    if group is not None:
        group.share_batches(model)
    backend.share_torch_threads(leaves_work_to_torch(model))
    torch.manual_seed(config.seed)  # for dropout
    state.begin_epoch(1)
    for callback in callbacks:
        callback.on_train_begin(trainer)
    _agree(trainer, group)
    while not (state.finished or trainer.stop_training or _should_stop(result, state, len(validation))):
        model.train()
        for batch in batches(train, config, state):
            _train_batch(trainer, trained, batch, config)
            for callback in callbacks:
                callback.on_train_batch_end(trainer)
            _agree(trainer, group)
            if trainer.stop_training or state.out_of_time:
                break
        if trainer.stop_training:
            break
        _end_epoch(trainer, validation, config)
        for callback in callbacks:
            callback.on_epoch_end(trainer)
        _agree(trainer, group)
    result.seconds = state.elapsed
    if not result.history:
        result.best = result.last = get_weights(model)
    set_weights(model, result.weights)
    for callback in callbacks:
        callback.on_train_end(trainer)
    return result


def _train_batch(trainer: Trainer, trained: nn.Module, batch: Batch, config: TrainConfig) -> None:
    """Change the weights once, and count the batch; in a group of processes, all of them do it together."""
    with autocast(config.precision):
        logits = trained(batch.images).float()
    loss, correct = batch.loss(logits, config.recipe.label_smoothing)
    loss.backward(batch.weight)  # type: ignore[no-untyped-call]
    counts = loss.item(), correct, len(batch.labels)
    if config.group is not None:
        counts = config.group.combine(trainer.optimizer.weights, loss, correct)
    state = trainer.state
    trainer.optimizer.step(config.recipe.learning_rate_at(state.done_at(state.step)))
    state.add_batch(*counts, mixed=batch.lam < 1)


def _end_epoch(trainer: Trainer, validation: Split, config: TrainConfig) -> None:
    """Measure the epoch, and keep its weights; the next one begins."""
    state, result = trainer.state, trainer.result
    seconds = state.epoch_seconds
    with autocast(config.precision):
        measured = validate(trainer.model, validation, config)
    result.history.append(state.end_epoch(measured, seconds))
    result.last, result.last_epoch = get_weights(trainer.model), state.epoch
    if result.last_is_best:
        result.best, result.best_epoch = result.last, result.last_epoch
    state.begin_epoch(state.epoch + 1)


def _agree(trainer: Trainer, group: Group | None) -> None:
    """Of a group of processes, let the callbacks and the clock of rank 0 decide for all."""
    if group is not None:
        stop, seconds = group.broadcast([trainer.stop_training, trainer.state.elapsed])
        trainer.stop_training, trainer.state.agreed_seconds = bool(stop), seconds


def autocast(precision: Precision) -> torch.autocast:
    """In bf16, layers multiply numbers rounded to 8 bits and sum them in float32; weights stay float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def learn_whitening(model: nn.Module, train: Split, preprocessing: Preprocessing) -> None:
    """Give whitening layers their kernels, from patches of the training images."""
    for layer in model.modules():
        if isinstance(layer, WhiteningConv2d):
            values_per_image = preprocessing.height * preprocessing.width * layer.weight[0].numel()
            sample = train.subsample(max(1, MAX_WHITENING_VALUES // values_per_image))
            rows = sample.indices(np.arange(len(sample)))
            layer.fit(as_batch(gather_batch(sample.store, rows, preprocessing.table)))


def predict_logits(model: nn.Module, images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return logits, float32 (n, classes), of uint8 images (n, h, w, c); the model's mode is restored."""
    was_training, table = model.training, preprocessing.table
    batch_size = evaluation_batch_size(model)
    batches_of_rows = (
        np.arange(first, min(first + batch_size, len(images))) for first in range(0, len(images), batch_size)
    )
    model.eval()
    with torch.inference_mode():
        parts = [model(as_batch(gather_batch(images, rows, table))).float().numpy() for rows in batches_of_rows]
    model.train(was_training)
    return np.concatenate(parts)


def evaluation_batch_size(model: nn.Module) -> int:
    """Return the number of images that a model evaluates at once: at most 1,000, whose activations take 256 MB."""
    per_image = inference_bytes(model.layers) if isinstance(model, FusedSequential) else 0
    return max(1, min(MAX_EVALUATION_BATCH, MAX_EVALUATION_BYTES // max(1, per_image)))


def validate(model: nn.Module, split: Split, config: TrainConfig) -> tuple[float, float, dict[str, float]]:
    """Return the mean cross-entropy in nats, the accuracy and the user's own metrics on a split."""
    group = config.group
    own = split if group is None else _share_of(split, group)
    logits = split_logits(model, own, config.preprocessing, config.tail)
    if group is not None:
        logits = group.gather(logits)[: len(split)]
        if group.rank:
            mean, accuracy = group.broadcast([0, 0])
            return mean, accuracy, {}
    loss, correct = cross_entropy(torch.from_numpy(logits), torch.from_numpy(np.array(split.labels)))
    measured = loss.item(), correct / len(split)
    if group is not None:
        group.broadcast(measured)
    return *measured, compute_metrics(config.metrics, logits, split.labels)


def _share_of(split: Split, group: Group) -> Split:
    """This rank's images of a split: as many as every rank's, the last image repeated if necessary."""
    count = -(-len(split) // group.size)
    return split.take(np.minimum(np.arange(group.rank * count, (group.rank + 1) * count), len(split) - 1))


def split_logits(
    model: nn.Module, split: Split, preprocessing: Preprocessing, tail: Tail | None = None
) -> NDArray[np.float32]:
    """Logits of a split, float32 (n, classes); with a tail, those of its validation images, from their cached maps."""
    if tail is not None:
        return tail.predict_logits(model)
    return np.concatenate([predict_logits(model, images, preprocessing) for images in split.chunks()])


def _should_stop(result: TrainResult, state: TrainerState, validation_images: int) -> bool:
    """Return whether the target accuracy has been reached, or patience has run out."""
    target, patience = state.recipe.stopping.target_accuracy, state.recipe.stopping.patience
    if target is not None:
        accuracies = [epoch.validation_accuracy for epoch in result.history]
        planned = state.epochs if state.time_limit is None else None
        if first_epoch_at_target(accuracies, validation_images, target, planned):
            return True
    return patience is not None and result.epochs_without_gain >= patience
