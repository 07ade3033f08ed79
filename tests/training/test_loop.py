"""The training loop against a textbook written in NumPy, and everything it promises about what it leaves."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convscope import reference
from convscope.backends.native.step import gather_batch
from convscope.backends.pytorch.models import as_batch, build_model, get_weights
from convscope.data.dataset import Dataset, Split, stratified_group_split
from convscope.data.load import load_data
from convscope.errors import ConvscopeError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.training import loop as train
from convscope.training.augmentation import epoch_crops, epoch_flips, epoch_moves, epoch_order
from convscope.training.loader import batches, cropped, scaled
from convscope.training.loop import (
    Fitted,
    Stop,
    fit,
    learn_whitening,
    logits_of,
    loss_and_accuracy,
    stop_signals,
)
from convscope.training.recipes import RECIPES, Recipe
from convscope.training.state import Course, Epoch, Progress

Weights = dict[str, NDArray[Any]]


def course(chosen: Recipe, images: Split, epoch: int, batch: int = 0) -> Course:
    """A training by that recipe, in that epoch, so many batches of which are done."""
    found = Course(chosen, chosen.planned_epochs(len(images)), chosen.batches(len(images)))
    found.new_epoch(epoch)
    found.step = (epoch - 1) * found.batches + batch
    return found


def pairs(*words: Any) -> list[tuple[Tensor, Tensor]]:
    """Images and labels of the batches."""
    return [(batch.images, batch.labels) for batch in batches(*words)]


def bits(weights: Weights) -> bytes:
    return b"".join(array.tobytes() for array in weights.values())


NETWORK = parse_network("conv 4 3, relu, maxpool 2, flatten, dense 12, relu", (8, 8, 1), 10)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Split:
    """The first 200 images."""
    return digits.train.take(np.arange(200))


def recipe(**changes: Any) -> Recipe:
    """The article's, but for two epochs of batches of 20 on few images."""
    return Recipe.model_validate({**RECIPES["article"].model_dump(), "batch": 20, "epochs": 2, **changes})


def trained(split: Split, chosen: Recipe, **options: Any) -> tuple[Fitted, list[Progress]]:
    """`NETWORK` trained and validated on `split`."""
    seen: list[Progress] = []
    preprocessing = Preprocessing.plain(split.images)
    return fit(build_model(NETWORK), split, split, preprocessing, chosen, 0, after_batch=seen.append, **options), seen


# Against the textbook (A8, A13)


def loss_and_gradients(weights: Weights, x: NDArray[Any], targets: NDArray[Any]) -> tuple[float, Weights]:
    """`NETWORK` forward and backward, in the textbook's operations."""
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


def article_step(weight: Any, state: Any, gradient: Any, rate: float, _: Recipe) -> tuple[Any, Any]:
    return reference.sgd_momentum(weight, state, gradient, rate, 0.9)


def sutskever_step(weight: Any, state: Any, gradient: Any, rate: float, chosen: Recipe) -> tuple[Any, Any]:
    """SGD as torch documents it, after Sutskever et al., 2013."""
    gradient = gradient + chosen.weight_decay * weight
    state = chosen.momentum * state + gradient
    return weight - rate * (gradient + chosen.momentum * state if chosen.nesterov else state), state


def moved(images: NDArray[np.uint8], moves: NDArray[np.int64], most: int) -> NDArray[np.uint8]:
    """Each image cut out of its own reflection."""
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="reflect")
    height, width = images.shape[1:3]
    cut = [
        one[most - down : most - down + height, most - right : most - right + width]
        for one, (down, right) in zip(padded, moves, strict=True)
    ]
    return np.stack(cut)


