"""The training loop against a textbook in NumPy, and its results, early stops and reproducibility."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convscope import reference
from convscope.backends.pytorch.models import build_model, get_weights
from convscope.data.dataset import Dataset, Split
from convscope.data.load import load_data
from convscope.data.splitting import stratified_group_split
from convscope.errors import ConvscopeError, UsageError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.runs.checkpoints import Checkpoint
from convscope.training import loop
from convscope.training.augmentation import epoch_flips, epoch_order, epoch_shifts
from convscope.training.callbacks import Callback, StopOnSignal, Trainer, TrainResult
from convscope.training.config import Augment, TrainConfig
from convscope.training.loader import batches
from convscope.training.loop import evaluation_batch_size, fit, learn_whitening, predict_logits, validate
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES
from convscope.training.state import EpochMetrics, Progress
from helpers.training import LambdaCallback, ProgressRecorder, state_at, weights_bytes

Weights = dict[str, NDArray[Any]]

NETWORK = parse_network("conv 4 3, relu, maxpool 2, flatten, dense 12, relu", (8, 8, 1), 10)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Split:
    """The first 200 images."""
    return digits.train.take(np.arange(200))


def short_recipe(**changes: Any) -> Recipe:
    """The article's recipe, with two epochs and batches of 20."""
    return RECIPES["article"].override(**{"batch_size": 20, "epochs": 2, **changes})


def plain_config(images: Split, recipe: Recipe, **options: Any) -> TrainConfig:
    return TrainConfig(Preprocessing.plain(images.images), recipe, **options)


def train_on(split: Split, recipe: Recipe, callbacks: Sequence[Callback] = ()) -> tuple[TrainResult, list[Progress]]:
    """Train and validate `NETWORK` on `split`."""
    recorder = ProgressRecorder()
    result = fit(build_model(NETWORK), split, split, plain_config(split, recipe), [recorder, *callbacks])
    return result, recorder.seen


def mock_validation(monkeypatch: pytest.MonkeyPatch, accuracies: Sequence[float]) -> None:
    """Let each epoch's validation return the next of the accuracies."""
    remaining = iter(accuracies)
    monkeypatch.setattr(loop, "validate", lambda *_: (1.0, next(remaining), {}))


# Against the textbook (A8, A13)


def loss_and_gradients(weights: Weights, x: NDArray[Any], targets: NDArray[Any]) -> tuple[float, Weights]:
    """Run `NETWORK` forward and backward, in the textbook's operations."""
    maps = reference.convolve(x, weights["conv.weight"], weights["conv.bias"])
    pooled = reference.pool(reference.relu(maps), 2)
    vector = reference.flatten(pooled)
    hidden = reference.dense(vector, weights["dense.weight"], weights["dense.bias"])
    active = reference.relu(hidden)
    logits = reference.dense(active, weights["classifier.weight"], weights["classifier.bias"])
    found: Weights = {}
    grad = reference.cross_entropy_backward(logits, targets)
    dense, conv = reference.dense_backward, reference.convolve_backward
    grad, found["classifier.weight"], found["classifier.bias"] = dense(grad, active, weights["classifier.weight"])
    grad = reference.relu_backward(grad, hidden)
    grad, found["dense.weight"], found["dense.bias"] = dense(grad, vector, weights["dense.weight"])
    grad = reference.pool_backward(reference.flatten_backward(grad, pooled.shape), reference.relu(maps), 2)
    grad = reference.relu_backward(grad, maps)
    _, found["conv.weight"], found["conv.bias"] = conv(grad, x, weights["conv.weight"])
    return reference.cross_entropy(logits, targets), found


def article_step(weight: Any, momentum: Any, gradient: Any, rate: float, _: Recipe) -> tuple[Any, Any]:
    return reference.sgd_momentum(weight, momentum, gradient, rate, 0.9)


def sutskever_step(weight: Any, momentum: Any, gradient: Any, rate: float, recipe: Recipe) -> tuple[Any, Any]:
    """SGD as torch documents it, after Sutskever et al., 2013."""
    config = recipe.optimizer
    gradient = gradient + config.weight_decay * weight
    momentum = config.momentum * momentum + gradient
    return weight - rate * (gradient + config.momentum * momentum if config.nesterov else momentum), momentum


