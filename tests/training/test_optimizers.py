"""SGD against torch.optim; Muon against singular values and its update computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convscope.backends.pytorch.models import build_model
from convscope.network.build import parse_network
from convscope.training.optimizers import Optimizer, orthogonalize
from convscope.training.recipe import OptimizerConfig
from helpers.kernels import VARIANTS, needs_native, use_variant, without_native

ARCHITECTURE = "conv 4 3, batchnorm, relu, residual(conv 4 3 pad same), maxpool 2, flatten, dense 12, relu"
MUON_WEIGHTS = ["conv1.weight", "residual1.body.conv2.weight", "dense1.weight"]


def config_of(**changes: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate(
        {"learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0, **changes}
    )


def small_model() -> nn.Sequential:
    return build_model(parse_network(ARCHITECTURE, (8, 8, 1), 3))


def set_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


RATES = [0.1, 0.07, 0.2, 0.01] * 10


def torch_weights(config: OptimizerConfig) -> list[Tensor]:
    """Return the weights after 40 steps of torch.optim."""
    model = small_model()
    optimizer = torch.optim.SGD(
        model.parameters(), 1, config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov
    )
    for step, rate in enumerate(RATES):
        optimizer.param_groups[0]["lr"] = rate
        set_gradients(model, step)
        optimizer.step()
    return [weight.detach() for weight in model.parameters()]


def our_weights(config: OptimizerConfig) -> list[Tensor]:
    """Return the weights after 40 steps of `Optimizer`."""
    model = small_model()
    optimizer = Optimizer(model, config)
    for step, rate in enumerate(RATES):
        set_gradients(model, step)
        optimizer.step(rate)
        assert all(weight.grad is None for weight in model.parameters())
    return [weight.detach() for weight in model.parameters()]


SGD = pytest.mark.parametrize(
    "changes", [{}, {"nesterov": True}, {"weight_decay": 0.01}, {"nesterov": True, "weight_decay": 5e-4}], ids=str
)


@SGD
def test_sgd_without_native_kernels_forty_steps_equal_torch(changes: dict[str, Any]) -> None:
    config = config_of(**changes)
    with without_native():
        for ours, theirs in zip(our_weights(config), torch_weights(config), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@needs_native
@SGD
@pytest.mark.parametrize("variant", VARIANTS)
def test_sgd_with_native_kernels_forty_steps_equal_torch(changes: dict[str, Any], variant: str) -> None:
    config = config_of(**changes)
    with use_variant(variant):
        for ours, theirs in zip(our_weights(config), torch_weights(config), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_optimizer_weights_without_gradients_stay(name: str) -> None:
    model = small_model()
    before = [weight.detach().clone() for weight in model.parameters()]
    Optimizer(model, config_of(name=name, weight_decay=0.1)).step(0.1)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(("name", "frozen"), [("sgd", False), ("muon", False), ("muon", True)])
def test_optimizer_momenta_hold_the_state_of_every_trained_weight(name: str, frozen: bool) -> None:
    model = small_model()
    optimizer = Optimizer(model, config_of(name=name, freeze_norm_scale=frozen))
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    if frozen:
        del shapes["batchnorm1.weight"]
    assert {name: momentum.shape for name, momentum in optimizer.momenta.items()} == shapes
    assert not any(momentum.any() for momentum in optimizer.momenta.values())
    set_gradients(model, 0)
    gradients = {name: torch.as_tensor(weight.grad).clone() for name, weight in model.named_parameters()}
    optimizer.step(0.1)
    for name, momentum in optimizer.momenta.items():
        torch.testing.assert_close(momentum, gradients[name])


# Muon


@pytest.mark.parametrize("shape", [(8, 8), (32, 9), (9, 32), (100, 20), (1, 7), (7, 1), (64, 288)], ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_orthogonalize_singular_values_become_about_one_and_directions_stay(
    shape: tuple[int, int], scale: float
) -> None:
    """For a matrix whose singular values differ by a factor of 4 at most."""
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
    values = torch.linspace(1, 0.25, min(shape), dtype=torch.float64) * scale
    found = orthogonalize((left @ torch.diag(values) @ right).float()).double()
    assert found.shape == shape
    inner = left.T @ found @ right.T
    diagonal = torch.diag(inner)
    assert float(diagonal.min()) >= 0.6
    assert float(diagonal.max()) <= 1.25
    assert float((inner - torch.diag(diagonal)).abs().max()) < 1e-4


def test_orthogonalize_zeros_stay_zeros() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_muon_moves_matrices_except_the_classifier_and_sgd_moves_the_rest() -> None:
    config = config_of(
        name="muon",
        learning_rate=0.05,
        sgd_lr=0.3,
        momentum=0.6,
        weight_decay=0.01,
        muon_weight_decay=0.2,
    )
    model = small_model()
    optimizer = Optimizer(model, config)
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert [names[id(weight)] for weight, _ in optimizer.muon_weights] == MUON_WEIGHTS
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    momenta = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for step, rate in enumerate((0.05, 0.025, 0.01)):  # the schedule's: SGD's rates change in proportion
        set_gradients(model, step)
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        optimizer.step(rate)
        for name, weight in weights.items():
            if name in MUON_WEIGHTS:
                momenta[name] = 0.6 * momenta[name] + gradients[name]
                direction = orthogonalize((gradients[name] + 0.6 * momenta[name]).flatten(1))
                rows, columns = direction.shape
                direction = direction.reshape(weight.shape) * max(1, rows / columns) ** 0.5
                weights[name] = weight * (1 - rate * 0.2) - rate * direction
            else:
                momenta[name] = 0.9 * momenta[name] + gradients[name] + 0.01 * weight
                weights[name] = weight - rate * 6 * momenta[name]
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), weights[name], rtol=1e-4, atol=1e-6, msg=name)


def test_muon_network_of_one_layer_is_left_to_sgd() -> None:
    model = build_model(parse_network("flatten", (2, 2, 1), 3))
    optimizer = Optimizer(model, config_of(name="muon"))
    assert (len(optimizer.muon_weights), len(optimizer.sgd_weights)) == (0, 2)


def test_muon_norm_bias_lr_moves_biases_of_batch_norm_with_the_same_relative_decay() -> None:
    config = config_of(
        name="muon",
        learning_rate=0.05,
        sgd_lr=0.1,
        norm_bias_lr=4,
        weight_decay=0.2,
        momentum=0.6,
    )
    model = small_model()
    optimizer = Optimizer(model, config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    set_gradients(model, 0)
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    optimizer.step(0.025)  # half of the peak
    for name in ("batchnorm1.bias", "residual1.body.conv2.bias", "dense1.bias", "classifier.bias", "classifier.weight"):
        rate = 4.0 if name == "batchnorm1.bias" else 0.1
        update = gradients[name] + 0.2 * 0.1 / rate * before[name]
        torch.testing.assert_close(dict(model.named_parameters())[name].detach(), before[name] - rate / 2 * update)


def test_muon_freeze_norm_scale_keeps_batch_norm_at_one_and_the_norm_of_matrices() -> None:
    """Before each step, Muon's weights get the norm sqrt(number of filters)."""
    model = small_model()
    weights = dict(model.named_parameters())
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = Optimizer(model, config_of(name="muon", learning_rate=0.05, momentum=0.0, freeze_norm_scale=True))
    set_gradients(model, 0)
    gradient = torch.as_tensor(weights["dense1.weight"].grad).clone()
    optimizer.step(0.02)
    assert torch.equal(weights["batchnorm1.weight"], torch.ones(4))
    assert not weights["batchnorm1.weight"].requires_grad
    assert not torch.equal(weights["batchnorm1.bias"], before["batchnorm1.bias"])
    weight = before["dense1.weight"]
    expected = weight * (12**0.5 / weight.norm()) - 0.02 * orthogonalize(gradient)
    torch.testing.assert_close(weights["dense1.weight"].detach(), expected)


