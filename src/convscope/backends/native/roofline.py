"""How close the kernels come to the limits of the machine: its multiply-adds, or its memory bandwidth.

The roofline model of Williams et al., 2009: arithmetic is compared with a loop of multiply-adds in registers, data
movement with a plain copy of as many bytes. Kernels run repeatedly on the same arrays, so small arrays are in a cache;
`KernelTiming.in_cache` says which.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch

from convscope._hardware import last_level_cache
from convscope._records import Record
from convscope.backends.native import backend
from convscope.backends.native.backend import Precision, use_threads
from convscope.backends.native.roofline_kernels import Kernel

MIN_CALLS, WARM_UP_CALLS = 3, 3


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
    """Measure the kernels and the limits of the machine in turn; needs convscope-native.

    The time of a kernel is the median of its rounds, a limit is the best of its rounds, so that a limit measured at a
    busy moment cannot flatter a kernel. bf16 arithmetic is compared with the float32 peak, too.

    Args:
        kernels: The calls to measure.
        threads: Number of threads.
        rounds: Number of rounds; every round measures everything once.
        seconds: Time for each kernel in each round.
    """
    native = backend.native
    assert native is not None
    peak, times = 0.0, [list[float]() for _ in kernels]
    copies = {kernel.bytes_moved: math.inf for kernel in kernels if not kernel.flops}
    for _ in range(rounds):
        for size in copies:
            copies[size] = min(copies[size], _copy_seconds(size, threads, seconds / 2))
        use_threads(threads)
        peak = max(peak, native.peak_gflops())
        for kernel, measured in zip(kernels, times, strict=True):
            measured.append(statistics.median(_time_calls(kernel.call, seconds)))
    cache = last_level_cache()
    rows = tuple(
        _timing(kernel, Summary.of(measured), peak, copies.get(kernel.bytes_moved, math.inf), cache)
        for kernel, measured in zip(kernels, times, strict=True)
    )
    return Roofline(threads=threads, rounds=rounds, peak_gflops=peak, last_cache_bytes=cache, kernels=rows)


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


def _copy_seconds(size: int, threads: int, seconds: float) -> float:
    """The best time of PyTorch's copy that reads and writes `size` bytes altogether, on one or all threads."""
    source, target = torch.ones(max(1, size // 8)), torch.zeros(max(1, size // 8))
    best = math.inf
    for count in {1, threads}:
        torch.set_num_threads(count)
        best = min(best, *_time_calls(lambda: target.copy_(source), seconds))
    return best


def _time_calls(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, repeated for a total time after some warm-up calls."""
    for _ in range(WARM_UP_CALLS):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < MIN_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times