def shift_images(images: NDArray[np.uint8], shifts: NDArray[np.int64], limit: int) -> NDArray[np.uint8]:
    """Cut each shifted image out of its reflection."""
    padded = np.pad(images, ((0, 0), (limit, limit), (limit, limit), (0, 0)), mode="reflect")
    height, width = images.shape[1:3]
    cut = [
        image[limit - down : limit - down + height, limit - right : limit - right + width]
        for image, (down, right) in zip(padded, shifts, strict=True)
    ]
    return np.stack(cut)


def textbook(split: Split, recipe: Recipe, step: Callable[..., tuple[Any, Any]]) -> tuple[list[float], Weights]:
    """Return the losses before each of 20 steps and the weights after them, in float64."""
    start, augmentation = get_weights(build_model(NETWORK)), recipe.augmentation
    weights = {name.replace("1.", "."): array.astype(np.float64).T for name, array in start.items()}
    weights["conv.weight"] = start["conv1.weight"].astype(np.float64).transpose(2, 3, 1, 0)
    weights["classifier.weight"] *= recipe.head_init_scale
    momenta = {name: np.zeros_like(array) for name, array in weights.items()}
    losses = []
    for number in range(20):
        epoch, first = 1 + number // 10, number % 10 * 20
        index = epoch_order(0, epoch, 200)[first : first + 20]
        images = split.images[index]
        if augmentation.horizontal_flip == "always":
            images = np.where(epoch_flips(0, epoch, 200)[index][:, None, None, None], images[:, :, ::-1], images)
        if augmentation.max_shift:
            shifts = epoch_shifts(0, epoch, 200, augmentation.max_shift)[index]
            images = shift_images(images, shifts, augmentation.max_shift)
        targets = reference.one_hot(split.labels[index], 10).astype(np.float64)
        targets = targets * (1 - recipe.label_smoothing) + recipe.label_smoothing / 10
        loss, gradients = loss_and_gradients(weights, images / 255.0, targets)
        losses.append(loss)
        rate = recipe.learning_rate_at((number + 0.5) / 20)
        for name in weights:
            weights[name], momenta[name] = step(weights[name], momenta[name], gradients[name], rate, recipe)
    return losses, weights


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({}, article_step),
        ({"nesterov": True, "learning_rate": 0.05}, sutskever_step),
        ({"weight_decay": 0.1}, sutskever_step),
        ({"schedule": {"name": "one-cycle"}, "learning_rate": 0.1}, sutskever_step),
        ({"label_smoothing": 0.2}, sutskever_step),
        ({"max_shift": 2}, sutskever_step),
        ({"horizontal_flip": "always"}, sutskever_step),
        ({"horizontal_flip": "always", "max_shift": 1}, sutskever_step),
        ({"head_init_scale": 0.25}, sutskever_step),
    ],
    ids=lambda value: "-".join(value) or "article" if isinstance(value, dict) else "",
)
def test_fit_twenty_steps_equal_the_textbook_a8_a13(
    few: Split, changes: dict[str, Any], step: Callable[..., tuple[Any, Any]]
) -> None:
    recipe = short_recipe(**changes)
    result, seen = train_on(few, recipe)
    sums = np.array([(now.epoch, now.loss * 20 * (1 + (now.step - 1) % 10)) for now in seen])
    losses = [np.diff(sums[sums[:, 0] == epoch, 1], prepend=0) / 20 for epoch in (1, 2)]
    expected, weights = textbook(few, recipe, step)
    assert np.concatenate(losses) == pytest.approx(expected, rel=2e-6)
    weights["conv.weight"] = weights["conv.weight"].transpose(1, 0, 2, 3)
    for name, array in result.weights.items():
        assert pytest.approx(weights[name.replace("1.", ".")], rel=1e-4, abs=2e-6) == array.T, name


