"""The machine a number was measured on."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict


class HardwareInfo(BaseModel):
    """Processor, cores and versions; `peak_gflops` is the best float32 matrix product measured, in 1e9 flop/s."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: str
    cores: int
    threads: int
    peak_gflops: float
    system: str
    python: str
    versions: dict[str, str]

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"{self.processor}, {self.threads} of {self.cores} cores, {self.peak_gflops:.0f} GFLOP/s float32"


def hardware_info(threads: int) -> HardwareInfo:
    """Facts about this machine; takes some hundredths of a second to measure its peak."""
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
    """The most threads to use: $OMP_NUM_THREADS, or as many as there are cores."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(allowed)) if allowed.isdecimal() else usable_cores()


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_start() -> float:
    """When this process began, as a moment of `time.monotonic()`; where the system does not tell, this moment."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return time.monotonic()
    return time.monotonic() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))


def busy_share(seconds: float = 0.25) -> float | None:
    """The share of all cores that is busy while this process sleeps so long, as Linux tells it; else None."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if before is None or after is None:
        return None
    busy, every = (now - then for now, then in zip(after, before, strict=True))
    return busy / max(1, every)


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 numbers itself (AVX-512 BF16 or AMX)."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def last_cache() -> int | None:
    """Bytes of the processor's largest cache, as Linux tells them; None where it does not."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((1024 * int(size.read_text().strip().removesuffix("K")) for size in sizes), default=None)


def keep_memory() -> None:
    """Let the C library keep what is freed for the next step, instead of giving it back and clearing it anew."""
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def _ticks() -> tuple[int, int] | None:
    """Busy and all clock ticks of all cores since the machine started."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    ticks = [int(word) for word in stat.read_text().splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]  # the latter waiting for a disk
    return sum(ticks) - idle, sum(ticks)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _peak_gflops(size: int = 768, patience: int = 3, longest: float = 0.5) -> float:
    """The best of as many products as it takes until the best has not changed for `patience` of them.

    On a machine that is too busy for that, the best that was seen after `longest` seconds.
    """
    matrix = np.ones((size, size), np.float32)
    product = np.empty_like(matrix)
    best, since, spent = float("inf"), 0, 0.0
    while since < patience and spent < longest:
        start = time.perf_counter()
        np.matmul(matrix, matrix, out=product)
        seconds = time.perf_counter() - start
        spent += seconds
        since = 0 if seconds < 0.99 * best else since + 1
        best = min(best, seconds)
    return 2 * size**3 / best / 1e9
