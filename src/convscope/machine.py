"""The machine a number was measured on."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

WORK_PER_THREAD = 25_000_000  # forward multiply-adds of a step below which a further thread costs more than it helps


class Machine(BaseModel):
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


def this_machine(threads: int) -> Machine:
    """Facts about this machine; takes a tenth of a second to measure its peak."""
    packages = ("convscope", "numpy", "torch", "onnxruntime", "pillow")
    return Machine(
        processor=_processor(),
        cores=usable_cores(),
        threads=threads,
        peak_gflops=round(_peak_gflops(), 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: metadata.version(name) for name in packages},
    )


def worthwhile_threads(multiply_adds: int) -> int:
    """How many threads a training step of so much forward work is worth: at most $OMP_NUM_THREADS or cores - 1.

    One core is left to whatever else runs: a step ends with its slowest thread, so that with a thread on every core one
    other busy process makes training several times slower (docs/LOG.md). The number depends on nothing that changes
    from minute to minute, because another number of threads changes the weights' last bits.
    """
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    most = int(allowed) if allowed.isdecimal() else usable_cores() - 1
    return max(1, min(most, multiply_adds // WORK_PER_THREAD))


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _peak_gflops(size: int = 1024, tries: int = 20) -> float:
    matrix = np.ones((size, size), np.float32)
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9
