"""The first stage of a network in one call: convolution of images with few channels, bias, activation, pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from convscope.backends.native import backend
from convscope.backends.native.backend import address
from convscope.network.layers import PoolKind

Function = Literal["none", "relu", "gelu", "tanh"]
Padding = tuple[int, int, int, int]  # zeros at the top, bottom, left and right
Pooling = tuple[PoolKind, int]  # what is kept of each window, and the window's size and stride

MAX_POOL_SIZE = 4
_FUNCTIONS: dict[str, int] = {"none": 0, "relu": 1, "gelu": 2, "tanh": 3}  # as in kinds.h
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


def conv_act_pool(
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
    in float32 under autocast too. All else goes to the reference.
    """
    shape = _shape(x, weight, bias, padding, activation, pool)
    if shape is None:
        return conv_act_pool_ref(x, weight, bias, padding, activation, pool)
    if not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    if torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad)):
        result: Tensor = _ConvActPool.apply(x, weight, bias, shape)  # type: ignore[no-untyped-call]
        return result
    return _forward(x, weight, bias, shape, False)[0]


def conv_act_pool_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Padding, activation: Function, pool: Pooling | None
) -> Tensor:
    """What `conv_act_pool` does, in plain torch operations."""
    top, bottom, left, right = padding
    if any(padding):
        x = functional.pad(x, (left, right, top, bottom))
    y = _ACTIVATE[activation](functional.conv2d(x, weight, bias))
    if pool is not None:
        y = _POOL[pool[0]](y, pool[1])
    return y.contiguous(memory_format=torch.channels_last)


# n, h, w, c, filters, k, the padding, function, kind, the pool's size, bf16: as the kernel takes them
_Shape = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, bool]


def _shape(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Padding, activation: Function, pool: Pooling | None
) -> _Shape | None:
    """The numbers for the kernel, which checks nothing itself, or None where it cannot do this."""
    if backend.native is None or x.dtype != torch.float32 or x.requires_grad or x.ndim != 4 or not x.is_cpu:
        return None
    n, c, h, w = x.shape
    filters, inputs, k, across = weight.shape
    kind, size = ("none", 1) if pool is None or pool[1] == 1 else pool
    top, bottom, left, right = padding
    bf16 = torch.is_autocast_enabled("cpu")
    fits = (
        weight.dtype == torch.float32
        and weight.is_cpu
        and (bias is None or _is_bias(bias, filters))
        and n > 0
        and filters > 0
        and 0 < inputs == c <= 4
        and 0 < k == across
        and 1 <= size <= MAX_POOL_SIZE
        and h + top + bottom - k + 1 >= size
        and w + left + right - k + 1 >= size
        and min(padding) >= 0
        and not (bf16 and torch.get_autocast_dtype("cpu") != torch.bfloat16)
    )
    if not fits:
        return None
    return n, h, w, c, filters, k, *padding, _FUNCTIONS[activation], _KINDS[kind], size, bf16


def _is_bias(bias: Tensor, filters: int) -> bool:
    return bias.dtype == torch.float32 and bias.is_cpu and bias.shape == (filters,) and bias.is_contiguous()


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, shape: _Shape, argmaxes: bool
) -> tuple[Tensor, Tensor | None]:
    n, h, w, _, filters, k, top, bottom, left, right, _, kind, size, bf16 = shape
    out = n, filters, (h + top + bottom - k + 1) // size, (w + left + right - k + 1) // size
    y = _maps(out, torch.bfloat16 if bf16 else torch.float32)
    argmax = _maps(out, torch.uint8) if argmaxes and _KINDS["none"] < kind < _KINDS["average"] else None
    assert backend.native is not None
    backend.native.first_stage_forward(
        *shape,
        x.data_ptr(),
        weight.data_ptr(),
        *weight.stride(),
        address(bias),
        y.data_ptr(),
        address(argmax),
    )
    return y, argmax


class _ConvActPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, shape: _Shape) -> Tensor:
        y, argmax = _forward(x, weight, bias, shape, True)
        # y is the next layer's input and kept by it anyway; the kernel looks where the slope needs it (reads_output).
        function = shape[10]
        ctx.save_for_backward(x, weight, bias, y if argmax is None or function == _FUNCTIONS["tanh"] else None, argmax)
        ctx.shape = shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, y, argmax = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        dweight, dbias = torch.empty_like(weight), None if bias is None else torch.empty_like(bias)
        assert backend.native is not None
        backend.native.first_stage_backward(
            *ctx.shape, x.data_ptr(), weight.data_ptr(), *weight.stride(), address(bias), address(y), address(argmax),
            dy.data_ptr(), dweight.data_ptr(), *dweight.stride(), address(dbias)
        )  # fmt: skip
        return None, dweight, dbias, None


def _maps(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=torch.channels_last)
