"""The stem of a network in one kernel: convolution of images with few channels, bias, activation and pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from convscope.backends.native import backend
from convscope.backends.native.backend import address
from convscope.backends.native.reference_ops import Pooling, activate, pool2d

if TYPE_CHECKING:
    from convscope_native._kernels import ConvActPool

Padding = tuple[int, int, int, int]  # zeros at the top, bottom, left and right

MAX_CHANNELS = 4  # of the images; with more, PyTorch's convolution is faster
MAX_POOL_SIZE = 4


def conv_act_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: Padding = (0, 0, 0, 0),
    activation: str = "relu",
    pool: Pooling | None = None,
) -> Tensor:
    """Cross-correlate x with weight (stride 1), add bias, activate, pool; differentiable.

    The native kernel takes float32 images with 1 to 4 channels that need no gradient, and pools of size 1 to 4; under
    autocast, too, it multiplies in float32. Everything else runs as `conv_act_pool_ref`.

    Args:
        x: Images (n, channels, h, w).
        weight: Filters (filters, channels, k, k).
        bias: (filters,) or None.
        padding: Zeros at the top, bottom, left and right.
        activation: Name in `network.activations.ACTIVATIONS`, or "none".
        pool: Kind, and size and stride of the window; or None.

    Returns:
        (n, filters, oh, ow) in channels_last memory, with the dtype of x, or bfloat16 under autocast;
        oh = (h + top + bottom - k + 1) // pool size, and ow likewise.
    """
    job = _plan(x, weight, bias, padding, activation, pool)
    if job is None:
        return conv_act_pool_ref(x, weight, bias, padding, activation, pool)
    if not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    if torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad)):
        result: Tensor = _ConvActPool.apply(x, weight, bias, job)  # type: ignore[no-untyped-call]
        return result
    return _forward(job, x, weight, bias, with_argmax=False)[0]


def conv_act_pool_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Padding,
    activation: str,
    pool: Pooling | None,
) -> Tensor:
    """`conv_act_pool` in PyTorch operations."""
    top, bottom, left, right = padding
    if any(padding):
        x = functional.pad(x, (left, right, top, bottom))
    y = pool2d(activate(functional.conv2d(x, weight, bias), activation), pool)
    return y.contiguous(memory_format=torch.channels_last)


def _plan(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Padding,
    activation: str,
    pool: Pooling | None,
) -> ConvActPool | None:
    """The kernel's job without addresses, or None if the kernel cannot do it."""
    native = backend.native
    if native is None or x.dtype != torch.float32 or x.requires_grad or x.ndim != 4 or not x.is_cpu:
        return None
    n, c, h, w = x.shape
    filters, inputs, k, k_columns = weight.shape
    kind, size = ("none", 1) if pool is None or pool[1] == 1 else pool
    top, bottom, left, right = padding
    bf16 = torch.is_autocast_enabled("cpu")
    fits = (
        weight.dtype == torch.float32
        and weight.is_cpu
        and (bias is None or _is_bias(bias, filters))
        and n > 0
        and filters > 0
        and 0 < inputs == c <= MAX_CHANNELS
        and 0 < k == k_columns
        and activation in native.ACTIVATIONS
        and kind in native.POOLS
        and 1 <= size <= MAX_POOL_SIZE
        and h + top + bottom - k + 1 >= size
        and w + left + right - k + 1 >= size
        and min(padding) >= 0
        and not (bf16 and torch.get_autocast_dtype("cpu") != torch.bfloat16)
    )
    if not fits:
        return None
    job: ConvActPool = native.ConvActPool()
    job.n, job.h, job.w, job.c = n, h, w, c
    job.filters, job.kernel_size = filters, k
    job.top, job.bottom, job.left, job.right = padding
    job.activation = native.ACTIVATIONS[activation]
    job.pool, job.pool_size = native.POOLS[kind], size
    job.bf16 = bf16
    job.weight_strides = weight.stride()
    return job


def _is_bias(bias: Tensor, filters: int) -> bool:
    return bias.dtype == torch.float32 and bias.is_cpu and bias.shape == (filters,) and bias.is_contiguous()


def _forward(
    job: ConvActPool, x: Tensor, weight: Tensor, bias: Tensor | None, with_argmax: bool
) -> tuple[Tensor, Tensor | None]:
    shape = job.n, job.filters, job.oh, job.ow
    y = _new_map(shape, torch.bfloat16 if job.bf16 else torch.float32)
    argmax = _new_map(shape, torch.uint8) if with_argmax and job.has_argmax else None
    job.x, job.weight, job.bias = x.data_ptr(), weight.data_ptr(), address(bias)
    job.y, job.argmax = y.data_ptr(), address(argmax)
    assert backend.native is not None
    backend.native.conv_act_pool_forward(job)
    return y, argmax


class _ConvActPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, job: ConvActPool) -> Tensor:
        y, argmax = _forward(job, x, weight, bias, with_argmax=True)
        # y costs no memory: it is the input of the next layer, which saves it anyway.
        ctx.save_for_backward(x, weight, bias, y if job.reads_output else None, argmax)
        ctx.job = job
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, y, argmax = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        dweight, dbias = torch.empty_like(weight), None if bias is None else torch.empty_like(bias)
        job: ConvActPool = ctx.job
        job.x, job.weight, job.bias = x.data_ptr(), weight.data_ptr(), address(bias)
        job.y, job.argmax, job.dy = address(y), address(argmax), dy.data_ptr()
        job.weight_strides, job.dweight_strides = weight.stride(), dweight.stride()
        job.dweight, job.dbias = dweight.data_ptr(), address(dbias)
        assert backend.native is not None
        backend.native.conv_act_pool_backward(job)
        return None, dweight, dbias, None


def _new_map(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=torch.channels_last)