def test_fit_progressive_resizing_trains_on_smaller_images_and_validates_on_full_size(digits: Dataset) -> None:
    sizes: list[tuple[bool, int]] = []
    model = build_model(
        parse_network("conv 16 3 pad same, batchnorm, relu, conv 16 3, batchnorm, relu, globalmax", (8, 8, 1), 10)
    )
    model.register_forward_pre_hook(lambda module, inputs: sizes.append((module.training, inputs[0].shape[-1])))
    recipe = short_recipe(batch_size=100, epochs=4, learning_rate=0.1, progressive_resizing=((0.5, 0.625),))
    result = fit(model, digits.train, digits.test, plain_config(digits.train, recipe))
    epochs = [[(True, side)] * 15 + [(False, 8)] for side in (5, 5, 8, 8)]
    assert sizes == [size for epoch in epochs for size in epoch]
    assert result.history[-1].validation_accuracy > 0.7


# WhiteningConv2d

WHITENING_NETWORK = parse_network("whiten 2, gelu, conv 6 3, batchnorm, relu, globalmax", (8, 8, 1), 10)


def test_learn_whitening_kernels_are_the_inverse_square_root_of_the_patches_moments(digits: Dataset) -> None:
    """W' W is the inverse of the patches' second moments plus the small term that suppresses noise."""
    preprocessing, model = Preprocessing.standardized(digits.train.images), build_model(WHITENING_NETWORK)
    before = get_weights(model)
    learn_whitening(model, digits.train, preprocessing)
    pixels = preprocessing.normalize(digits.train.images).astype(np.float64)[..., 0]
    patches = np.stack([pixels[:, :-1, :-1], pixels[:, :-1, 1:], pixels[:, 1:, :-1], pixels[:, 1:, 1:]], -1)
    patches = patches.reshape(-1, 4)
    kernels = get_weights(model)["whiten1.weight"].astype(np.float64).reshape(8, 4)
    assert np.array_equal(kernels[4:], -kernels[:4])
    expected = np.linalg.inv(patches.T @ patches / len(patches) + 5e-4 * np.eye(4))
    np.testing.assert_allclose(kernels[:4].T @ kernels[:4], expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    assert {name for name, values in get_weights(model).items() if (values != before[name]).any()} == {"whiten1.weight"}


def test_learn_whitening_limited_memory_samples_images_evenly(few: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    values_per_patch = 2 * 2
    monkeypatch.setattr(loop, "MAX_WHITENING_VALUES", 3 * few.images[0].size * values_per_patch)
    sample = few.take(np.array([0, (len(few) - 1) // 2, len(few) - 1]))
    found = []
    for split in (few, sample, few.take(np.arange(3)), few.take(np.arange(2))):
        model = build_model(WHITENING_NETWORK)
        learn_whitening(model, split, Preprocessing.plain(few.images))
        found.append(get_weights(model)["whiten1.weight"].tobytes())
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.1, "weight_decay": 0.1},
        {"optimizer": {"name": "muon"}, "learning_rate": 0.1, "muon_weight_decay": 0.1},
        {"optimizer": {"name": "muon"}, "learning_rate": 0.1, "freeze_norm_scale": True, "norm_bias_lr": 1.0},
    ],
    ids=["sgd", "muon", "muon with frozen norm scale"],
)
def test_fit_whitening_kernels_stay_and_other_weights_change(few: Split, changes: dict[str, Any]) -> None:
    preprocessing, model = Preprocessing.standardized(few.images), build_model(WHITENING_NETWORK)
    whitened = build_model(WHITENING_NETWORK)
    learn_whitening(whitened, few, preprocessing)
    expected = get_weights(whitened)
    seen: list[bytes] = []
    record = LambdaCallback(
        on_train_batch_end=lambda trainer: seen.append(get_weights(trainer.model)["whiten1.weight"].tobytes())
    )
    result = fit(model, few, few, TrainConfig(preprocessing, short_recipe(**changes)), [record])
    assert set(seen) == {expected["whiten1.weight"].tobytes()}
    assert result.weights["whiten1.weight"].tobytes() == expected["whiten1.weight"].tobytes()
    constant = {"whiten1.weight", *(["batchnorm1.weight"] if "freeze_norm_scale" in changes else [])}
    assert {name for name, values in result.weights.items() if (values == expected[name]).all()} == constant
    assert model.get_submodule("whiten1").weight.grad is None


# The result


@pytest.mark.parametrize(("select", "epoch"), [("last", 4), ("best", 3)])
def test_fit_best_and_last_weights_are_both_kept_and_the_selected_ones_loaded(
    few: Split, monkeypatch: pytest.MonkeyPatch, select: str, epoch: int
) -> None:
    """Epochs 2 and 3 are equally good: the later one counts as the best."""
    mock_validation(monkeypatch, [0.5, 0.9, 0.9, 0.2])
    model, after = build_model(NETWORK), list[bytes]()
    record = LambdaCallback(on_epoch_end=lambda trainer: after.append(weights_bytes(get_weights(trainer.model))))
    recipe = short_recipe(epochs=4, validation_fraction=0.1, weights=select)
    result = fit(model, few, few, plain_config(few, recipe), [record])
    assert [row.validation_accuracy for row in result.history] == [0.5, 0.9, 0.9, 0.2]
    assert (result.best_epoch, result.last_epoch, result.epoch) == (3, 4, epoch)
    assert weights_bytes(result.best) == after[2]
    assert weights_bytes(result.last) == after[3]
    assert weights_bytes(result.weights) == weights_bytes(get_weights(model)) == after[epoch - 1]
    assert len(set(after)) == 4


@pytest.mark.parametrize("select", ["last", "best"])
def test_fit_last_epoch_is_best_both_weights_are_the_same(few: Split, select: str) -> None:
    result, _ = train_on(few, short_recipe(epochs=1, validation_fraction=0.1, weights=select))
    assert (result.epoch, result.best_epoch, result.last_epoch) == (1, 1, 1)
    assert result.best is result.last


@pytest.mark.parametrize(("shape", "expected"), [((8, 8, 1), 1000), ((64, 64, 3), 64), ((512, 512, 3), 1)])
def test_evaluation_batch_size_holds_256_mb_of_activations(shape: tuple[int, int, int], expected: int) -> None:
    model = build_model(parse_network("conv 128 3 pad same, relu, globalavg", shape, 10))
    assert evaluation_batch_size(model) == expected


def test_predict_logits_small_batches_give_the_same(few: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model, preprocessing = build_model(NETWORK), Preprocessing.plain(few.images)
    whole = predict_logits(model, few.images, preprocessing)
    monkeypatch.setattr(loop, "MAX_EVALUATION_BYTES", 1)
    assert predict_logits(model, few.images, preprocessing) == pytest.approx(whole, abs=1e-5)


def test_fit_cutmix_accuracy_leaves_out_mixed_batches(few: Split) -> None:
    """All batches are mixed in the first 75 % of training: epoch 1, and half of epoch 2."""
    recipe = short_recipe(epochs=2, batch_size=50, cutmix=1, cutmix_until=0.75, validation_fraction=0.1)
    result, seen = train_on(few, recipe)
    assert [epoch.train_accuracy is None for epoch in result.history] == [True, False]
    assert [now.accuracy is None for now in seen] == [True] * 6 + [False] * 2


def test_fit_every_epoch_has_a_row_of_metrics(few: Split) -> None:
    lengths: list[int] = []
    count = LambdaCallback(on_epoch_end=lambda trainer: lengths.append(len(trainer.result.history)))
    recipe = short_recipe(epochs=3, schedule={"name": "one-cycle"})
    result, seen = train_on(few, recipe, [count])
    assert lengths == [1, 2, 3]
    rows = [epoch.to_row() for epoch in result.history]
    assert [list(row) for row in rows] == [[*(name for name in field_names(EpochMetrics) if name != "metrics")]] * 3
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["train_loss"] for row in rows] == [seen[i].loss for i in (9, 19, 29)]
    assert [row["train_accuracy"] for row in rows] == [seen[i].accuracy for i in (9, 19, 29)]
    assert rows[2]["learning_rate"] == recipe.learning_rate_at(29.5 / 30)
    assert all(epoch.images_per_second * epoch.seconds == pytest.approx(200) for epoch in result.history)
    assert result.seconds > sum(epoch.seconds for epoch in result.history)
    assert [(now.epoch, now.epochs, now.step, now.steps) for now in seen[8:11]] == [
        (1, 3, 9, 30), (1, 3, 10, 30), (2, 3, 11, 30),
    ]  # fmt: skip
    assert seen[-1].seconds_left == 0


def field_names(record: Any) -> list[str]:
    """Return the field names of a dataclass or a pydantic model."""
    return list(getattr(record, "model_fields", None) or [field.name for field in fields(record)])


def test_fit_training_loss_falls_in_every_epoch_a8(digits: Dataset) -> None:
    train, held_out = stratified_group_split(digits.train, 0.1, 0)
    recipe = short_recipe(batch_size=32, epochs=10)
    result = fit(build_model(NETWORK), train, held_out, plain_config(train, recipe))
    losses = [epoch.train_loss for epoch in result.history]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 3
    assert result.history[-1].validation_accuracy > 0.85


def test_validate_equals_the_textbook_and_restores_the_models_mode(digits: Dataset) -> None:
    """More images than one evaluation batch holds; dropout must be off."""
    split, preprocessing = digits.train, Preprocessing.standardized(digits.train.images)
    model = build_model(parse_network("flatten, dropout 0.5", (8, 8, 1), 10))
    start = get_weights(model)
    logits = preprocessing.normalize(split.images).reshape(1438, 64) @ start["classifier.weight"].T
    config = TrainConfig(preprocessing, short_recipe())
    for mode in (True, False):
        model.train(mode)
        assert predict_logits(model, split.images, preprocessing) == pytest.approx(logits, rel=1e-4, abs=1e-5)
        loss, accuracy, metrics = validate(model, split, config)
        assert loss == pytest.approx(reference.cross_entropy(logits, reference.one_hot(split.labels, 10)), rel=1e-5)
        assert accuracy == (logits.argmax(1) == split.labels).mean()
        assert metrics == {}
        assert model.training is mode


def test_fit_dropout_acts_in_every_epoch_and_depends_on_the_seed_only(few: Split) -> None:
    network = parse_network("flatten, dropout 0.5", (8, 8, 1), 10)
    modes: list[bool] = []

    def losses(seed: int) -> list[float]:
        model = build_model(network).eval()  # fit sets the mode itself
        model.get_submodule("dropout1").register_forward_hook(lambda module, *_: modes.append(module.training))
        result = fit(model, few, few, plain_config(few, short_recipe(batch_size=100), seed=seed))
        return [epoch.train_loss for epoch in result.history]

    torch.manual_seed(5)
    first = losses(1)
    torch.manual_seed(6)
    assert losses(1) == first != losses(2)
    assert modes == [True, True, False] * 6  # two batches, then validation


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        (20, r"^the loss became (nan|inf) in epoch 1, step 2: lower --learning-rate, for example to a tenth$"),
        (200, r"^the validation loss became (nan|inf) in epoch 1, step 1: lower --learning-rate, for example to a te"),
    ],
)
def test_fit_loss_not_finite_raises(few: Split, batch_size: int, message: str) -> None:
    with pytest.raises(ConvscopeError, match=message):
        train_on(few, short_recipe(learning_rate=1e30, batch_size=batch_size))


