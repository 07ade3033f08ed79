"""How close the kernels come to what the machine can do: its multiply-adds, or its copying of memory.

The roofline model of Williams et al., 2009: arithmetic is held against a loop of multiply-adds in registers, what only
moves numbers against a plain copy of as many bytes. Kernels run on arrays made beforehand, again and again on the
same, so that small arrays lie in a cache, as the rows say.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from convscope._hardware import has_bf16, last_cache
from convscope._records import Record
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision, use_threads
from convscope.backends.native.norm_act_pool import ACTIVATIONS, POOLS
from convscope.network.layers import Shape, shape_text

BATCH = 128
MIN_CALLS, WARM_UP_CALLS = 3, 3
RELU, MAX = ACTIVATIONS["relu"], POOLS["max"]


class Summary(Record):
    """Minimum, median and maximum of repeated measurements."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Summarize the values.

        >>> Summary.of([3.0, 1.0, 2.5])
        Summary(min=1.0, median=2.5, max=3.0)
        """
        ordered = sorted(values)
        return cls(min=ordered[0], median=statistics.median(ordered), max=ordered[-1])

    def scaled(self, factor: float) -> Summary:
        """The same measurements in another unit."""
        return Summary(min=factor * self.min, median=factor * self.median, max=factor * self.max)


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


class KernelTiming(Record):
    """The speed of one kernel.

    Attributes:
        rate: In `unit`, GFLOP/s or GB/s.
        limit: The machine's limit in the same unit.
        fraction: `rate / limit`.
        in_cache: Whether the arrays fit the processor's last-level cache; None if its size is unknown.
    """

    kernel: str
    shape: str
    precision: Precision
    milliseconds: Summary
    unit: Literal["GFLOP/s", "GB/s"]
    rate: float
    limit: float
    fraction: float
    in_cache: bool | None

    @property
    def name(self) -> str:
        """The kernel, followed by its precision if that is not float32."""
        return f"{self.kernel} bf16" if self.precision == "bf16" else self.kernel

    @property
    def fraction_text(self) -> str:
        """The fraction as a percentage of the peak or of a copy; a star marks a copy that does not fit the cache."""
        limit = "peak" if self.unit == "GFLOP/s" else "copy*" if self.in_cache is False else "copy"
        return f"{100 * self.fraction:.0f} % {limit}"


class Roofline(Record):
    """The speed of the kernels on `threads` threads; `peak_gflops` is the peak of float32 multiply-adds, 1e9 flop/s."""

    threads: int
    rounds: int
    peak_gflops: float
    last_cache_bytes: int | None
    kernels: tuple[KernelTiming, ...]


def roofline(kernels: Sequence[Kernel], threads: int, rounds: int = 5, seconds: float = 0.02) -> Roofline:
    """Measure peak, copies and all kernels in turn, `rounds` times, each for some `seconds`; needs convscope-native.

    A kernel's time is the median of its rounds, a limit the best of them: shares are never flattered by a limit that
    was measured at a busy moment. bf16 arithmetic too is held against the float32 peak.
    """
    peak, times = 0.0, [list[float]() for _ in kernels]
    copies = {kernel.bytes_moved: math.inf for kernel in kernels if not kernel.flops}
    for _ in range(rounds):
        for moved in copies:
            copies[moved] = min(copies[moved], _copy_seconds(moved, threads, seconds / 2))
        use_threads(threads)
        peak = max(peak, _native().peak_gflops())
        for kernel, measured in zip(kernels, times, strict=True):
            measured.append(statistics.median(_timed(kernel.call, seconds)))
    cache = last_cache()
    rows = tuple(
        _timing(kernel, Summary.of(measured), peak, copies.get(kernel.bytes_moved, math.inf), cache)
        for kernel, measured in zip(kernels, times, strict=True)
    )
    return Roofline(threads=threads, rounds=rounds, peak_gflops=peak, last_cache_bytes=cache, kernels=rows)


def article_kernels() -> list[Kernel]:
    """The kernels that training the article's network calls, and batch norm; batches of 128 images."""
    precisions = (False, True) if has_bf16() else (False,)
    return [
        *conv_act_pool(28, 1, 32, 3, pool=2),
        *(kernel for bf16 in precisions for kernel in dense(5408, 100, bf16)),
        *(kernel for bf16 in precisions for kernel in norm_act_pool(32, 32, pool=2, bf16=bf16)),
        gather_batch((28, 28, 1)),
        sgd_step(542_230),
    ]


