"""The tables of activations and pools against PyTorch and finite differences."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from convscope import reference
from convscope.backends.pytorch.modules import module_class
from convscope.network.activations import ACTIVATIONS
from convscope.network.keywords import KEYWORDS
from convscope.network.pools import POOLS, PoolKind
from convscope.reference import Floats

X = np.arange(-7, 7, 0.01) + 0.005  # without whole numbers, where some have no derivative


def torch_function(name: str) -> nn.Module:
    function = ACTIVATIONS[name]
    module: nn.Module = getattr(nn, function.torch_module)(**function.torch_arguments)
    return module


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_forward_and_derivative_equal_torch(name: str) -> None:
    x = torch.from_numpy(X).requires_grad_()
    function = ACTIVATIONS[name]
    y = module_class(function.torch_module)(**function.torch_arguments)(x)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(function.forward(X), y.detach().numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(function.forward(X), torch_function(name)(torch.from_numpy(X)), rtol=0, atol=1e-14)
    np.testing.assert_allclose(ACTIVATIONS[name].derivative(X), x.grad.numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_derivative_equals_finite_differences(name: str) -> None:
    forward, h = ACTIVATIONS[name].forward, 1e-6
    slopes = (forward(X + h) - forward(X - h)) / (2 * h)
    np.testing.assert_allclose(ACTIVATIONS[name].derivative(X), slopes, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_keeps_shape_and_dtype(name: str, dtype: type) -> None:
    arrays: tuple[Floats, ...] = np.zeros((2, 3), dtype), np.array(1, dtype)
    for x in arrays:
        for y in (ACTIVATIONS[name].forward(x), ACTIVATIONS[name].derivative(x)):
            assert np.shape(y) == x.shape
            assert np.asarray(y).dtype == x.dtype


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_initialization_is_he_if_only_negative_values_are_cut_off(name: str) -> None:
    low, high = ACTIVATIONS[name].forward(np.array([-10.0, 10.0]))
    assert ACTIVATIONS[name].initialization == ("he" if abs(low) < 0.5 and high > 1 else "glorot")


def test_activations_are_keywords() -> None:
    assert ACTIVATIONS.keys() <= KEYWORDS.keys()


def test_pools_have_all_kinds_and_the_functions_of_the_reference() -> None:
    assert list(POOLS) == list(get_args(PoolKind)) == list(reference.POOL_FUNCTIONS)
    assert all(POOLS[kind].kind == kind for kind in POOLS)
    assert {pool.keyword for pool in POOLS.values()} <= KEYWORDS.keys()