# Early stops


def test_fit_time_limit_reached_stops_after_the_current_batch_and_validates(few: Split) -> None:
    recorder = ProgressRecorder()
    recipe = short_recipe(epochs=4, batch_size=2, validation_fraction=0.1)
    result = fit(build_model(NETWORK), few, few, plain_config(few, recipe, time_limit=1e-9), [recorder])
    assert [now.step for now in recorder.seen] == [1]
    assert len(result.history) == 1


@pytest.mark.parametrize(
    ("patience", "epochs"), [(1, 3), (2, 4), (3, 5), (5, 7), (6, 8), (None, 8)]
)  # accuracy rises in epochs 1, 2 and 8; epoch 4 is as good as 2
def test_fit_patience_runs_out_stops(
    few: Split, monkeypatch: pytest.MonkeyPatch, patience: int | None, epochs: int
) -> None:
    mock_validation(monkeypatch, [0.5, 0.9, 0.8, 0.9, 0.7, 0.8, 0.85, 0.95])
    recipe = short_recipe(batch_size=50, epochs=8, learning_rate=0.1, validation_fraction=0.1, patience=patience)
    result = fit(build_model(parse_network("flatten", few.shape, 10)), few, few, plain_config(few, recipe))
    assert len(result.history) == epochs


@pytest.mark.parametrize(("target", "epochs"), [(0.5, 1), (0.9, 4), (0.999, 6), (None, 6)])
def test_fit_target_accuracy_shown_stops(
    few: Split, monkeypatch: pytest.MonkeyPatch, target: float | None, epochs: int
) -> None:
    """In one of six looks at 200 images, 94.5 % does not show 90 %; 96 % does."""
    mock_validation(monkeypatch, [0.6, 0.93, 0.945, 0.96, 0.5, 0.99])
    recipe = short_recipe(batch_size=50, epochs=6, learning_rate=0.1, validation_fraction=0.1, target_accuracy=target)
    result = fit(build_model(parse_network("flatten", few.shape, 10)), few, few, plain_config(few, recipe))
    assert len(result.history) == epochs