def textbook(split: Split, chosen: Recipe, step: Callable[..., tuple[Any, Any]]) -> tuple[list[float], Weights]:
    """The losses before each of 20 steps, and the weights after them, in float64."""
    start = get_weights(build_model(NETWORK))
    weights = {name.replace("1.", "."): array.astype(np.float64).T for name, array in start.items()}
    weights["conv.weight"] = start["conv1.weight"].astype(np.float64).transpose(2, 3, 1, 0)
    weights["classifier.weight"] *= chosen.classifier_share
    state = {name: np.zeros_like(array) for name, array in weights.items()}
    losses = []
    for number in range(20):
        epoch, first = 1 + number // 10, number % 10 * 20
        index = epoch_order(0, epoch, 200)[first : first + 20]
        images = split.images[index]
        if chosen.flip == "always":
            images = np.where(epoch_flips(0, epoch, 200)[index][:, None, None, None], images[:, :, ::-1], images)
        if chosen.shift_pixels:
            images = moved(images, epoch_moves(0, epoch, 200, chosen.shift_pixels)[index], chosen.shift_pixels)
        targets = reference.one_hot(split.labels[index], 10).astype(np.float64)
        targets = targets * (1 - chosen.label_smoothing) + chosen.label_smoothing / 10
        loss, gradients = loss_and_gradients(weights, images / 255.0, targets)
        losses.append(loss)
        rate = chosen.learning_rate_at((number + 0.5) / 20)
        for name in weights:
            weights[name], state[name] = step(weights[name], state[name], gradients[name], rate, chosen)
    return losses, weights


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({}, article_step),
        ({"nesterov": True, "learning_rate": 0.05}, sutskever_step),
        ({"weight_decay": 0.1}, sutskever_step),
        ({"schedule": "one-cycle", "learning_rate": 0.1}, sutskever_step),
        ({"label_smoothing": 0.2}, sutskever_step),
        ({"shift_pixels": 2}, sutskever_step),
        ({"flip": "always"}, sutskever_step),
        ({"flip": "always", "shift_pixels": 1}, sutskever_step),
        ({"classifier_share": 0.25}, sutskever_step),
    ],
    ids=lambda value: "-".join(value) or "article" if isinstance(value, dict) else "",
)
def test_a8_a13_twenty_steps_are_the_textbooks(
    few: Split, changes: dict[str, Any], step: Callable[..., tuple[Any, Any]]
) -> None:
    chosen = recipe(**changes)
    fitted, seen = trained(few, chosen)
    sums = np.array([(now.epoch, now.loss * 20 * (1 + (now.step - 1) % 10)) for now in seen])
    losses = [np.diff(sums[sums[:, 0] == epoch, 1], prepend=0) / 20 for epoch in (1, 2)]
    expected, weights = textbook(few, chosen, step)
    assert np.concatenate(losses) == pytest.approx(expected, rel=2e-6)
    weights["conv.weight"] = weights["conv.weight"].transpose(1, 0, 2, 3)
    for name, array in fitted.weights.items():
        assert pytest.approx(weights[name.replace("1.", ".")], rel=1e-4, abs=2e-6) == array.T, name


# Batches


def test_a11_the_articles_batches_are_the_images_by_255_in_the_epochs_order(digits: Dataset) -> None:
    preprocessing = Preprocessing.plain(digits.train.images)
    parts = list(pairs(digits.train, preprocessing, course(RECIPES["article"], digits.train, 2), 3))
    images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    order = epoch_order(3, 2, len(digits.train))
    assert [len(part) for _, part in parts] == [128] * 11 + [30]
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    expected = digits.train.images[order].astype(np.float32) / np.float32(255)
    assert images.permute(0, 2, 3, 1).numpy() == pytest.approx(expected, rel=1e-6)
    assert labels.tolist() == digits.train.labels[order].tolist()


def test_an_images_augmentation_does_not_depend_on_its_batch(digits: Dataset) -> None:
    preprocessing = Preprocessing.standardized(digits.train.images)
    made = []
    for batch in (64, 1000):
        chosen = RECIPES["default"].model_copy(update={"batch": batch, "shift_pixels": 2})
        first = course(chosen, digits.train, 1)
        images = torch.cat([images for images, _ in pairs(digits.train, preprocessing, first, 0)])
        assert not torch.equal(images, as_batch(preprocessing.normalize(digits.train.images[epoch_order(0, 1, 1438)])))
        made.append(images)
    assert torch.equal(*made)


