"""The fully connected layer in one kernel: product, bias and ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from convscope.backends.native import backend
from convscope.backends.native.backend import address

if TYPE_CHECKING:
    from convscope_native._kernels import Dense

FLOATS = (torch.float32, torch.bfloat16)


def dense(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False, bf16: bool = False) -> Tensor:
    """Compute `x weight^T + bias`, then ReLU if requested; bit-identical for any number of threads.

    >>> dense(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [-5.0, 0.0]]), torch.ones(2), relu=True)
    tensor([[12.,  0.]])

    Args:
        x: (n, inputs), float32 or bfloat16 for the native kernel.
        weight: (units, inputs), float32.
        bias: (units,), float32.
        relu: Apply ReLU.
        bf16: Round the operands of the three products (values, gradient of x, gradient of weight) to bfloat16; sums
            stay float32.

    Returns:
        (n, units), float32. It is differentiable once; `dense_ref` is differentiable twice.
    """
    if backend.native is None or not _is_supported(x, weight, bias):
        return dense_ref(x, weight, bias, relu, bf16)
    result: Tensor = _Dense.apply(x.contiguous(), weight, bias, relu, bf16)  # type: ignore[no-untyped-call]
    return result


def dense_ref(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False, bf16: bool = False) -> Tensor:
    """`dense` in PyTorch operations."""
    with torch.autocast("cpu", enabled=False):
        if bf16:
            x, weight = x.bfloat16(), weight.bfloat16()
        y = functional.linear(x.to(bias.dtype), weight.to(bias.dtype), bias)
        return functional.relu(y) if relu else y


def matmul_transposed(a: Tensor, b: Tensor) -> Tensor:
    """a b^T of float32 matrices (n, inputs) and (units, inputs): (n, units), without gradients."""
    if backend.native is None or not _are_matrices(a, b):
        return a @ b.T
    y, zeros = _new_floats(a.shape[0], b.shape[0]), _new_floats(b.shape[0]).zero_()
    job = _new_job(a, b)
    job.bias, job.y = zeros.data_ptr(), y.data_ptr()
    backend.native.dense_forward(job)
    return y


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a b of float32 matrices (n, units) and (units, inputs): (n, inputs), without gradients."""
    if backend.native is None or not _are_matrices(a, b):
        return a @ b
    y = _new_floats(a.shape[0], b.shape[1])
    job = _new_job(y, b)
    job.dy, job.dx = a.data_ptr(), y.data_ptr()
    backend.native.dense_backward(job)
    return y


def _is_supported(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
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


def _are_matrices(a: Tensor, b: Tensor) -> bool:
    return all(m.dtype is torch.float32 and m.is_cpu and m.is_contiguous() and m.numel() for m in (a, b))


def _new_job(x: Tensor, weight: Tensor) -> Dense:
    assert backend.native is not None
    job: Dense = backend.native.Dense()
    job.n, job.inputs = x.shape
    job.units = weight.shape[0]
    job.x, job.x_is_bf16, job.weight = x.data_ptr(), x.dtype is torch.bfloat16, weight.data_ptr()
    return job


def _new_floats(*shape: int) -> Tensor:
    """Uninitialized float32 memory on the CPU, whatever PyTorch's default type and device are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool, bf16: bool) -> Tensor:
        assert backend.native is not None
        job = _new_job(x, weight)
        y = _new_floats(job.n, job.units)
        job.relu, job.bf16 = relu, bf16
        job.bias, job.y = bias.data_ptr(), y.data_ptr()
        backend.native.dense_forward(job)
        ctx.save_for_backward(x, weight, y if relu else None)
        ctx.job = job
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        assert backend.native is not None
        x, weight, y = ctx.saved_tensors
        dy = dy.contiguous()
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        job: Dense = ctx.job
        dx = torch.empty_like(x) if wants_x else None
        dweight = _new_floats(job.units, job.inputs) if wants_weight else None
        dbias = _new_floats(job.units) if wants_bias else None
        job.x, job.weight, job.y, job.dy = x.data_ptr(), weight.data_ptr(), address(y), dy.data_ptr()
        job.dx, job.dweight, job.dbias = address(dx), address(dweight), address(dbias)
        backend.native.dense_backward(job)
        return dx, dweight, dbias, None, None
