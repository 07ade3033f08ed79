"""The layers between two convolutions in one kernel: `[pool] [batch norm] [activation] [pool]`, each optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from convscope.backends.native import backend
from convscope.backends.native.backend import address
from convscope.backends.native.reference_ops import Pooling, activate, pool2d
from convscope.backends.native.shared_norm import shared_norm_act_pool

if TYPE_CHECKING:
    from convscope_native._kernels import NormActPool

Norm = nn.BatchNorm1d | nn.BatchNorm2d
NORMS = nn.BatchNorm1d, nn.BatchNorm2d

MAX_POOL_SIZE = 15


def norm_act_pool(
    x: Tensor,
    norm: Norm | None = None,
    activation: str = "none",
    pool: Pooling | None = None,
    pool_first: bool = False,
) -> Tensor:
    """Normalize, activate and pool x; each part is optional.

    The native kernel takes float32 and bfloat16 feature maps, and pools of size 1 to 15. Everything else runs as
    `norm_act_pool_ref`. Both update the running statistics of `norm` as its own forward pass does.

    Args:
        x: Feature maps (n, channels, h, w), fastest in channels_last memory.
        norm: Batch normalization. It uses batch statistics in training mode or without running ones. A BatchNorm1d
            sees maps of one cell. If it is `shared`, its statistics are those of a batch shared out among processes.
        activation: Name in `network.activations.ACTIVATIONS`, or "none".
        pool: Kind, and size and stride of the window; or None. Cells that fill no window are dropped.
        pool_first: Pool before the norm instead of after the activation.

    Returns:
        Feature maps (n, channels, oh, ow) with the dtype of x.
    """
    shared = getattr(norm, "shared", None) if norm is not None and norm.training else None
    if shared is not None and pool_first:
        x, pool, pool_first = norm_act_pool(x, pool=pool), None, False
    batch_statistics = norm is not None and (norm.training or norm.running_mean is None) and shared is None
    job = _plan(x, norm, activation, pool, pool_first, batch_statistics)
    if job is None:
        return norm_act_pool_ref(x, norm, activation, pool, pool_first)
    if norm is None and pool is None and activation == "none":
        return x
    if norm is not None and norm.training and shared is None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
    if not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    if norm is not None and shared is not None:
        return shared_norm_act_pool(x, norm, job, shared)
    result: Tensor = _NormActPool.apply(x, weight, bias, norm, job)  # type: ignore[no-untyped-call]
    return result


def norm_act_pool_ref(x: Tensor, norm: Norm | None, activation: str, pool: Pooling | None, pool_first: bool) -> Tensor:
    """`norm_act_pool` in PyTorch operations."""
    if pool_first:
        x = pool2d(x, pool)
    if norm is not None:
        x = norm(x.flatten(2)).view_as(x) if isinstance(norm, nn.BatchNorm1d) else norm(x)
    x = activate(x, activation)
    return x if pool_first else pool2d(x, pool)


def _plan(
    x: Tensor, norm: Norm | None, activation: str, pool: Pooling | None, pool_first: bool, batch_statistics: bool
) -> NormActPool | None:
    """The kernel's job without addresses, or None if the kernel cannot do it."""
    native = backend.native
    if native is None or x.dim() != 4 or x.device.type != "cpu" or x.numel() == 0:
        return None
    if (x.dtype != torch.float32 and x.dtype != torch.bfloat16) or activation not in native.ACTIVATIONS:
        return None
    n, c, h, w = x.shape
    kind, size = pool or ("none", 1)
    if kind not in native.POOLS or not isinstance(size, int) or not 0 < size <= min(h, w, MAX_POOL_SIZE):
        return None
    if norm is not None and not _is_supported(norm, c):
        return None
    cells = (h // size) * (w // size) if pool_first else h * w
    if batch_statistics and n * cells == 1:
        return None  # PyTorch raises the error
    job: NormActPool = native.NormActPool()
    job.n, job.h, job.w, job.c = n, h, w, c
    job.activation = native.ACTIVATIONS[activation]
    job.pool, job.pool_size = native.POOLS[kind], size
    # Without a norm, ReLU and a max or min pool commute; if the pool comes last, its argmax is all that backward needs.
    job.pool_first = pool_first and not (norm is None and activation == "relu" and job.has_argmax)
    job.bf16 = x.dtype == torch.bfloat16
    job.norm, job.batch_statistics = norm is not None, batch_statistics
    return job


def _is_supported(norm: Norm, channels: int) -> bool:
    return (
        norm.num_features == channels
        and norm.momentum is not None
        and all(part is None or part.dtype == torch.float32 for part in (norm.weight, norm.running_mean))
    )


class _NormActPool(torch.autograd.Function):
    """Saves the input of the norm, or else of the activation, and the argmax; backward recomputes the rest."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, norm: Norm | None, job: NormActPool
    ) -> Tensor:
        out = job.n, job.c, job.h // job.pool_size, job.w // job.pool_size
        y = _new_map(out, x.dtype)
        argmax = _new_map(out, torch.uint8) if job.has_argmax else None
        saved = job.saved_for_backward
        pooled: Tensor | None = None
        if job.pool_first and not saved:
            pooled = y  # a pool alone
        elif job.pool_first and (job.batch_statistics or any(ctx.needs_input_grad)):
            pooled = _new_map(out, x.dtype)
        job.x, job.pooled, job.y, job.argmax = x.data_ptr(), address(pooled), y.data_ptr(), address(argmax)
        statistics = None if norm is None else _set_norm(job, norm)
        assert backend.native is not None
        backend.native.norm_act_pool_forward(job)
        ctx.job = job
        ctx.save_for_backward({"x": x, "pooled": pooled, "y": y}.get(saved), argmax, weight, bias, statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        saved, argmax, weight, bias, statistics = ctx.saved_tensors
        job: NormActPool = ctx.job
        dy = dy.contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        dx = _new_map((job.n, job.c, job.h, job.w), dy.dtype) if wants_x else None
        dweight = _new_floats(job.c) if wants_weight else None
        dbias = _new_floats(job.c) if wants_bias else None
        job.x, job.argmax, job.dy = address(saved), address(argmax), dy.data_ptr()
        job.weight, job.bias, job.statistics = address(weight), address(bias), address(statistics)
        job.dx, job.dweight, job.dbias = address(dx), address(dweight), address(dbias)
        assert backend.native is not None
        backend.native.norm_act_pool_backward(job)
        return dx, dweight, dbias, None, None


def _set_norm(job: NormActPool, norm: Norm) -> Tensor:
    """Give the job what it needs of the norm; returns memory for the statistics in use, which must outlive its call."""
    statistics = _new_floats(2, job.c)
    job.statistics = statistics.data_ptr()
    job.weight, job.bias = address(norm.weight), address(norm.bias)
    job.momentum, job.eps = norm.momentum or 0.0, norm.eps
    if norm.training or not job.batch_statistics:
        job.running_mean, job.running_var = address(norm.running_mean), address(norm.running_var)
    return statistics


def _new_map(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=torch.channels_last)


def _new_floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")
