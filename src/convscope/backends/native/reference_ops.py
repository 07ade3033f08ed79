"""Activations and pools in PyTorch, for the reference implementations of the kernels."""

from __future__ import annotations

from functools import cache
from typing import cast

from torch import Tensor, nn

from convscope.backends.pytorch.modules import module_class
from convscope.network.activations import ACTIVATIONS
from convscope.network.pools import POOLS

Pooling = tuple[str, int]  # "max", "min" or "average"; size and stride of the window


@cache
def _activation(name: str) -> nn.Module:
    function = ACTIVATIONS[name]
    module: nn.Module = module_class(function.torch_module)(**function.torch_arguments)
    return module


@cache
def _pool(kind: str, size: int) -> nn.Module:
    module: nn.Module = module_class(POOLS[kind].torch_module)(size, size)
    return module


def activate(x: Tensor, activation: str) -> Tensor:
    """The activation of that name, or x itself for "none"."""
    return x if activation == "none" else cast("Tensor", _activation(activation)(x))


def pool2d(x: Tensor, pool: Pooling | None) -> Tensor:
    """The pool of x (n, channels, h, w), or x itself for None; cells that fill no window are dropped."""
    return x if pool is None else cast("Tensor", _pool(*pool)(x))