# Fine-tuning


@pytest.mark.parametrize("weight_decay", [0, 0.01])
def test_sgd_layer_decay_equals_torch_with_a_rate_per_layer(weight_decay: float) -> None:
    """The classifier has the full rate; a block is one layer, and layers without weights do not count."""
    config = config_of(layer_decay=0.5, nesterov=True, weight_decay=weight_decay)
    rates = {"classifier": 1, "dense1": 0.5, "residual1": 0.25, "batchnorm1": 0.125, "conv1": 0.0625}
    model = small_model()
    assert list(rates) == list(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters()))[::-1]
    groups = [
        {"params": [weight], "factor": rates[name.partition(".")[0]]} for name, weight in model.named_parameters()
    ]
    optimizer = torch.optim.SGD(groups, 1, 0.9, weight_decay=weight_decay, nesterov=True)
    for step, rate in enumerate(RATES):
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        set_gradients(model, step)
        optimizer.step()
    expected = [weight.detach() for weight in model.parameters()]
    for ours, theirs in zip(our_weights(config), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("longest", [0.1, 5, 1e6])
def test_sgd_max_gradient_norm_equals_torchs_clipping(longest: float) -> None:
    """Of all weights together; their gradients are about 30 long."""
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 1, 0.9)
    for step, rate in enumerate(RATES):
        optimizer.param_groups[0]["lr"] = rate
        set_gradients(model, step)
        nn.utils.clip_grad_norm_(model.parameters(), longest)
        optimizer.step()
    found = our_weights(config_of(max_gradient_norm=longest))
    for ours, theirs in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)


def test_sgd_max_gradient_norm_without_gradients_changes_nothing() -> None:
    model = small_model()
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer = Optimizer(model, config_of(max_gradient_norm=1.0))
    first = optimizer.weights[0]
    first.grad = torch.ones_like(first)  # the others have none
    optimizer.step(0.1)
    moved = [not torch.equal(weight, old) for weight, old in zip(model.parameters(), before, strict=True)]
    assert moved == [True, *[False] * (len(before) - 1)]
    assert (before[0] - first.detach()).norm().item() == pytest.approx(0.1, rel=1e-4)