def conv_act_pool(side: int, channels: int, filters: int, window: int, pool: int, n: int = BATCH) -> list[Kernel]:
    """Convolution, bias, ReLU and max pooling (1: none), forward and backward; images (side, side, channels).

    Behind a max pool the gradient needs one multiply-add per argmax, else one per cell of the convolution.
    """
    out = (side - window + 1) // pool
    images, maps = _map(n, channels, side), (n, filters, out)
    weight = torch.randn(filters, channels, window, window).contiguous(memory_format=torch.channels_last)
    bias, y, dy = torch.zeros(filters), _map(*maps), _map(*maps)
    argmax = _map(*maps, torch.uint8) if pool > 1 else None
    dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
    sizes = (n, side, side, channels, filters, window, 0, 0, 0, 0, RELU, MAX if pool > 1 else 0, pool, False)
    strides = weight.stride()
    kernels, kept = _native(), None if argmax is not None else y
    moved = _bytes(images, y, argmax, weight)
    flops = 2 * n * out**2 * filters * window**2 * channels
    shape = f"{side}x{side}x{channels} -> {filters} {window}x{window}" + (f" max {pool}" if pool > 1 else "")

    def forward() -> None:
        kernels.first_stage_forward(*sizes, *_at(images, weight), *strides, *_at(bias, y, argmax))

    def backward() -> None:
        kernels.first_stage_backward(
            *sizes, *_at(images, weight), *strides, *_at(bias, kept, argmax, dy, dweight), *strides, *_at(dbias)
        )

    forward()  # so that the argmaxes are some
    return [
        Kernel("conv_act_pool fwd", shape, "float32", flops * pool**2, moved, forward),
        Kernel("conv_act_pool bwd", shape, "float32", flops, moved, backward),
    ]


