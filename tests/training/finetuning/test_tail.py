"""Training the layers behind a cut on cached maps: what changes, what does not, and that it equals the whole model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from convscope.backends.native.step import cross_entropy
from convscope.backends.pytorch.models import as_batch, build_model, get_weights
from convscope.data.dataset import Split
from convscope.network.build import parse_network
from convscope.training.callbacks import TrainResult
from convscope.training.config import TrainConfig
from convscope.training.finetuning.tail import Maps, Tail
from convscope.training.loader import Batch, batches
from convscope.training.loop import fit, predict_logits, validate
from convscope.training.recipe import OptimizerConfig, Recipe, SelectionConfig
from helpers.networks import NetworkCase, random_images, random_preprocessing, trained_model
from helpers.training import state_at, weights_bytes

CASE = NetworkCase(
    "conv 8 3 stride 2 pad same, batchnorm, relu, conv 12 3 stride 2 pad same, batchnorm, relu, globalavg, dropout 0.3",
    (16, 16, 3),
    4,
)
CUT = 3  # behind the first activation
PREPROCESSING = random_preprocessing(CASE)
IMAGES, VIEWS = 40, 3
TRAIN = Split(random_images(CASE, IMAGES), np.arange(IMAGES) % 4)
VALIDATION = Split(random_images(CASE, 20, seed=1), np.arange(20) % 4)
RECIPE = Recipe(
    batch_size=8,
    epochs=2,
    optimizer=OptimizerConfig(learning_rate=0.05, layer_decay=0.9, max_gradient_norm=1.0),
    selection=SelectionConfig(weights="last"),
)


def initial_model(architecture: str = CASE.architecture) -> nn.Sequential:
    """In training mode, with weights as if it were trained."""
    return trained_model(CASE._replace(architecture=architecture)).train()


def maps_of(model: nn.Sequential, images: NDArray[np.uint8], cut: int = CUT) -> Maps:
    """The model's maps of images, float16 (n, height, width, channels)."""
    was_training = model.training
    with torch.inference_mode():
        maps = model.eval()[:cut](as_batch(PREPROCESSING.normalize(images)))
    model.train(was_training)
    rounded: Maps = maps.permute(0, 2, 3, 1).numpy().astype(np.float16)
    return rounded


def tail_of(model: nn.Sequential, cut: int = CUT) -> Tail:
    """Views: the images as they are, flipped left to right, and upside down."""
    views = TRAIN.images, TRAIN.images[:, :, ::-1], TRAIN.images[:, ::-1]
    return Tail(cut, tuple(maps_of(model, view, cut) for view in views), maps_of(model, VALIDATION.images, cut))


def config_of(tail: Tail | None, **changes: Any) -> TrainConfig:
    return TrainConfig(PREPROCESSING, RECIPE.override(**changes), tail=tail)


def train_tail(seed: int = 0, cut: int = CUT, **changes: Any) -> tuple[nn.Sequential, TrainResult]:
    model = initial_model()
    config = TrainConfig(PREPROCESSING, RECIPE.override(**changes), seed, tail=tail_of(model, cut))
    return model, fit(model, TRAIN, VALIDATION, config)


def epoch_batches(config: TrainConfig, epoch: int, first: int = 0) -> list[Batch]:
    return list(batches(TRAIN, config, state_at(config.recipe, IMAGES, epoch, first)))


# Training


@pytest.mark.parametrize("cut", [1, 2, CUT, 4, 6])
def test_fit_with_tail_changes_only_the_layers_behind_the_cut(cut: int) -> None:
    before = get_weights(initial_model())
    model, result = train_tail(cut=cut)
    frozen = {layer.name for layer in CASE.network.layers[:cut]}
    for name, array in get_weights(model).items():
        unchanged = array.tobytes() == before[name].tobytes()
        assert unchanged == (name.partition(".")[0] in frozen), name
        assert array.tobytes() == result.weights[name].tobytes()
    assert [epoch.epoch for epoch in result.history] == [1, 2]


def test_fit_with_tail_learns() -> None:
    _, result = train_tail(epochs=30, layer_decay=1)
    losses = [epoch.train_loss for epoch in result.history]
    assert losses[-1] < 0.8 * losses[0]