@pytest.mark.parametrize(("step", "epochs", "epoch"), [(1, 0, 0), (10, 0, 0), (11, 1, 1), (25, 2, 2)])
def test_fit_signal_stops_after_the_current_batch(few: Split, step: int, epochs: int, epoch: int) -> None:
    """The weights are those of the last complete epoch; before the first, those of the moment."""
    stop, model = StopOnSignal(), build_model(NETWORK)
    steps, after_epochs = list[bytes](), list[bytes]()

    def receive_signal(trainer: Trainer) -> None:
        steps.append(weights_bytes(get_weights(model)))
        stop.received = stop.received or signal.SIGTERM * (trainer.state.step == step)

    callback = LambdaCallback(
        on_train_batch_end=receive_signal,
        on_epoch_end=lambda _: after_epochs.append(weights_bytes(get_weights(model))),
    )
    result = fit(model, few, few, plain_config(few, short_recipe(epochs=5)), [callback, stop])
    assert (len(steps), len(result.history), result.epoch) == (step, epochs, epoch)
    assert stop.number == signal.SIGTERM
    assert weights_bytes(result.weights) == (after_epochs[-1] if after_epochs else steps[-1])
    assert weights_bytes(get_weights(model)) == weights_bytes(result.weights)


def test_fit_signal_during_validation_stops_after_the_epoch(few: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopOnSignal()

    def validate_with_signal(*_: object) -> tuple[float, float, dict[str, float]]:
        stop.received = signal.SIGINT
        return 1.0, 0.5, {}

    monkeypatch.setattr(loop, "validate", validate_with_signal)
    result, seen = train_on(few, short_recipe(epochs=5), [stop])
    assert (len(seen), len(result.history), result.last_epoch) == (10, 1, 1)


# Callbacks


class HookRecorder(Callback):
    """Records the hooks that are called, and stops training in one of them."""

    def __init__(self, name: str, calls: list[str], stop_in: str = "", at_step: int = 0) -> None:
        self.name, self.calls, self.stop_in, self.at_step = name, calls, stop_in, at_step

    def on_train_begin(self, trainer: Trainer) -> None:
        self._record("begin", trainer)

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self._record("batch", trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._record("epoch", trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        self._record("end", trainer)

    def _record(self, hook: str, trainer: Trainer) -> None:
        self.calls.append(f"{self.name} {hook} {trainer.state.step}")
        if hook == self.stop_in and trainer.state.step >= self.at_step:
            trainer.stop_training = True


def calls_of(hooks: Sequence[str]) -> list[str]:
    """Return the calls that two callbacks, "a" and then "b", record."""
    return [f"{name} {hook}" for hook in hooks for name in "ab"]


@pytest.mark.parametrize(
    ("stop_in", "at_step", "hooks"),
    [
        ("", 0, ["begin 0", "batch 1", "batch 2", "epoch 2", "batch 3", "batch 4", "epoch 4", "end 4"]),
        ("begin", 0, ["begin 0", "end 0"]),
        ("batch", 1, ["begin 0", "batch 1", "end 1"]),
        ("batch", 2, ["begin 0", "batch 1", "batch 2", "end 2"]),  # the epoch is not validated
        ("batch", 3, ["begin 0", "batch 1", "batch 2", "epoch 2", "batch 3", "end 3"]),
        ("epoch", 2, ["begin 0", "batch 1", "batch 2", "epoch 2", "end 2"]),
    ],
)
def test_fit_hooks_are_called_in_order_until_stop_training(
    few: Split, stop_in: str, at_step: int, hooks: list[str]
) -> None:
    calls: list[str] = []
    callbacks = [HookRecorder("a", calls, stop_in, at_step), HookRecorder("b", calls)]
    recipe = short_recipe(batch_size=100)
    result = fit(build_model(NETWORK), few, few, plain_config(few, recipe), callbacks)
    assert calls == calls_of(hooks)
    assert len(result.history) == sum(hook.startswith("epoch") for hook in hooks)


def test_fit_hooks_receive_the_epochs_metrics_and_the_final_result(few: Split) -> None:
    model, epochs, ends = build_model(NETWORK), list[int](), list[float]()

    def on_epoch_end(trainer: Trainer) -> None:
        epochs.append(trainer.result.history[-1].epoch)
        assert trainer.result.last_epoch == epochs[-1]
        assert trainer.model is model

    def on_train_end(trainer: Trainer) -> None:
        ends.append(trainer.result.seconds)
        assert weights_bytes(get_weights(trainer.model)) == weights_bytes(trainer.result.weights)

    callback = LambdaCallback(on_epoch_end=on_epoch_end, on_train_end=on_train_end)
    result = fit(model, few, few, plain_config(few, short_recipe()), [callback])
    assert (epochs, ends) == ([1, 2], [result.seconds])
    assert result.seconds > 0


# The user's own metrics


def test_fit_own_metrics_are_measured_on_the_validation_data_after_each_epoch(few: Split, digits: Dataset) -> None:
    received: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []

    def top2(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        received.append((logits, labels))
        return float((np.argsort(logits, axis=1)[:, -2:] == labels[:, None]).any(1).mean())

    def errors(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        return int((logits.argmax(1) != labels).sum())

    model, metrics = build_model(NETWORK), {"top2": top2, "errors": errors}
    result = fit(model, few, digits.test, plain_config(few, short_recipe(), metrics=metrics))
    assert [list(epoch.metrics) for epoch in result.history] == [["top2", "errors"]] * 2
    for epoch in result.history:
        assert epoch.metrics["errors"] == round((1 - epoch.validation_accuracy) * 359)
        assert epoch.validation_accuracy <= epoch.metrics["top2"] <= 1
        row = epoch.to_row()
        assert list(row)[-2:] == ["validation_top2", "validation_errors"]
        assert row["validation_top2"] == epoch.metrics["top2"]
        assert row["validation_errors"] == epoch.metrics["errors"]
        assert "metrics" not in row
    assert len(received) == 2
    logits, labels = received[-1]
    assert logits.dtype == np.float32
    assert logits.shape == (359, 10)
    assert np.array_equal(labels, digits.test.labels)
    expected = predict_logits(model, digits.test.images, Preprocessing.plain(few.images))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_fit_own_metrics_do_not_change_the_training(few: Split) -> None:
    config = plain_config(few, short_recipe())
    with_metrics = plain_config(few, short_recipe(), metrics={"zero": lambda *_: 0.0})
    first, second = (fit(build_model(NETWORK), few, few, each) for each in (config, with_metrics))
    assert weights_bytes(first.weights) == weights_bytes(second.weights)
    assert [epoch.metrics for epoch in first.history] == [{}, {}]
    assert [epoch.metrics for epoch in second.history] == [{"zero": 0.0}] * 2


# The user's own augmentation


def add_noise(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    return (images // 2 + random.integers(0, 128, images.shape)).astype(np.uint8)


def test_fit_own_augmentation_changes_the_training_and_is_deterministic(few: Split) -> None:
    def train(augment: Augment | None, seed: int = 0) -> bytes:
        config = plain_config(few, short_recipe(), seed=seed, augment=augment)
        return weights_bytes(fit(build_model(NETWORK), few, few, config).weights)

    first = train(add_noise)
    np.random.seed(0)
    assert train(add_noise) == first
    assert len({first, train(None), train(add_noise, seed=1)}) == 3
    assert train(lambda images, _: images) == train(None)


@pytest.mark.parametrize("step", [3, 10, 13])
def test_fit_own_augmentation_resumed_training_is_bit_identical(few: Split, step: int) -> None:
    """Stopped in the middle and at the end of the first epoch, and in the second."""
    config = plain_config(few, short_recipe(max_shift=1), augment=add_noise)
    saved: list[Checkpoint] = []

    def save_and_stop(trainer: Trainer) -> None:
        if trainer.state.step == step:
            saved.append(Checkpoint.of(trainer, ""))
            trainer.stop_training = True

    whole = fit(build_model(NETWORK), few, few, config)
    fit(build_model(NETWORK), few, few, config, [LambdaCallback(on_train_batch_end=save_and_stop)])
    recorder = ProgressRecorder()
    resumed = fit(
        build_model(NETWORK), few, few, config, [LambdaCallback(on_train_begin=saved[0].restore), recorder]
    )  # fmt: skip
    assert [now.step for now in recorder.seen] == list(range(step + 1, 21))
    assert weights_bytes(resumed.weights) == weights_bytes(whole.weights)
    assert [epoch.train_loss for epoch in resumed.history] == [epoch.train_loss for epoch in whole.history]


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (lambda images: images / 255, r"float64 \(20, 8, 8, 1\)"),
        (lambda images: images[:-1], r"uint8 \(19, 8, 8, 1\)"),
        (lambda images: images[..., 0], r"uint8 \(20, 8, 8\)"),
        (lambda images: images.tolist(), "list"),
        (torch.from_numpy, "Tensor"),
        (lambda _: None, "NoneType"),
    ],
    ids=["float", "an image missing", "an axis missing", "list", "tensor", "None"],
)
def test_fit_own_augmentation_wrong_return_value_raises(few: Split, returned: Callable[..., Any], got: str) -> None:
    config = plain_config(few, short_recipe(), augment=lambda images, _: returned(images))
    expected = r": expected uint8 \(20, 8, 8, 1\), the shape that it was given$"
    with pytest.raises(UsageError, match=f"^augment returned {got}{expected}"):
        fit(build_model(NETWORK), few, few, config)


# Reproducibility


def test_fit_same_seed_gives_identical_weights_whatever_callbacks_do(few: Split) -> None:
    def train(seed: int, callbacks: Sequence[Callback] = ()) -> bytes:
        model = build_model(parse_network("conv 4 3, batchnorm, relu, flatten, dropout 0.3", (8, 8, 1), 10), seed)
        fit(model, few, few, plain_config(few, short_recipe(max_shift=1), seed=seed), callbacks)
        return weights_bytes(get_weights(model))

    def disturb(_: Trainer) -> None:
        np.random.default_rng().random()
        np.random.rand()
        math.sqrt(2)

    first = train(0)
    assert train(0, [LambdaCallback(on_train_batch_end=disturb, on_epoch_end=disturb), StopOnSignal()]) == first
    assert train(1) != first


def test_fit_single_last_image_joins_the_batch_before_it() -> None:
    """Batch norm on a vector fails on one image: 17 images in batches of 8 are 8 and 9."""
    recipe = RECIPES["article"].override(batch_size=8, epochs=1)
    split = Split(np.arange(17 * 4, dtype=np.uint8).reshape(17, 2, 2, 1), np.arange(17) % 2)
    network = parse_network("flatten, dense 3, batchnorm, relu", (2, 2, 1), 2)
    recorder, config = ProgressRecorder(), plain_config(split, recipe)
    fit(build_model(network), split, split, config, [recorder])
    assert [now.step for now in recorder.seen] == [1, 2]
    assert [len(batch.labels) for batch in batches(split, config, state_at(recipe, 17, 1))] == [8, 9]
