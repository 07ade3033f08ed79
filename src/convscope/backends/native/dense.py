"""The fully connected layer with its bias and ReLU in one kernel, forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from convscope.backends.native import backend

FLOATS = (torch.float32, torch.bfloat16)


def dense(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False, bf16: bool = False) -> Tensor:
    """`x weight^T + bias`, then ReLU if asked for: float32 (n, units), the same bits for any number of threads.

    x is float32 or bfloat16 (n, inputs), weight float32 (units, inputs), bias float32 (units,). With `bf16` the
    operands of the three products (values, gradient of x, gradient of weight) are rounded to bfloat16; sums stay
    float32. Gradients come once: what is to be differentiated twice runs as the twin.

    >>> dense(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [-5.0, 0.0]]), torch.ones(2), relu=True)
    tensor([[12.,  0.]])
    """
    if backend.native is None or not _suits(x, weight, bias):
        return dense_ref(x, weight, bias, relu, bf16)
    result: Tensor = _Dense.apply(x.contiguous(), weight, bias, relu, bf16)  # type: ignore[no-untyped-call]
    return result


def times_transposed(a: Tensor, b: Tensor) -> Tensor:
    """a b^T: float32 (n, units) of float32 (n, inputs) and (units, inputs), contiguous, without gradients."""
    if backend.native is None or not _are_floats(a, b):
        return a @ b.T
    (n, inputs), units = a.shape, b.shape[0]
    y, bias = _floats(n, units), _floats(units).zero_()
    addresses = a.data_ptr(), False, b.data_ptr(), bias.data_ptr(), y.data_ptr()
    backend.native.dense_forward(*addresses, n, inputs, units, False, False)
    return y


def times(a: Tensor, b: Tensor) -> Tensor:
    """a b: float32 (n, inputs) of float32 (n, units) and (units, inputs), contiguous, without gradients."""
    if backend.native is None or not _are_floats(a, b):
        return a @ b
    (n, units), inputs = a.shape, b.shape[1]
    y = _floats(n, inputs)
    addresses = y.data_ptr(), False, b.data_ptr(), 0, a.data_ptr(), y.data_ptr(), 0, 0
    backend.native.dense_backward(*addresses, n, inputs, units, False)
    return y


def dense_ref(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False, bf16: bool = False) -> Tensor:
    """What `dense` computes, in torch's own operations."""
    with torch.autocast("cpu", enabled=False):
        if bf16:
            x, weight = x.bfloat16(), weight.bfloat16()
        y = functional.linear(x.to(bias.dtype), weight.to(bias.dtype), bias)
        return functional.relu(y) if relu else y


def _suits(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    return (
        x.dtype in FLOATS
        and weight.dtype is torch.float32
        and bias.dtype is torch.float32
        and x.dim() == 2
        and weight.shape[1] == x.shape[1]
        and bias.shape == weight.shape[:1]
        and x.device.type == weight.device.type == bias.device.type == "cpu"
        and weight.is_contiguous()
        and bias.is_contiguous()
        and x.numel() > 0
        and weight.shape[0] > 0
    )


def _are_floats(a: Tensor, b: Tensor) -> bool:
    return all(m.dtype is torch.float32 and m.is_cpu and m.is_contiguous() and m.numel() for m in (a, b))


def _floats(*shape: int) -> Tensor:
    """Memory for a kernel's result, whatever torch's default type and device are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool, bf16: bool) -> Tensor:
        assert backend.native is not None
        n, inputs = x.shape
        units = weight.shape[0]
        y = _floats(n, units)
        wide = x.dtype is torch.float32
        addresses = x.data_ptr(), not wide, weight.data_ptr(), bias.data_ptr(), y.data_ptr()
        backend.native.dense_forward(*addresses, n, inputs, units, relu, bf16)
        ctx.save_for_backward(x, weight, y if relu else None)
        ctx.bf16 = bf16
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        assert backend.native is not None
        x, weight, y = ctx.saved_tensors
        gradient = gradient.contiguous()
        n, inputs = x.shape
        units = weight.shape[0]
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        dx = torch.empty_like(x) if for_x else None
        dweight = _floats(units, inputs) if for_weight else None
        dbias = _floats(units) if for_bias else None
        sources = x.data_ptr(), x.dtype is torch.bfloat16, weight.data_ptr(), backend.address(y), gradient.data_ptr()
        results = backend.address(dx), backend.address(dweight), backend.address(dbias)
        backend.native.dense_backward(*sources, *results, n, inputs, units, ctx.bf16)
        return dx, dweight, dbias, None, None
