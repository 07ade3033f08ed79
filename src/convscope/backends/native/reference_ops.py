"""Activations and pools in PyTorch, for the reference implementations of the kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Pooling = tuple[str, int]  # "max", "min" or "average"; size and stride of the window

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
}
_POOLS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "max": functional.max_pool2d,
    "min": lambda x, size: -functional.max_pool2d(-x, size),
    "average": functional.avg_pool2d,
}


def activate(x: Tensor, activation: str) -> Tensor:
    """The activation of that name, or x itself for "none"."""
    return _ACTIVATIONS[activation](x)


def pool2d(x: Tensor, pool: Pooling | None) -> Tensor:
    """The pool of x (n, channels, h, w), or x itself for None; cells that fill no window are dropped."""
    return x if pool is None else _POOLS[pool[0]](x, pool[1])
