"""Activations and pools in PyTorch, for the reference implementations of the kernels."""

from __future__ import annotations

from torch import Tensor

from convscope.backends.pytorch.modules import module_class
from convscope.network.activations import ACTIVATIONS
from convscope.network.pools import POOLS

Pooling = tuple[str, int]  # a kind in `network.pools.POOLS`; size and stride of the window


def activate(x: Tensor, activation: str) -> Tensor:
    """f(x) of an activation in `network.activations.ACTIVATIONS`, or x itself for "none"."""
    if activation == "none":
        return x
    function = ACTIVATIONS[activation]
    y: Tensor = module_class(function.torch_module)(**function.torch_arguments)(x)
    return y


def pool2d(x: Tensor, pool: Pooling | None) -> Tensor:
    """The pool of x (n, channels, h, w), or x itself for None; cells that fill no window are dropped."""
    if pool is None:
        return x
    kind, size = pool
    y: Tensor = module_class(POOLS[kind].torch_module)(size, size)(x)
    return y
