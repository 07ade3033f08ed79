"""Kernel calls for the roofline, with the work that each of them stands for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from convscope._hardware import has_bf16
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision, address
from convscope.network.layers.base import Shape, shape_text

BATCH_SIZE = 128


@dataclass(frozen=True, eq=False)
class Kernel:
    """One call of a kernel and the minimum work that it stands for.

    Attributes:
        flops: Floating-point operations, two for each multiply-add that the result needs; 0 for a kernel that only
            moves data.
        bytes_moved: Bytes of the arrays that the kernel has to read or write, each counted once.
    """

    name: str
    shape: str
    precision: Precision
    flops: int
    bytes_moved: int
    call: Callable[[], object]


def article_kernels() -> list[Kernel]:
    """The kernels that training the article's network calls, and batch norm; batches of 128 images."""
    precisions = (False, True) if has_bf16() else (False,)
    return [
        *conv_act_pool(28, 1, 32, 3, pool_size=2),
        *(kernel for bf16 in precisions for kernel in dense(5408, 100, bf16)),
        *(kernel for bf16 in precisions for kernel in norm_act_pool(32, 32, pool_size=2, bf16=bf16)),
        gather_batch((28, 28, 1)),
        sgd_step(542_230),
    ]


def conv_act_pool(
    size: int, channels: int, filters: int, kernel_size: int, pool_size: int, n: int = BATCH_SIZE
) -> list[Kernel]:
    """Convolution, bias, ReLU and max pooling, forward and backward.

    After a max pool the gradient takes one multiply-add per window, else one per cell of the convolution.

    Args:
        size: Height and width of the images.
        channels: Channels of the images.
        filters: Number of filters.
        kernel_size: Height and width of the filters.
        pool_size: Size and stride of the windows; 1 for no pool.
        n: Number of images.
    """
    native, pooled = _native(), pool_size > 1
    out = (size - kernel_size + 1) // pool_size
    x, weight = _new_map(n, channels, size), _new_map(filters, channels, kernel_size)
    bias, y, dy = torch.zeros(filters), _new_map(n, filters, out), _new_map(n, filters, out)
    argmax = _new_map(n, filters, out, torch.uint8) if pooled else None
    dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
    job = native.ConvActPool()
    job.n, job.h, job.w, job.c = n, size, size, channels
    job.filters, job.kernel_size, job.pool_size = filters, kernel_size, pool_size
    job.activation, job.pool = native.ACTIVATIONS["relu"], native.POOLS["max" if pooled else "none"]
    job.weight_strides = weight.stride()

    def forward() -> None:
        _set_addresses(job, x=x, weight=weight, bias=bias, y=y, argmax=argmax)
        native.conv_act_pool_forward(job)

    def backward() -> None:
        saved_y = y if job.reads_output else None
        _set_addresses(job, x=x, weight=weight, y=saved_y, argmax=argmax, dy=dy, dweight=dweight, dbias=dbias)
        job.dweight_strides = dweight.stride()
        native.conv_act_pool_backward(job)

    forward()  # fills argmax
    shape = f"{size}x{size}x{channels} -> {filters} {kernel_size}x{kernel_size}{_pool_text(pool_size)}"
    flops, moved = 2 * n * out**2 * filters * kernel_size**2 * channels, _bytes(x, y, argmax, weight)
    return [
        Kernel("conv_act_pool fwd", shape, "float32", flops * pool_size**2, moved, forward),
        Kernel("conv_act_pool bwd", shape, "float32", flops, moved, backward),
    ]


def dense(inputs: int, units: int, bf16: bool = False, n: int = BATCH_SIZE) -> list[Kernel]:
    """A dense layer with ReLU, forward and backward (gradients of values, weights and biases).

    Args:
        inputs: Number of inputs.
        units: Number of units.
        bf16: bfloat16 inputs and products.
        n: Number of rows.
    """
    native = _native()
    x = torch.randn(n, inputs).to(torch.bfloat16 if bf16 else torch.float32)
    weight, bias = torch.randn(units, inputs), torch.zeros(units)
    y, dy = torch.empty(n, units), torch.randn(n, units)
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    job = native.Dense()
    job.n, job.inputs, job.units = n, inputs, units
    job.relu, job.bf16, job.x_is_bf16 = True, bf16, bf16

    def forward() -> None:
        _set_addresses(job, x=x, weight=weight, bias=bias, y=y)
        native.dense_forward(job)

    def backward() -> None:
        _set_addresses(job, x=x, weight=weight, y=y, dy=dy, dx=dx, dweight=dweight, dbias=dbias)
        native.dense_backward(job)

    forward()
    shape, precision, moved = f"{inputs} -> {units} relu", _precision(bf16), _bytes(x, weight, y)
    return [
        Kernel("dense fwd", shape, precision, 2 * n * inputs * units, moved, forward),
        Kernel("dense bwd", shape, precision, 4 * n * inputs * units, 2 * moved, backward),
    ]