@pytest.mark.parametrize("first", [0, 1, 7, 11, 12])
def test_batches_begin_anywhere_and_those_before_are_not_made(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    preprocessing, made = Preprocessing.plain(digits.train.images), []

    def cut(*arguments: Any) -> Any:
        made.append(len(arguments[1]))
        return gather_batch(*arguments)

    monkeypatch.setattr("convscope.training.loader.gather_batch", cut)
    chosen = RECIPES["default"].model_copy(update={"flip": "always"})
    whole = list(pairs(digits.train, preprocessing, course(chosen, digits.train, 3), 0))
    made.clear()
    rest = list(pairs(digits.train, preprocessing, course(chosen, digits.train, 3, first), 0))
    assert made == [len(labels) for _, labels in whole[first:]]
    for one, other in zip(whole[first:], rest, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("size", [(32, 32, 3), (28, 28, 1), (9, 14, 4), (2, 3, 1)])
@pytest.mark.parametrize("share", [0.625, 0.75, 0.5])
def test_scaled_images_are_pillows_and_have_the_mean_brightness(size: tuple[int, int, int], share: float) -> None:
    """Pillow's bilinear filter is as wide as the pixels that it makes, too."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, *size)).cumsum(1).cumsum(2).astype(np.float32)
    found = scaled(as_batch(images), share).permute(0, 2, 3, 1)
    rows, columns = (max(1, round(share * side)) for side in size[:2])
    assert found.shape == (20, rows, columns, size[2])
    for channel in range(size[2]):
        for image, made in zip(images[..., channel], found[..., channel], strict=True):
            expected = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
            np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4 * max(1, np.abs(image).max()))
    np.testing.assert_allclose(scaled(torch.full((2, 3, 8, 9), 0.7), share), 0.7, rtol=1e-6)
    pixels = torch.from_numpy(rng.random((300, size[2], *size[:2]), np.float32))
    assert scaled(pixels, share).mean().item() == pytest.approx(pixels.mean().item(), abs=0.01)


def test_images_of_their_own_size_are_left_alone_and_others_lie_channels_last() -> None:
    images = as_batch(np.zeros((2, 8, 8, 3), np.float32))
    assert scaled(images, 1) is images
    small = scaled(images, 0.5)
    assert small.is_contiguous(memory_format=torch.channels_last)
    assert not small.is_contiguous()


def test_images_grow_from_epoch_to_epoch(digits: Dataset) -> None:
    """Each epoch's are those without growth, made smaller; their order and their labels stay."""
    preprocessing = Preprocessing.plain(digits.train.images)
    plain = RECIPES["default"].model_copy(update={"epochs": 4, "least_steps": 0})
    growing = plain.model_copy(update={"growth": ((0.25, 0.5), (0.75, 0.75))})
    for epoch, side in ((1, 4), (2, 6), (3, 6), (4, 8)):
        small, whole = (
            list(pairs(digits.train, preprocessing, course(chosen, digits.train, epoch), 0))
            for chosen in (growing, plain)
        )
        assert {images.shape[1:] for images, _ in small} == {(1, side, side)}
        for (images, labels), (expected, expected_labels) in zip(small, whole, strict=True):
            assert torch.equal(images, scaled(expected, side / 8))
            assert torch.equal(labels, expected_labels)


def test_a_network_trains_on_images_that_grow_and_is_measured_on_whole_ones(digits: Dataset) -> None:
    sizes: list[tuple[bool, int]] = []
    model = build_model(
        parse_network("conv 16 3 pad same, batchnorm, relu, conv 16 3, batchnorm, relu, globalmax", (8, 8, 1), 10)
    )
    model.register_forward_pre_hook(lambda module, inputs: sizes.append((module.training, inputs[0].shape[-1])))
    chosen = recipe(batch=100, epochs=4, learning_rate=0.1, growth=((0.5, 0.625),))
    fitted = fit(model, digits.train, digits.test, Preprocessing.plain(digits.train.images), chosen, 0)
    epochs = [[(True, side)] * 15 + [(False, 8)] for side in (5, 5, 8, 8)]
    assert sizes == [one for epoch in epochs for one in epoch]
    assert fitted.history[-1].validation_accuracy > 0.7


# Whitening

WHITE = parse_network("whiten 2, gelu, conv 6 3, batchnorm, relu, globalmax", (8, 8, 1), 10)


def test_whitening_learns_the_patches_of_the_images_as_the_network_sees_them(digits: Dataset) -> None:
    """W' W is the inverse of the patches' second moments, and the little that keeps noise away."""
    preprocessing, model = Preprocessing.standardized(digits.train.images), build_model(WHITE)
    before = get_weights(model)
    learn_whitening(model, digits.train, preprocessing)
    seen = preprocessing.normalize(digits.train.images).astype(np.float64)[..., 0]
    patches = np.stack([seen[:, :-1, :-1], seen[:, :-1, 1:], seen[:, 1:, :-1], seen[:, 1:, 1:]], -1).reshape(-1, 4)
    kernels = get_weights(model)["whiten1.weight"].astype(np.float64).reshape(8, 4)
    assert np.array_equal(kernels[4:], -kernels[:4])
    expected = np.linalg.inv(patches.T @ patches / len(patches) + 5e-4 * np.eye(4))
    np.testing.assert_allclose(kernels[:4].T @ kernels[:4], expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    assert {name for name, values in get_weights(model).items() if (values != before[name]).any()} == {"whiten1.weight"}


def test_whitening_looks_at_images_from_first_to_last_and_at_no_more_than_fit(
    few: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = 2 * 2  # numbers in one of whiten 2
    monkeypatch.setattr(train, "WHITENED_NUMBERS", 3 * few.images[0].size * patch)
    some = few.take(np.array([0, (len(few) - 1) // 2, len(few) - 1]))
    found = []
    for split in (few, some, few.take(np.arange(3)), few.take(np.arange(2))):
        model = build_model(WHITE)
        learn_whitening(model, split, Preprocessing.plain(few.images))
        found.append(get_weights(model)["whiten1.weight"].tobytes())
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.1, "weight_decay": 0.1},
        {"optimizer": "muon", "learning_rate": 0.1, "matrix_decay": 0.1},
        {"optimizer": "muon", "learning_rate": 0.1, "fixed_norms": True, "bias_learning_rate": 1.0},
    ],
    ids=["sgd", "muon", "muon with fixed norms"],
)
def test_training_leaves_whitening_as_it_learned_and_moves_the_rest(few: Split, changes: dict[str, Any]) -> None:
    preprocessing, model, learned = Preprocessing.standardized(few.images), build_model(WHITE), build_model(WHITE)
    learn_whitening(learned, few, preprocessing)
    expected = get_weights(learned)
    seen: list[bytes] = []
    fitted = fit(
        model, few, few, preprocessing, recipe(**changes), 0,
        after_batch=lambda _: seen.append(get_weights(model)["whiten1.weight"].tobytes()),
    )  # fmt: skip
    assert set(seen) == {expected["whiten1.weight"].tobytes()}
    assert fitted.weights["whiten1.weight"].tobytes() == expected["whiten1.weight"].tobytes()
    still = {"whiten1.weight", *(["batchnorm1.weight"] if "fixed_norms" in changes else [])}
    assert {name for name, values in fitted.weights.items() if (values == expected[name]).all()} == still
    assert model.get_submodule("whiten1").weight.grad is None


# What comes out


@pytest.mark.parametrize(("select", "kept", "beside"), [("last", 4, 3), ("best", 3, 4)])
def test_the_last_or_the_best_epochs_weights_are_kept_and_the_others_beside_them(
    few: Split, monkeypatch: pytest.MonkeyPatch, select: str, kept: int, beside: int
) -> None:
    accuracies, model = iter([0.5, 0.9, 0.9, 0.2]), build_model(NETWORK)
    monkeypatch.setattr(train, "loss_and_accuracy", lambda *_: (1.0, next(accuracies)))
    after: list[bytes] = []
    fitted = fit(
        model, few, few, Preprocessing.plain(few.images), recipe(epochs=4, validation_share=0.1, select=select), 0,
        after_epoch=lambda _: after.append(bits(get_weights(model))),
    )  # fmt: skip
    assert fitted.epoch == kept
    assert [epoch.validation_accuracy for epoch in fitted.history] == [0.5, 0.9, 0.9, 0.2]
    assert bits(fitted.weights) == bits(get_weights(model)) == after[kept - 1]
    assert fitted.beside_epoch == beside
    assert bits(fitted.beside) == after[beside - 1]
    assert len(set(after)) == 4


def test_the_clock_ends_it_after_the_batch_at_hand(few: Split) -> None:
    steps: list[int] = []
    fitted = fit(
        build_model(NETWORK), few, few, Preprocessing.plain(few.images),
        recipe(epochs=4, batch=2, validation_share=0.1), 0,
        limit=1e-9, after_batch=lambda now: steps.append(now.step),
    )  # fmt: skip
    assert steps == [1]
    assert len(fitted.history) == 1


@pytest.mark.parametrize("select", ["last", "best"])
def test_where_the_last_epoch_is_the_best_nothing_else_is_beside_it(few: Split, select: str) -> None:
    fitted, _ = trained(few, recipe(epochs=1, validation_share=0.1, select=select))
    assert (fitted.epoch, fitted.beside_epoch) == (1, 1)


@pytest.mark.parametrize(
    ("patience", "epochs"), [(1, 3), (2, 6), (3, 7), (4, 8), (None, 8)]
)  # the best so far are epochs 1, 2, 4 (as good as 2) and 8
def test_training_ends_when_patience_is_lost(few: Split, patience: int | None, epochs: int) -> None:
    shares = iter([0.5, 0.9, 0.8, 0.9, 0.7, 0.8, 0.85, 0.95])
    model = build_model(parse_network("flatten", few.shape, 10))
    chosen = recipe(batch=50, epochs=8, learning_rate=0.1, patience=patience)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "loss_and_accuracy", lambda *_: (1.0, next(shares)))
        fitted = fit(model, few, few, Preprocessing.plain(few.images), chosen, 0)
    assert len(fitted.history) == epochs


def test_every_epoch_has_a_row(few: Split) -> None:
    lengths: list[int] = []
    fitted, seen = trained(few, recipe(epochs=3, schedule="one-cycle"), after_epoch=lambda h: lengths.append(len(h)))
    assert lengths == [1, 2, 3]
    rows = train.history_rows(fitted.history)
    assert [list(row) for row in rows] == [[field.name for field in fields(Epoch)]] * 3
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["train_loss"] for row in rows] == [seen[i].loss for i in (9, 19, 29)]
    assert [row["train_accuracy"] for row in rows] == [seen[i].accuracy for i in (9, 19, 29)]
    assert rows[2]["learning_rate"] == recipe(schedule="one-cycle").learning_rate_at(29.5 / 30)
    assert all(row["images_per_second"] * row["seconds"] == pytest.approx(200) for row in rows)
    assert fitted.seconds > sum(row["seconds"] for row in rows)
    assert [(now.epoch, now.epochs, now.step, now.steps) for now in seen[8:11]] == [
        (1, 3, 9, 30), (1, 3, 10, 30), (2, 3, 11, 30),
    ]  # fmt: skip
    assert seen[-1].seconds_left == 0


def test_a8_the_loss_falls_from_epoch_to_epoch(digits: Dataset) -> None:
    training, held_out = stratified_group_split(digits.train, 0.1, 0)
    fitted = fit(
        build_model(NETWORK), training, held_out, Preprocessing.plain(training.images), recipe(batch=32, epochs=10), 0
    )
    losses = [epoch.train_loss for epoch in fitted.history]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 3
    assert fitted.history[-1].validation_accuracy > 0.85


def test_measuring_is_by_hand_and_leaves_the_models_mode(digits: Dataset) -> None:
    """More images than are scored at a time; dropout must not act."""
    split, preprocessing = digits.train, Preprocessing.standardized(digits.train.images)
    model = build_model(parse_network("flatten, dropout 0.5", (8, 8, 1), 10))
    start = get_weights(model)
    logits = preprocessing.normalize(split.images).reshape(1438, 64) @ start["classifier.weight"].T
    for mode in (True, False):
        model.train(mode)
        assert logits_of(model, split.images, preprocessing) == pytest.approx(logits, rel=1e-4, abs=1e-5)
        loss, accuracy = loss_and_accuracy(model, split, preprocessing)
        assert loss == pytest.approx(reference.cross_entropy(logits, reference.one_hot(split.labels, 10)), rel=1e-5)
        assert accuracy == (logits.argmax(1) == split.labels).mean()
        assert model.training is mode


def test_dropout_acts_in_every_epoch_and_comes_from_the_seed(few: Split) -> None:
    network = parse_network("flatten, dropout 0.5", (8, 8, 1), 10)
    modes: list[bool] = []

    def losses(seed: int) -> list[float]:
        model = build_model(network).eval()  # fit sets the mode itself
        model.get_submodule("dropout1").register_forward_hook(lambda module, *_: modes.append(module.training))
        fitted = fit(model, few, few, Preprocessing.plain(few.images), recipe(batch=100), seed)
        return [epoch.train_loss for epoch in fitted.history]

    torch.manual_seed(5)
    first = losses(1)
    torch.manual_seed(6)
    assert losses(1) == first != losses(2)
    assert modes == [True, True, False] * 6  # two batches, then the measuring


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (20, r"^the loss became (nan|inf) in epoch 1, step 2: lower --learning-rate \(each tenfold step down"),
        (200, r"^the validation loss became (nan|inf) in epoch 1, step 1: lower --learning-rate"),
    ],
)
def test_a_loss_that_is_no_number_ends_the_training(few: Split, batch: int, message: str) -> None:
    with pytest.raises(ConvscopeError, match=message):
        trained(few, recipe(learning_rate=1e30, batch=batch))


