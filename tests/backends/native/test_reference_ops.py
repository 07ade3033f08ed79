"""Activations and pools of the reference implementations against their definitions in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convscope import reference
from convscope.backends.native import backend
from convscope.backends.native.reference_ops import activate, pool2d
from convscope.network.activations import ACTIVATIONS
from convscope.network.pools import POOLS
from helpers.kernels import needs_native

X = torch.linspace(-4, 4, 96, dtype=torch.float64).reshape(2, 2, 4, 6).sin() * 4


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activate_matches_table(name: str) -> None:
    np.testing.assert_allclose(activate(X, name).numpy(), ACTIVATIONS[name].forward(X.numpy()), atol=1e-12)


def test_activate_none_returns_input() -> None:
    assert activate(X, "none") is X


@pytest.mark.parametrize("kind", POOLS)
def test_pool2d_matches_textbook(kind: str) -> None:
    expected = reference.pool(X.permute(0, 2, 3, 1).numpy(), 2, kind=POOLS[kind].kind)
    np.testing.assert_allclose(pool2d(X, (kind, 2)).permute(0, 2, 3, 1).numpy(), expected, atol=1e-12)


def test_pool2d_none_returns_input() -> None:
    assert pool2d(X, None) is X


@needs_native
def test_native_names_are_those_of_the_tables() -> None:
    assert backend.native is not None
    assert {*backend.native.ACTIVATIONS} <= {"none", *ACTIVATIONS}
    assert {*backend.native.POOLS} == {"none", *POOLS}