def test_fit_with_tail_same_seed_gives_identical_weights() -> None:
    first, again, other = (weights_bytes(train_tail(seed)[1].weights) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_fit_with_tail_state_of_torch_and_frozen_mode_do_not_matter() -> None:
    """The model comes in evaluation mode and from another random state; dropout and batch norm train all the same."""
    first = weights_bytes(train_tail()[1].weights)
    torch.manual_seed(99)
    model = initial_model().eval()
    result = fit(model, TRAIN, VALIDATION, config_of(tail_of(model)))
    assert weights_bytes(result.weights) == first


def gradients(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: weight.grad.numpy() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("cut", [1, CUT, 6])
def test_tail_gradients_equal_those_of_the_whole_model(cut: int) -> None:
    """If its maps are rounded to float16, too; the layers before the cut are in evaluation mode, none drops values."""
    architecture = CASE.architecture.replace(", dropout 0.3", "")
    whole, model = initial_model(architecture), initial_model(architecture)
    for layer in list(whole)[:cut]:
        layer.eval()
    labels = torch.tensor(TRAIN.labels)
    inputs = as_batch(PREPROCESSING.normalize(TRAIN.images))
    maps = whole[:cut](inputs).half().float()
    cross_entropy(whole[cut:](maps), labels)[0].backward()  # type: ignore[no-untyped-call]
    tail = tail_of(model, cut)
    plain = np.zeros(IMAGES, np.int64)
    logits = tail.layers_of(model)(tail.batch(np.arange(IMAGES), plain))
    cross_entropy(logits, labels)[0].backward()  # type: ignore[no-untyped-call]
    expected, found = gradients(whole), gradients(model)
    behind = {layer.name for layer in CASE.network.layers[cut:]}
    assert set(found) == {name for name in expected if name.partition(".")[0] in behind}
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_tail_layers_share_their_weights_with_the_model() -> None:
    model = initial_model()
    layers = tail_of(model).layers_of(model)
    ours = dict(model.named_parameters())
    assert all(weight is ours[name] for name, weight in layers.named_parameters())
    assert [name for name, _ in layers.named_children()] == [name for name, _ in model.named_children()][CUT:]


def test_fit_with_tail_drops_values_and_counts_batches() -> None:
    """Dropout and batch norm behind the cut are in training mode, those before it are not run."""
    with_dropout = train_tail()[1].weights
    model = initial_model(CASE.architecture.replace("0.3", "0"))
    without = fit(model, TRAIN, VALIDATION, config_of(tail_of(model))).weights
    assert not np.array_equal(with_dropout["classifier.weight"], without["classifier.weight"])
    assert with_dropout["batchnorm2.num_batches_tracked"] == 2 * IMAGES // 8
    assert with_dropout["batchnorm1.num_batches_tracked"] == 0


# Validation


def test_tail_predict_logits_equal_those_of_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.training.finetuning.tail.EVALUATION_BATCH", 8)
    model = initial_model()
    expected = predict_logits(model, VALIDATION.images, PREPROCESSING)
    found = tail_of(model).predict_logits(model)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("mode", [True, False])
def test_tail_predict_logits_restores_the_mode(mode: bool) -> None:
    model = initial_model().train(mode)
    tail_of(model).predict_logits(model)
    assert all(module.training == mode for module in model.modules())


def test_validate_with_tail_measures_the_validation_maps() -> None:
    model = initial_model()
    measured = validate(model, VALIDATION, config_of(tail_of(model)))
    expected = validate(model, VALIDATION, config_of(None))
    assert measured[:2] == pytest.approx(expected[:2], rel=5e-3)
    blank = replace(tail_of(model), validation=np.zeros_like(tail_of(model).validation))
    assert validate(model, VALIDATION, config_of(blank))[0] != pytest.approx(expected[0], rel=5e-3)


# Batches


def test_tail_batch_takes_each_image_in_its_view() -> None:
    tail = tail_of(initial_model())
    images, views = np.array([5, 0, 5]), np.array([2, 1, 0])
    found = tail.batch(images, views)
    assert found.dtype == torch.float32
    for row, image, view in zip(found, images, views, strict=True):
        np.testing.assert_array_equal(row.permute(1, 2, 0).numpy(), tail.views[view][image].astype(np.float32))


def numbered_tail(views: int = VIEWS) -> Tail:
    """Maps that say which image and view they are: the two values of their only pixel."""
    images = np.arange(IMAGES)
    numbered = [np.stack([images, np.full(IMAGES, view)], 1).astype(np.float16) for view in range(views)]
    return Tail(1, tuple(maps[:, None, None] for maps in numbered), numbered[0][:, None, None])


def drawn(config: TrainConfig, epoch: int, first: int = 0) -> list[tuple[int, int]]:
    """Image and view of each row that an epoch shows."""
    found = torch.cat([batch.images[:, :, 0, 0] for batch in epoch_batches(config, epoch, first)])
    return [(int(image), int(view)) for image, view in found.tolist()]


def test_batches_with_tail_show_each_image_once_in_a_random_view() -> None:
    shown = drawn(config_of(numbered_tail()), 1)
    assert sorted(image for image, _ in shown) == list(range(IMAGES))
    counts = np.bincount([view for _, view in shown], minlength=VIEWS)
    assert counts.min() >= IMAGES / VIEWS / 2
    labels = torch.cat([batch.labels for batch in epoch_batches(config_of(numbered_tail()), 1)])
    assert labels.tolist() == [TRAIN.labels[image] for image, _ in shown]


def test_batches_with_tail_are_a_pure_function_of_seed_and_epoch() -> None:
    """Nor do batch size, the first batch and what was drawn before matter to the view of an image."""
    tail = numbered_tail()
    config = config_of(tail)
    first = drawn(config, 1)
    assert drawn(config, 2) != first
    assert dict(drawn(config, 2)) != dict(first)
    assert drawn(config, 1) == first
    assert drawn(config, 1, first=3) == first[3 * 8 :]
    assert drawn(config_of(tail, batch_size=40), 1) == first
    assert dict(drawn(TrainConfig(PREPROCESSING, RECIPE, seed=1, tail=tail), 1)) != dict(first)
    continued = TrainConfig(PREPROCESSING, RECIPE, initial_epoch=1, tail=tail)
    state = state_at(RECIPE, IMAGES, 1, initial_epoch=1)
    shown = torch.cat([batch.images[:, :, 0, 0] for batch in batches(TRAIN, continued, state)])
    assert [(int(image), int(view)) for image, view in shown.tolist()] == drawn(config, 2)


def test_batches_with_tail_balanced_an_image_that_comes_twice_has_views_of_its_own() -> None:
    labels = np.array([0] * 37 + [1, 2, 3])
    split = Split(TRAIN.images, labels)
    config = config_of(numbered_tail(), class_balance=1)
    state = state_at(config.recipe, IMAGES, 1)
    shown = torch.cat([batch.images[:, :, 0, 0] for batch in batches(split, config, state)]).tolist()
    assert len(shown) == IMAGES
    assert {view for image, view in shown if image == 39} == {0, 1, 2}


def test_batches_with_tail_are_not_augmented_or_mixed() -> None:
    """The views are; crops, colors and CutMix work on images."""
    config = config_of(numbered_tail(1), cutmix=1, cutmix_until=1, color_jitter=0.5, min_crop_area=0.3)
    found = epoch_batches(config, 1)
    assert {batch.lam for batch in found} == {1}
    assert sorted(drawn(config, 1)) == [(image, 0) for image in range(IMAGES)]


# No epochs


def test_fit_without_epochs_trains_nothing_and_returns_the_initial_weights() -> None:
    network = parse_network("conv 4 3, batchnorm, relu, flatten", (16, 16, 3), 4)
    model = build_model(network, seed=3)
    before = weights_bytes(get_weights(model))
    result = fit(model, TRAIN, VALIDATION, config_of(None, epochs=0))
    assert (result.history, result.epoch, result.best_epoch, result.last_epoch) == ([], 0, 0, 0)
    assert weights_bytes(result.weights) == weights_bytes(get_weights(model)) == before