# Signals


@pytest.mark.parametrize(("after", "epochs", "chosen"), [(1, 0, 0), (10, 0, 0), (11, 1, 1), (25, 2, 2)])
def test_a_stop_ends_training_after_the_batch_at_hand(few: Split, after: int, epochs: int, chosen: int) -> None:
    stop, model = Stop(), build_model(NETWORK)
    steps: list[bytes] = []
    after_epochs: list[bytes] = []

    def watch(now: Progress) -> None:
        steps.append(bits(get_weights(model)))
        stop.number = signal.SIGTERM * (now.step == after)

    fitted = fit(
        model, few, few, Preprocessing.plain(few.images), recipe(epochs=5), 0,
        after_batch=watch, after_epoch=lambda _: after_epochs.append(bits(get_weights(model))), stop=stop,
    )  # fmt: skip
    assert (len(steps), len(fitted.history), fitted.epoch) == (after, epochs, chosen)
    assert fitted.signal == signal.SIGTERM
    assert bits(fitted.weights) == (after_epochs[-1] if after_epochs else steps[-1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_acts(number: signal.Signals) -> None:
    came: list[int] = []
    before = signal.signal(number, lambda number, _: came.append(number))
    try:
        with stop_signals() as stop:
            assert stop.number == 0
            signal.raise_signal(number)
            assert (stop.number, came) == (number, [])
            signal.raise_signal(number)
            assert came == [number]
        with stop_signals():
            pass
        signal.raise_signal(number)
        assert came == [number] * 2
    finally:
        signal.signal(number, before)


def test_outside_of_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[object] = []

    def work() -> None:
        with stop_signals() as stop:
            found.extend([stop.number, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0, before]


# The same again


def test_training_is_the_same_to_the_bit_whoever_watches(few: Split) -> None:
    def run(seed: int, **options: Any) -> bytes:
        model = build_model(parse_network("conv 4 3, batchnorm, relu, flatten, dropout 0.3", (8, 8, 1), 10), seed)
        fit(model, few, few, Preprocessing.plain(few.images), recipe(shift_pixels=1), seed, **options)
        return bits(get_weights(model))

    def disturb(*_: object) -> None:
        np.random.default_rng().random()
        np.random.rand()
        math.sqrt(2)

    first = run(0)
    assert run(0, after_batch=disturb, after_epoch=disturb, stop=Stop()) == first
    assert run(1) != first


def test_a_lone_last_image_joins_the_batch_before_it() -> None:
    """Batch norm on a vector cannot work on one image: 17 images in batches of 8 are 8 and 9."""
    recipe = RECIPES["article"].model_copy(update={"batch": 8, "epochs": 1})
    split = Split(np.arange(17 * 4, dtype=np.uint8).reshape(17, 2, 2, 1), np.arange(17) % 2)
    network = parse_network("flatten, dense 3, batchnorm, relu", (2, 2, 1), 2)
    sizes: list[int] = []
    fit(
        build_model(network), split, split, Preprocessing.plain(split.images), recipe, 0,
        after_batch=lambda now: sizes.append(now.step),
    )  # fmt: skip
    assert sizes == [1, 2]
    epoch = course(recipe, split, 1)
    taken = [len(labels) for _, labels in pairs(split, Preprocessing.plain(split.images), epoch, 0)]
    assert taken == [8, 9]


def test_a_crop_of_everything_is_the_image() -> None:
    images = as_batch(np.random.default_rng(0).random((3, 8, 10, 2), np.float32))
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (3, 1))
    torch.testing.assert_close(cropped(images, whole, 1), images, rtol=0, atol=1e-5)


def test_a_crop_is_the_part_it_names() -> None:
    """Where pixels lie on pixels: the lower left quarter, made twice as large again by Pillow."""
    pixels = np.random.default_rng(0).random((1, 8, 12, 1), np.float32)
    found = cropped(as_batch(pixels), np.array([[0.5, 0, 0.5, 0.5]], np.float32), 0.5)
    np.testing.assert_allclose(found[0, 0], pixels[0, 4:, :6, 0], atol=1e-5)
    quarter = Image.fromarray(pixels[0, 4:, :6, 0])
    larger = np.asarray(quarter.resize((12, 8), Image.Resampling.BILINEAR))
    found = cropped(as_batch(pixels), np.array([[0.5, 0, 0.5, 0.5]], np.float32), 1)
    np.testing.assert_allclose(found[0, 0, 1:, :-1], larger[1:, :-1], atol=1e-5)  # its edges see what lies beside it


def test_crops_change_what_is_seen_and_nothing_else(few: Split) -> None:
    preprocessing = Preprocessing.standardized(few.images)
    plain = recipe(batch=7, epochs=2, shift_pixels=0, growth=((0.5, 0.5),), learning_rate=0.1)
    crops = epoch_crops(3, 1, len(few), 0.5)
    order = epoch_order(3, 1, len(few))
    seen = list(pairs(few, preprocessing, course(plain.model_copy(update={"crop_area": 0.5}), few, 1), 3))
    full = list(pairs(few, preprocessing, course(plain.model_copy(update={"growth": ()}), few, 1), 3))
    for k, ((part, labels), (whole, same)) in enumerate(zip(seen, full, strict=True)):
        assert torch.equal(labels, same)
        assert torch.equal(part, cropped(whole, crops[order[7 * k : 7 * k + 7]], 0.5))


@pytest.mark.parametrize(("target", "epochs"), [(0.5, 1), (0.9, 3), (0.999, 6), (None, 6)])
def test_training_ends_where_its_target_is_surely_reached(few: Split, target: float | None, epochs: int) -> None:
    shares = iter([0.6, 0.93, 0.96, 0.5, 0.99, 0.99])
    model = build_model(parse_network("flatten", few.shape, 10))
    chosen = recipe(batch=50, epochs=6, learning_rate=0.1, target=target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "loss_and_accuracy", lambda *_: (1.0, next(shares)))
        fitted = fit(model, few, few, Preprocessing.plain(few.images), chosen, 0)
    assert len(fitted.history) == epochs