def norm_act_pool(size: int, channels: int, pool_size: int, bf16: bool = False, n: int = BATCH_SIZE) -> list[Kernel]:
    """Batch norm, ReLU and max pooling in training mode, forward and backward.

    Bytes moved are those of the input, the output and the argmax, and backward of both gradients instead of the
    output. That batch norm has to read its input twice is not counted.

    Args:
        size: Height and width of the feature maps.
        channels: Their channels.
        pool_size: Size and stride of the windows; 1 for no pool.
        bf16: bfloat16 feature maps.
        n: Number of feature maps.
    """
    native, pooled = _native(), pool_size > 1
    dtype, out = torch.bfloat16 if bf16 else torch.float32, size // pool_size
    x, dx = _new_map(n, channels, size, dtype), _new_map(n, channels, size, dtype)
    y, dy = _new_map(n, channels, out, dtype), _new_map(n, channels, out, dtype)
    argmax = _new_map(n, channels, out, torch.uint8) if pooled else None
    weight, bias, statistics = torch.ones(channels), torch.zeros(channels), torch.empty(2, channels)
    running_mean, running_var = torch.zeros(channels), torch.ones(channels)
    dweight, dbias = torch.empty(channels), torch.empty(channels)
    job = native.NormActPool()
    job.n, job.h, job.w, job.c = n, size, size, channels
    job.activation, job.pool = native.ACTIVATIONS["relu"], native.POOLS["max" if pooled else "none"]
    job.pool_size, job.bf16, job.norm, job.batch_statistics = pool_size, bf16, True, True
    job.momentum, job.eps = 0.1, 1e-5

    def forward() -> None:
        _set_addresses(job, x=x, y=y, argmax=argmax, weight=weight, bias=bias, statistics=statistics)
        _set_addresses(job, running_mean=running_mean, running_var=running_var)
        native.norm_act_pool_forward(job)

    def backward() -> None:
        _set_addresses(job, x=x, argmax=argmax, dy=dy, dx=dx, dweight=dweight, dbias=dbias)
        native.norm_act_pool_backward(job)

    forward()
    shape, precision = f"{shape_text((size, size, channels))} relu{_pool_text(pool_size)}", _precision(bf16)
    return [
        Kernel("norm_act_pool fwd", shape, precision, 0, _bytes(x, y, argmax), forward),
        Kernel("norm_act_pool bwd", shape, precision, 0, _bytes(x, dx, dy, argmax), backward),
    ]


def gather_batch(shape: Shape, n: int = BATCH_SIZE, images: int = 10_000) -> Kernel:
    """Gather `n` of a number of uint8 images (h, w, c) as float32."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (images, *shape), np.uint8)
    index, table = random.permutation(images)[:n], np.zeros((256, shape[-1]), np.float32)
    out, native = np.empty((n, *shape), np.float32), _native()

    def call() -> None:
        native.gather_batch(pixels, index, table, None, None, out)

    return Kernel("gather_batch", shape_text(shape), "float32", 0, n * math.prod(shape) + out.nbytes, call)


def sgd_step(weights: int) -> Kernel:
    """A step of gradient descent with momentum, which reads three float32 arrays and writes two of them."""
    weight, gradient, velocity = torch.zeros(weights), torch.ones(weights), torch.zeros(weights)
    native = _native()
    job = native.SgdStep()
    job.size, job.lr, job.momentum = weights, 1e-3, 0.9

    def call() -> None:
        _set_addresses(job, weight=weight, gradient=gradient, velocity=velocity)
        native.sgd_step(job)

    return Kernel("sgd_step", f"{weights:,} weights", "float32", 0, 5 * _bytes(weight), call)


def _native() -> ModuleType:
    assert backend.native is not None
    return backend.native


def _set_addresses(job: object, **tensors: Tensor | None) -> None:
    """Set the addresses of a job at each call, so that the caller keeps the tensors alive."""
    for name, tensor in tensors.items():
        setattr(job, name, address(tensor))


def _precision(bf16: bool) -> Precision:
    return "bf16" if bf16 else "float32"


def _pool_text(pool_size: int) -> str:
    return f" max {pool_size}" if pool_size > 1 else ""


def _new_map(n: int, channels: int, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, channels, size, size).to(dtype).contiguous(memory_format=torch.channels_last)


def _bytes(*tensors: Tensor | None) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