def dense(inputs: int, units: int, bf16: bool = False, n: int = BATCH) -> list[Kernel]:
    """A dense layer with ReLU, forward and backward (gradients of values, weights and biases)."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    x, weight, bias = torch.randn(n, inputs).to(dtype), torch.randn(units, inputs), torch.zeros(units)
    y, dy = torch.empty(n, units), torch.randn(n, units)
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    sizes, kernels = (n, inputs, units), _native()
    shape, precision = f"{inputs} -> {units} relu", _precision(bf16)

    def forward() -> None:
        kernels.dense_forward(x.data_ptr(), bf16, *_at(weight, bias, y), *sizes, True, bf16)

    def backward() -> None:
        kernels.dense_backward(x.data_ptr(), bf16, *_at(weight, y, dy, dx, dweight, dbias), *sizes, bf16)

    forward()
    x_weight_y = _bytes(x, weight, y)
    return [
        Kernel("dense fwd", shape, precision, 2 * n * inputs * units, x_weight_y, forward),
        Kernel("dense bwd", shape, precision, 4 * n * inputs * units, 2 * x_weight_y, backward),
    ]


def norm_act_pool(side: int, channels: int, pool: int, bf16: bool = False, n: int = BATCH) -> list[Kernel]:
    """What follows a convolution: batch norm, ReLU and max pooling (1: none), training; maps (side, side, channels).

    Moved are the map, its result and the argmaxes, and backward both gradients in place of the result; that batch norm
    has to look at the map twice is not counted.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    x, dx = _map(n, channels, side, dtype), _map(n, channels, side, dtype)
    y, dy = _map(n, channels, side // pool, dtype), _map(n, channels, side // pool, dtype)
    argmax = _map(n, channels, side // pool, torch.uint8) if pool > 1 else None
    weight, bias, moments = torch.ones(channels), torch.zeros(channels), torch.empty(2, channels)
    running_mean, running_var = torch.zeros(channels), torch.ones(channels)
    dweight, dbias = torch.empty(channels), torch.empty(channels)
    job = n, side, side, channels, bf16, RELU, MAX if pool > 1 else 0, pool, False, True, True
    kernels = _native()
    shape = f"{shape_text((side, side, channels))} relu" + (f" max {pool}" if pool > 1 else "")

    def forward() -> None:
        arrays = _at(x, None, y, argmax, weight, bias, moments, running_mean, running_var)
        kernels.chain_forward(*job, *arrays, 0.1, 1e-5)

    def backward() -> None:
        kernels.chain_backward(*job, *_at(x, dy, dx, argmax, weight, bias, moments, dweight, dbias))

    forward()
    return [
        Kernel("norm_act_pool fwd", shape, _precision(bf16), 0, _bytes(x, y, argmax), forward),
        Kernel("norm_act_pool bwd", shape, _precision(bf16), 0, _bytes(x, dx, dy, argmax), backward),
    ]


def gather_batch(shape: Shape, n: int = BATCH, images: int = 10_000) -> Kernel:
    """`n` of so many images as a network's input: each byte becomes a float32."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (images, *shape), np.uint8)
    index, table = random.permutation(images)[:n], np.zeros((256, shape[-1]), np.float32)
    out, kernels = np.empty((n, *shape), np.float32), _native()

    def call() -> None:
        kernels.cut_batch(pixels, index, None, None, table, out)

    return Kernel("gather_batch", shape_text(shape), "float32", 0, n * math.prod(shape) + out.nbytes, call)


def sgd_step(weights: int) -> Kernel:
    """A step of gradient descent with momentum: three arrays of float32 are read, and two of them written."""
    weight, gradient, velocity = torch.zeros(weights), torch.ones(weights), torch.zeros(weights)
    kernels = _native()

    def call() -> None:
        kernels.descend(*_at(weight, gradient, velocity), weights, 1e-3, 0.9, 0.0, False)

    return Kernel("sgd_step", f"{weights:,} weights", "float32", 0, 5 * _bytes(weight), call)


def _timing(kernel: Kernel, seconds: Summary, peak: float, copy_seconds: float, cache: int | None) -> KernelTiming:
    work = kernel.flops or kernel.bytes_moved
    limit = peak if kernel.flops else work / copy_seconds / 1e9
    rate = work / seconds.median / 1e9
    return KernelTiming(
        kernel=kernel.name,
        shape=kernel.shape,
        precision=kernel.precision,
        milliseconds=seconds.scaled(1e3),
        unit="GFLOP/s" if kernel.flops else "GB/s",
        rate=rate,
        limit=limit,
        fraction=rate / limit,
        in_cache=None if cache is None else kernel.bytes_moved <= cache,
    )


def _copy_seconds(moved: int, threads: int, seconds: float) -> float:
    """The best time of torch's copy that reads and writes `moved` bytes in all: on all threads or on one."""
    source, target = torch.ones(max(1, moved // 8)), torch.zeros(max(1, moved // 8))
    best = math.inf
    for count in {1, threads}:
        torch.set_num_threads(count)
        best = min(best, *_timed(lambda: target.copy_(source), seconds))
    return best


def _timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, for so long, after some that make everything ready."""
    for _ in range(WARM_UP_CALLS):
        call()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < MIN_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def _native() -> ModuleType:
    assert backend.native is not None
    return backend.native


def _precision(bf16: bool) -> Precision:
    return "bf16" if bf16 else "float32"


def _map(n: int, channels: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, channels, side, side).to(dtype).contiguous(memory_format=torch.channels_last)


def _at(*tensors: Tensor | None) -> list[int]:
    """Addresses, taken at each call: a number alone would not keep its tensor."""
    return [backend.address(tensor) for tensor in tensors]


def _bytes(*tensors: Tensor | None) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
