"""Processor, memory and load of this machine."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import time
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from convscope._cgroups import cpu_quota, memory_left
from convscope._records import Record

CLOCK_TICK_S = 0.02  # start times are counted in hundredths of a second
MAX_START_S = 60.0  # a process that started longer ago than this when it asks has no reliable clock
BUSY = 1.15  # wall-clock time by processor time of a thread that has to wait for others


class HardwareInfo(Record):
    """Processor, cores, threads in use, and package versions.

    `peak_gflops` is the speed of the fastest of several float32 matrix products, in 1e9 flop/s.
    """

    processor: str
    cores: int
    threads: int
    peak_gflops: float
    system: str
    python: str
    versions: dict[str, str]

    @property
    def summary(self) -> str:
        """For example `AMD EPYC 7763, 2 of 4 cores, 214 GFLOP/s float32`."""
        return f"{self.processor}, {self.threads} of {self.cores} cores, {self.peak_gflops:.0f} GFLOP/s float32"


def hardware_info(threads: int) -> HardwareInfo:
    """Describe this machine; measuring its peak takes 0.05 to 0.5 s."""
    packages = ("convscope", "numpy", "torch", "onnxruntime", "pillow")
    return HardwareInfo(
        processor=_processor(),
        cores=usable_cores(),
        threads=threads,
        peak_gflops=round(_peak_gflops(), 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: metadata.version(name) for name in packages},
    )


def max_threads() -> int:
    """The number of threads to use by default: $OMP_NUM_THREADS, or one per core."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(allowed)) if allowed.isdecimal() else usable_cores()


def usable_cores() -> int:
    """Number of cores that this process may use: those that it may run on, or fewer if a container's quota is lower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, cpu_quota())))


def available_memory() -> float:
    """Bytes that this process can still allocate; infinity if the system does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        free = math.inf
    return min(free, memory_left(), _address_space_left())


def _address_space_left() -> float:
    """Bytes that `ulimit -v` leaves this process; infinity without that limit."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError, IndexError):  # ImportError: Windows
        return math.inf
    return math.inf if limit == resource.RLIM_INFINITY else max(0.0, float(limit - used))


def process_start() -> float:
    """Start of this process on the clock of `time.monotonic()`.

    Call it early. If the system does not know when the process started, or what it says cannot be (in a container, the
    uptime and the start may come from two clocks), it is the processor time ago that the process has used.
    """
    used = time.process_time()
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        age = used
    return time.monotonic() - (age if used - CLOCK_TICK_S <= age <= MAX_START_S else used)


def slowdown(seconds: float = 0.1) -> float:
    """How much longer work on all cores takes because of other processes, at least 1.

    Measured on one thread that computes for `seconds` of processor time. If it has to wait, others use all cores.
    """
    wall, cpu = time.perf_counter(), time.thread_time()
    while time.thread_time() - cpu < seconds:
        pass
    single = (time.perf_counter() - wall) / seconds
    cores = usable_cores()
    return 1.0 if single < BUSY else single + (cores - 1) / cores


@cache
def slowdown_at_start() -> float:
    """The `slowdown` when this was first asked, in steps of a factor of 1.4, so that about equal loads are equal."""
    return float(2 ** (round(2 * math.log2(slowdown())) / 2))


def busy_fraction(seconds: float = 0.25) -> float | None:
    """Fraction, 0..1, of all cores that other processes keep busy, measured while this one sleeps for `seconds`.

    None on systems other than Linux.
    """
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if before is None or after is None:
        return None
    busy, every = (now - then for now, then in zip(after, before, strict=True))
    return busy / max(1, every)


def has_bf16() -> bool:
    """Whether the processor has bfloat16 instructions (AVX-512 BF16 or AMX)."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def last_level_cache() -> int | None:
    """Size in bytes of the processor's largest cache; None on systems other than Linux."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((1024 * int(size.read_text().strip().removesuffix("K")) for size in sizes), default=None)


def keep_freed_memory() -> None:
    """Make the C library reuse freed memory.

    By default glibc returns large blocks to the system, which clears them before it hands them out again.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_max = -1, -4  # options M_TRIM_THRESHOLD and M_MMAP_MAX in malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def _ticks() -> tuple[int, int] | None:
    """Busy and total clock ticks of all cores since the machine started."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    ticks = [int(word) for word in stat.read_text().splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]  # the second one: waiting for a disk
    return sum(ticks) - idle, sum(ticks)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _peak_gflops(size: int = 768, patience: int = 3, longest: float = 0.5) -> float:
    """Multiply matrices until the best time has not improved for `patience` products, or for `longest` seconds."""
    matrix = np.ones((size, size), np.float32)
    product = np.empty_like(matrix)
    best, since_best, spent = float("inf"), 0, 0.0
    while since_best < patience and spent < longest:
        start = time.perf_counter()
        np.matmul(matrix, matrix, out=product)
        seconds = time.perf_counter() - start
        spent += seconds
        since_best = 0 if seconds < 0.99 * best else since_best + 1
        best = min(best, seconds)
    return 2 * size**3 / best / 1e9
