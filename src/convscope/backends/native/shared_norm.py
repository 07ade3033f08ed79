"""Batch normalization, activation and pool of a batch whose images are shared out among processes.

The statistics are those of the whole batch. The kernel gets them as if they were running statistics; its backward pass
then treats them as constants, and what depends on them is added here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from convscope.backends.native import backend
from convscope.backends.native.backend import address

if TYPE_CHECKING:
    from convscope_native._kernels import NormActPool

Norm = nn.BatchNorm1d | nn.BatchNorm2d


class SharedBatch(Protocol):
    """A batch whose images are shared out among processes.

    images: number of images in the batch. counted: number of images that all processes compute, a multiple of that.
    first, last: positions of this process's first image, and after its last one. sum: the sum of the tensors that all
    processes pass.
    """

    images: int
    first: int
    last: int

    @property
    def counted(self) -> int: ...

    def sum(self, values: Tensor) -> Tensor: ...


class _Sum(torch.autograd.Function):
    """The differentiable sum over all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, batch: SharedBatch) -> Tensor:
        ctx.batch = batch
        return batch.sum(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.batch.sum(gradient), None


def normalize_ref(x: Tensor, norm: Norm, batch: SharedBatch) -> Tensor:
    """Normalize x (n, channels, ...) by the statistics of the whole batch, in PyTorch operations.

    The running statistics of `norm` are updated. The losses of the processes must be scaled so that their sum is the
    loss of the whole batch.
    """
    values = x.float()
    dimensions = [0, *range(2, x.dim())]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    count = batch.counted * x[0, 0].numel()
    mean = _Sum.apply(values.sum(dimensions), batch) / count  # type: ignore[no-untyped-call]
    centered = values - mean.view(shape)
    variance = _Sum.apply(centered.square().sum(dimensions), batch) / count  # type: ignore[no-untyped-call]
    _update_running(norm, mean.detach(), variance.detach(), batch.images * x[0, 0].numel())
    scale = (variance + norm.eps).rsqrt() * norm.weight
    normalized: Tensor = centered * scale.view(shape) + norm.bias.view(shape)
    return normalized.to(x.dtype)


def _update_running(norm: Norm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics towards those of a batch with `count` values per channel."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (count / max(1, count - 1)), norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)


def shared_norm_act_pool(x: Tensor, norm: Norm, job: NormActPool, batch: SharedBatch) -> Tensor:
    """Normalize, activate and pool x (n, channels, h, w), in channels_last memory, by one kernel.

    Args:
        x: float32 or bfloat16 feature maps.
        norm: its running statistics are updated.
        job: that of `norm_act_pool`; the pool, if there is one, comes last.
        batch: the whole batch.
    """
    result: Tensor = _SharedNormActPool.apply(x, norm.weight, norm.bias, norm, job, batch)  # type: ignore[no-untyped-call]
    return result


class _SharedNormActPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: Norm, job: NormActPool, batch: SharedBatch
    ) -> Tensor:
        assert backend.native is not None
        statistics = torch.empty(2, job.c)
        size = job.n, job.c, job.h // job.pool_size, job.w // job.pool_size
        y = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        argmax = torch.empty(size, dtype=torch.uint8, memory_format=torch.channels_last) if job.has_argmax else None
        job.x, job.y, job.argmax, job.statistics = x.data_ptr(), y.data_ptr(), address(argmax), statistics.data_ptr()
        job.weight, job.bias, job.eps, job.momentum = address(weight), address(bias), norm.eps, 0.0
        job.batch_statistics = True
        backend.native.norm_act_pool_forward(job)  # for the statistics of these images; y is written again
        mean, variance = _whole_statistics(statistics, norm, job, batch)
        job.batch_statistics = False
        job.running_mean, job.running_var = mean.data_ptr(), variance.data_ptr()
        backend.native.norm_act_pool_forward(job)
        ctx.job, ctx.batch = job, batch
        ctx.save_for_backward(x, argmax, weight, bias, statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, argmax, weight, bias, statistics = ctx.saved_tensors
        job: NormActPool = ctx.job
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        dweight, dbias = torch.empty(job.c), torch.empty(job.c)
        job.x, job.argmax, job.dy = x.data_ptr(), address(argmax), dy.data_ptr()
        job.weight, job.bias, job.statistics = address(weight), address(bias), statistics.data_ptr()
        job.dx, job.dweight, job.dbias = dx.data_ptr(), dweight.data_ptr(), dbias.data_ptr()
        assert backend.native is not None
        backend.native.norm_act_pool_backward(job)
        # dx so far is weight * rstd * dz; the statistics depend on x, too: dx -= weight * rstd * (mean of dz + z * mean
        # of dz * z), where z is the normalized x, and the means are those of the whole batch
        mean, rstd = statistics
        of_bias, of_weight = ctx.batch.sum(torch.stack([dbias, dweight])) / (ctx.batch.counted * job.h * job.w)
        slope = -weight * rstd * rstd * of_weight
        _rows(dx).add_(torch.addcmul(-weight * rstd * of_bias - mean * slope, _rows(x), slope))
        return dx, dweight, dbias, None, None, None


def _whole_statistics(statistics: Tensor, norm: Norm, job: NormActPool, batch: SharedBatch) -> tuple[Tensor, Tensor]:
    """Mean and variance of the whole batch, float32 (channels,), from the (2, channels) of this process's images.

    Updates the running statistics.
    """
    mean, rstd = statistics.double()
    square = rstd.pow(-2) - norm.eps + mean.square()
    mean, square = batch.sum(torch.stack([mean, square]) * job.n) / batch.counted
    found = mean.float(), (square - mean.square()).clamp_(min=0).float()
    _update_running(norm, *found, batch.images * job.h * job.w)
    return found


def _rows(x: Tensor) -> Tensor:
    """View maps (n, c, h, w) in channels_last memory as (n * h * w, c)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
