"""Stochastic gradient descent against torch.optim, Muon against singular values and its recipe by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convscope.backends.pytorch.models import build_model
from convscope.network.build import parse_network
from convscope.training.optimizers import Optimizer, orthogonalized
from convscope.training.recipes import Recipe
from helpers.kernels import VARIANTS, needs_native, use_variant, without_native

LINE = "conv 4 3, batchnorm, relu, residual(conv 4 3 pad same), maxpool 2, flatten, dense 12, relu"


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "test", "learning_rate": 0.1, "momentum": 0.9, "batch_size": 4, "epochs": 1, **changes}
    )


def a_model() -> nn.Sequential:
    return build_model(parse_network(LINE, (8, 8, 1), 3))


def set_gradients(model: nn.Module, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=draw)


RATES = [0.1, 0.07, 0.2, 0.01] * 10


def by_torch(chosen: Recipe) -> list[Tensor]:
    model = a_model()
    optimizer = torch.optim.SGD(
        model.parameters(),
        1,
        chosen.optimizer.momentum,
        weight_decay=chosen.optimizer.weight_decay,
        nesterov=chosen.optimizer.nesterov,
    )
    for step, rate in enumerate(RATES):
        optimizer.param_groups[0]["lr"] = rate
        set_gradients(model, step)
        optimizer.step()
    return [weight.detach() for weight in model.parameters()]


def by_ours(chosen: Recipe) -> list[Tensor]:
    model = a_model()
    optimizer = Optimizer(model, chosen)
    for step, rate in enumerate(RATES):
        set_gradients(model, step)
        optimizer.step(rate)
        assert all(weight.grad is None for weight in model.parameters())
    return [weight.detach() for weight in model.parameters()]


SGD = pytest.mark.parametrize(
    "changes", [{}, {"nesterov": True}, {"weight_decay": 0.01}, {"nesterov": True, "weight_decay": 5e-4}], ids=str
)


@SGD
def test_forty_steps_are_torch_optims(changes: dict[str, Any]) -> None:
    chosen = recipe(**changes)
    with without_native():
        for ours, theirs in zip(by_ours(chosen), by_torch(chosen), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@needs_native
@SGD
@pytest.mark.parametrize("variant", VARIANTS)
def test_forty_steps_of_the_kernel_are_torch_optims(changes: dict[str, Any], variant: str) -> None:
    chosen = recipe(**changes)
    with use_variant(variant):
        for ours, theirs in zip(by_ours(chosen), by_torch(chosen), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_has_no_gradient_stays() -> None:
    for optimizer in ("sgd", "muon"):
        model = a_model()
        before = [weight.detach().clone() for weight in model.parameters()]
        Optimizer(model, recipe(optimizer=optimizer, weight_decay=0.1)).step(0.1)
        assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


# Muon


@pytest.mark.parametrize("shape", [(8, 8), (32, 9), (9, 32), (100, 20), (1, 7), (7, 1), (64, 288)], ids=str)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int], size: float) -> None:
    """Of a matrix whose singular values differ by a factor of 4 at most."""
    draw = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=draw, dtype=torch.float64), full_matrices=False)
    values = torch.linspace(1, 0.25, min(shape), dtype=torch.float64) * size
    found = orthogonalized((left @ torch.diag(values) @ right).float()).double()
    assert found.shape == shape
    inside = left.T @ found @ right.T
    diagonal = torch.diag(inside)
    assert float(diagonal.min()) >= 0.6
    assert float(diagonal.max()) <= 1.25
    assert float((inside - torch.diag(diagonal)).abs().max()) < 1e-4


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert torch.equal(orthogonalized(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_muon_moves_matrices_but_for_the_classifier_and_sgd_the_rest() -> None:
    chosen = recipe(
        optimizer="muon", learning_rate=0.05, rest_learning_rate=0.3, momentum=0.6, weight_decay=0.01, matrix_decay=0.2
    )
    model = a_model()
    optimizer = Optimizer(model, chosen)
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert [names[id(weight)] for weight, _ in optimizer.matrices] == [
        "conv1.weight", "residual1.body.conv2.weight", "dense1.weight",
    ]  # fmt: skip
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    momenta = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for step, rate in enumerate((0.05, 0.025, 0.01)):  # the schedule's: the rest moves in proportion
        set_gradients(model, step)
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        optimizer.step(rate)
        for name, weight in weights.items():
            if name in {"conv1.weight", "residual1.body.conv2.weight", "dense1.weight"}:
                momenta[name] = 0.6 * momenta[name] + gradients[name]
                direction = orthogonalized((gradients[name] + 0.6 * momenta[name]).flatten(1))
                rows, columns = direction.shape
                direction = direction.reshape(weight.shape) * max(1, rows / columns) ** 0.5
                weights[name] = weight * (1 - rate * 0.2) - rate * direction
            else:
                momenta[name] = 0.9 * momenta[name] + gradients[name] + 0.01 * weight
                weights[name] = weight - rate * 6 * momenta[name]
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), weights[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_network_of_one_layer_has_no_matrix_to_move() -> None:
    model = build_model(parse_network("flatten", (2, 2, 1), 3))
    optimizer = Optimizer(model, recipe(optimizer="muon"))
    assert (len(optimizer.matrices), len(optimizer.others)) == (0, 2)


def test_biases_of_batch_norm_move_at_a_rate_of_their_own() -> None:
    """And lose the same share of themselves in a step as the rest."""
    chosen = recipe(
        optimizer="muon",
        learning_rate=0.05,
        rest_learning_rate=0.1,
        bias_learning_rate=4,
        weight_decay=0.2,
        momentum=0.6,
    )
    model = a_model()
    optimizer = Optimizer(model, chosen)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    set_gradients(model, 0)
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    optimizer.step(0.025)  # half of the highest rate
    for name in ("batchnorm1.bias", "residual1.body.conv2.bias", "dense1.bias", "classifier.bias", "classifier.weight"):
        rate = 4.0 if name == "batchnorm1.bias" else 0.1
        lost = gradients[name] + 0.2 * 0.1 / rate * before[name]
        torch.testing.assert_close(dict(model.named_parameters())[name].detach(), before[name] - rate / 2 * lost)


def test_fixed_norms_keep_muons_matrices_at_the_root_of_their_filters_and_batch_norm_at_one() -> None:
    model = a_model()
    weights = dict(model.named_parameters())
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = Optimizer(model, recipe(optimizer="muon", learning_rate=0.05, momentum=0.0, fixed_norms=True))
    set_gradients(model, 0)
    gradient = torch.as_tensor(weights["dense1.weight"].grad).clone()
    optimizer.step(0.02)
    assert torch.equal(weights["batchnorm1.weight"], torch.ones(4))
    assert not weights["batchnorm1.weight"].requires_grad
    assert not torch.equal(weights["batchnorm1.bias"], before["batchnorm1.bias"])
    weight = before["dense1.weight"]
    wanted = weight * (12**0.5 / weight.norm()) - 0.02 * orthogonalized(gradient)
    torch.testing.assert_close(weights["dense1.weight"].detach(), wanted)
