"""The first stage of a network in one call: convolution of images with few channels, bias, activation, pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from convscope.kernels import door
from convscope.layers import PoolKind

Function = Literal["none", "relu", "gelu", "tanh"]
Padding = tuple[int, int, int, int]  # zeros at the top, bottom, left and right
Pooling = tuple[PoolKind, int]  # what is kept of each window, and the window's size and stride

_FUNCTIONS: dict[str, int] = {"none": 0, "relu": 1, "gelu": 2, "tanh": 3}  # as in kernels.h
_KINDS: dict[str, int] = {"none": 0, "max": 1, "min": 2, "average": 3}
_ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
}
_POOL: dict[str, Callable[[Tensor, int], Tensor]] = {
    "max": functional.max_pool2d,
    "min": lambda x, size: -functional.max_pool2d(-x, size),
    "average": functional.avg_pool2d,
}


def first_stage(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: Padding = (0, 0, 0, 0),
    activation: Function = "relu",
    pool: Pooling | None = None,
) -> Tensor:
    """Cross-correlate x with weight (stride 1), add bias, activate, pool; differentiable.

    x: (n, c, h, w). weight: (filters, c, k, k). bias: (filters,). Result: (n, filters, oh, ow), channels last in
    memory, of x's dtype, or bfloat16 under autocast; oh = (h + top + bottom - k + 1) // the pool's size, ow likewise.
    The native kernel takes float32 images of 1 to 4 channels that need no gradient and windows up to 4; it multiplies
    in float32 under autocast too. All else goes to the twin.
    """
    if not _fits(x, weight, bias, padding, pool):
        return twin(x, weight, bias, padding, activation, pool)
    kind, size = ("none", 1) if pool is None or pool[1] == 1 else pool
    x = x.contiguous(memory_format=torch.channels_last)
    half = torch.is_autocast_enabled("cpu")
    plan = (padding, _FUNCTIONS[activation], _KINDS[kind], size)
    if torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad)):
        result: Tensor = _FirstStage.apply(x, weight, bias, plan, half)  # type: ignore[no-untyped-call]
        return result
    return _forward(x, weight.detach(), None if bias is None else bias.detach(), plan, half, False)[0]


def twin(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Padding, activation: Function, pool: Pooling | None
) -> Tensor:
    """What `first_stage` does, in plain torch operations."""
    top, bottom, left, right = padding
    if any(padding):
        x = functional.pad(x, (left, right, top, bottom))
    y = _ACTIVATE[activation](functional.conv2d(x, weight, bias))
    if pool is not None:
        y = _POOL[pool[0]](y, pool[1])
    return y.contiguous(memory_format=torch.channels_last)


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Padding, pool: Pooling | None) -> bool:
    if door.native is None or x.dtype != torch.float32 or x.requires_grad or x.ndim != 4 or not x.is_cpu:
        return False
    n, c, h, w = x.shape
    filters, inputs, k, across = weight.shape
    size = 1 if pool is None else pool[1]
    top, bottom, left, right = padding
    return (
        weight.dtype == torch.float32
        and weight.is_cpu
        and (bias is None or (bias.dtype == torch.float32 and bias.shape == (filters,)))
        and n > 0
        and filters > 0
        and inputs == c <= 4
        and k == across
        and 1 <= size <= 4
        and h + top + bottom - k + 1 >= size
        and w + left + right - k + 1 >= size
        and min(padding) >= 0
        and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") == torch.bfloat16)
    )


_Plan = tuple[Padding, int, int, int]  # padding, function, kind, the pool's size: as the kernel takes them


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan, half: bool, winners: bool
) -> tuple[Tensor, Tensor | None]:
    (top, bottom, left, right), _, kind, size = plan
    n, _, h, w = x.shape
    filters, _, k, _ = weight.shape
    shape = (n, filters, (h + top + bottom - k + 1) // size, (w + left + right - k + 1) // size)
    dtype = torch.bfloat16 if half else torch.float32
    y = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
    keep = winners and _KINDS["none"] < kind < _KINDS["average"]
    winner = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last) if keep else None
    assert door.native is not None
    door.native.first_stage_forward(x, weight, bias, *plan, y, winner)
    return y, winner


class _FirstStage(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan, half: bool) -> Tensor:
        free = None if bias is None else bias.detach()
        y, winner = _forward(x, weight.detach(), free, plan, half, True)
        # y is the next layer's input and kept by it anyway; the kernel looks where the slope needs it (kernels.h).
        ctx.save_for_backward(x, weight, bias, y if winner is None or plan[1] == _FUNCTIONS["tanh"] else None, winner)
        ctx.plan = plan
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, y, winner = ctx.saved_tensors
        weight = weight.detach()
        dweight = torch.empty_like(weight)
        free = None if bias is None else bias.detach()
        dbias = None if free is None else torch.empty_like(free)
        dy = dy.contiguous(memory_format=torch.channels_last)
        assert door.native is not None
        y = None if y is None else y.detach()
        door.native.first_stage_backward(x, weight, free, *ctx.plan, y, winner, dy, dweight, dbias)
        return None, dweight, dbias, None, None
