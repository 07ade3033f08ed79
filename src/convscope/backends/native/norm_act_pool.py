"""What stands between two convolutions in one go: `[pool] [batch norm] [activation] [pool]`, each part optional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from convscope.backends.native import backend
from convscope.backends.native.backend import address

Norm = nn.BatchNorm1d | nn.BatchNorm2d
NORMS = nn.BatchNorm1d, nn.BatchNorm2d
Pooling = tuple[str, int]  # "max", "min" or "average", and the width of the windows, which lie side by side

ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2, "tanh": 3}
POOLS = {"max": 1, "min": 2, "average": 3}
MAX_POOL_SIZE = 15  # 15 x 15 cells: the argmax's number fits a byte


def norm_act_pool(
    x: Tensor,
    norm: Norm | None = None,
    activation: str = "none",
    pool: Pooling | None = None,
    pool_first: bool = False,
) -> Tensor:
    """activation(norm(pool(x))) with `pool_first`, else pool(activation(norm(x))); any part may be missing.

    x: float32 or bfloat16 (n, channels, h, w), fastest in channels_last memory; the result has its type. activation:
    none, relu, gelu (exact) or tanh. Cells that fill no window are left out. In training mode `norm` takes the
    statistics of the batch and updates its running ones, as torch's modules do; one of vectors sees maps of one cell.
    """
    batch = norm is not None and (norm.training or norm.running_mean is None)
    if not _suits(x, norm, pool, pool_first, batch):
        return norm_act_pool_ref(x, norm, activation, pool, pool_first)
    if norm is None and pool is None and activation == "none":
        return x
    if norm is None:
        return _call(x, None, None, None, False, activation, pool, pool_first)
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return _call(x, norm.weight, norm.bias, norm, batch, activation, pool, pool_first)


def norm_act_pool_ref(x: Tensor, norm: Norm | None, activation: str, pool: Pooling | None, pool_first: bool) -> Tensor:
    """The same, one operation of torch after the other."""
    if pool and pool_first:
        x = _pool(x, pool)
    if norm is not None:
        x = norm(x.flatten(2)).view_as(x) if isinstance(norm, nn.BatchNorm1d) else norm(x)
    if activation != "none":
        functions: dict[str, Callable[[Tensor], Tensor]]
        functions = {"relu": functional.relu, "gelu": functional.gelu, "tanh": torch.tanh}
        x = functions[activation](x)
    return _pool(x, pool) if pool and not pool_first else x


def _pool(x: Tensor, pool: Pooling) -> Tensor:
    kind, size = pool
    if kind == "average":
        return functional.avg_pool2d(x, size)
    return functional.max_pool2d(x, size) if kind == "max" else -functional.max_pool2d(-x, size)


def _suits(x: Tensor, norm: Norm | None, pool: Pooling | None, pool_first: bool, batch: bool) -> bool:
    if backend.native is None or x.dim() != 4 or x.device.type != "cpu" or x.numel() == 0:
        return False
    if x.dtype != torch.float32 and x.dtype != torch.bfloat16:
        return False
    n, channels, h, w = x.shape
    if pool is not None:
        size = pool[1]
        if not isinstance(size, int) or not 0 < size <= min(h, w, MAX_POOL_SIZE):
            return False
        h, w = (h // size, w // size) if pool_first else (h, w)
    if norm is None:
        return True
    if channels != norm.num_features or norm.momentum is None or (batch and n * h * w == 1):
        return False
    return all(part is None or part.dtype == torch.float32 for part in (norm.weight, norm.running_mean))


def _call(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    norm: Norm | None,
    batch: bool,
    activation: str,
    pool: Pooling | None,
    pool_first: bool,
) -> Tensor:
    kind, size = (POOLS[pool[0]], pool[1]) if pool else (0, 1)
    if norm is None and activation == "relu" and kind in (1, 2):
        pool_first = False  # the same values; coming last, the pool alone remembers all that the gradient needs
    n, channels, h, w = x.shape
    shape = (n, h, w, channels, x.dtype == torch.bfloat16, ACTIVATIONS[activation], kind, size, pool_first,
             norm is not None, batch)  # fmt: skip
    if not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    result: Tensor = _NormActPool.apply(x, weight, bias, norm, shape)  # type: ignore[no-untyped-call]
    return result


class _NormActPool(torch.autograd.Function):
    """Saves the map that the norm (else the activation) saw and the argmaxes, nothing that can be recomputed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        norm: Norm | None,
        shape: tuple[Any, ...],
    ) -> Tensor:
        n, h, w, channels, _, activation, pool, size, pool_first, _, batch = shape
        out = (n, channels, h // size, w // size)
        y = _map_like(x, out)
        argmax = x.new_empty(out, dtype=torch.uint8) if pool in (1, 2) else None
        statistics = running_mean = running_var = None
        momentum = eps = 0.0
        if norm is not None:
            statistics = torch.empty(2, channels, dtype=torch.float32, device="cpu")
            momentum, eps = norm.momentum or 0.0, norm.eps
            if not batch or norm.training:
                running_mean, running_var = norm.running_mean, norm.running_var
        z: Tensor | None = None  # the pooled map
        seen: Tensor | None = x  # what the backward pass recomputes from
        if pool and pool_first:
            bare = norm is None and not activation
            z = y if bare else _map_like(x, out) if batch or any(ctx.needs_input_grad) else None
            seen = None if bare else z
        elif norm is None and pool and activation < 2 and (argmax is not None or not activation):
            seen = None
        elif norm is None and not pool and activation == 1:
            seen = y  # positive where x is; the next layer keeps it anyway
        assert backend.native is not None
        backend.native.chain_forward(
            *shape, x.data_ptr(), address(z), y.data_ptr(), address(argmax), address(weight), address(bias),
            address(statistics), address(running_mean), address(running_var), momentum, eps
        )  # fmt: skip
        ctx.shape = shape
        ctx.save_for_backward(seen, argmax, weight, bias, statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        seen, argmax, weight, bias, statistics = ctx.saved_tensors
        n, h, w, channels = ctx.shape[:4]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        dx = _map_like(gradient, (n, channels, h, w)) if wants_x else None
        dweight, dbias = (
            torch.empty(channels, dtype=torch.float32, device="cpu") if wanted else None
            for wanted in (wants_weight, wants_bias)
        )
        assert backend.native is not None
        backend.native.chain_backward(
            *ctx.shape, address(seen), gradient.data_ptr(), address(dx), address(argmax), address(weight),
            address(bias), address(statistics), address(dweight), address(dbias)
        )  # fmt: skip
        return dx, dweight, dbias, None, None


def _map_like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device="cpu", memory_format=torch.channels_last)
