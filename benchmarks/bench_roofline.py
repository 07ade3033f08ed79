"""How close do convscope's kernels come to the limits of this machine?

    bench_roofline.py [--rounds 5] [--seconds 0.05] [--threads 1 2 4]

Measures peak, copies and all kernels in turn, `--rounds` times for each number of threads. The raw numbers go to
speed/roofline.json, the table into RESULTS.md. Exit code 5: the first convolution is below half of the float32 peak.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as the command line sets it, before torch is loaded

from convscope._hardware import HardwareInfo, hardware_info, keep_freed_memory, usable_cores
from convscope.backends.native import backend
from convscope.backends.native.roofline import KernelTiming, Roofline, roofline
from convscope.backends.native.roofline_kernels import (
    Kernel,
    conv_act_pool,
    dense,
    gather_batch,
    norm_act_pool,
    sgd_step,
)
from peers import HERE
from speed_process import MAX_BUSY, quiet
from speed_report import put, table, today

MIN_PEAK_FRACTION = 0.5  # of the float32 peak, for the first row on all cores


def kernels() -> list[Kernel]:
    """Return the kernels at the shapes of the article's network, then of other networks for MNIST and CIFAR-10."""
    precisions = (False, True)
    return [
        *conv_act_pool(28, 1, 32, 3, pool_size=2),
        *conv_act_pool(28, 1, 32, 5, pool_size=2),
        *conv_act_pool(32, 3, 64, 3, pool_size=2),
        *conv_act_pool(32, 3, 64, 3, pool_size=1),
        *(kernel for bf16 in precisions for kernel in dense(5408, 100, bf16)),
        *(kernel for bf16 in precisions for kernel in norm_act_pool(26, 32, pool_size=2, bf16=bf16)),
        *(kernel for bf16 in precisions for kernel in norm_act_pool(28, 16, pool_size=1, bf16=bf16)),
        *(kernel for bf16 in precisions for kernel in norm_act_pool(32, 64, pool_size=2, bf16=bf16)),
        *(kernel for bf16 in precisions for kernel in norm_act_pool(16, 128, pool_size=1, bf16=bf16)),
        gather_batch((28, 28, 1)),
        gather_batch((32, 32, 3)),
        sgd_step(542_230),
        sgd_step(5_000_000),
    ]


def row(timings: list[KernelTiming]) -> list[str]:
    """Return the row of one kernel, with each number of threads."""
    cells = [timings[0].name, timings[0].shape]
    for one in timings:
        ms = one.milliseconds
        cells.append(f"{ms.median:.3f} ({ms.min:.3f} to {ms.max:.3f})")
        cells.append(f"{one.rate:.0f} {one.unit}, {one.fraction_text}")
    return cells


def section(rooflines: list[Roofline], machine: HardwareInfo, busy: float) -> str:
    """Return the section of RESULTS.md."""
    last = rooflines[-1]
    heads = ["batches of 128", ""]
    for one in rooflines:
        threads = f"{one.threads} thread{'s' * (one.threads > 1)}"
        heads += [f"{threads}, ms", f"of its limit (peak: {one.peak_gflops:.0f} GFLOP/s)"]
    body = [row(list(timings)) for timings in zip(*(one.kernels for one in rooflines), strict=True)]
    cache = "unknown" if last.last_cache_bytes is None else f"{last.last_cache_bytes / 2**20:.0f} MiB"
    target = last.kernels[0]
    load = f"{100 * busy:.0f} % of the cores were busy before" + (": not quiet" if busy > MAX_BUSY else "")
    return f"""## Speed: the kernels' roofline

`bench_roofline.py`, {today()}, {machine.processor}, {machine.cores} cores, last cache {cache}, {backend.variant()},
convscope {machine.versions["convscope"]}, torch {machine.versions["torch"]}. Rounds: {last.rounds}, kernels in turn;
median (min to max) over the rounds; {load}.

Peak: float32 multiply-adds on registers, best round; bf16 kernels are compared with it too. Copy: torch's copy that
reads and writes the same number of bytes, best round, on all threads or on one; * marks arrays larger than the last
cache. Arrays are allocated in advance and reused, so smaller ones stay in a cache.

{table(heads, body)}

Target: at least {100 * MIN_PEAK_FRACTION:.0f} % of the peak in the first row on all cores. Measured on \
{last.threads} of {machine.cores} cores: {100 * target.fraction:.0f} %."""


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = usable_cores()
    default = sorted({threads for threads in (1, 2, 4, cores) if threads <= cores})
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.05, help="per kernel and round")
    parser.add_argument("--threads", type=int, nargs="+", default=default, help="by default 1, 2, 4 and all cores")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for a quiet machine")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--raw", type=Path, default=HERE / "speed", help="folder for the raw numbers")
    return parser.parse_args()


def main() -> int:
    """Measure, write the results, and return the exit code."""
    options = arguments()
    if backend.native is None:
        print(f"no kernels to measure: {backend.reason}", file=sys.stderr)
        return 5
    busy = quiet(options.wait)
    keep_freed_memory()
    kernel_list = kernels()
    rooflines = [roofline(kernel_list, threads, options.rounds, options.seconds) for threads in sorted(options.threads)]
    machine = hardware_info(rooflines[-1].threads)
    text = section(rooflines, machine, busy)
    options.raw.mkdir(parents=True, exist_ok=True)
    context = {"date": today(), "machine": machine.model_dump(), "busy_before": busy, "kernels": backend.variant()}
    raw = context | {"rooflines": [one.model_dump(mode="json") for one in rooflines]}
    (options.raw / "roofline.json").write_text(json.dumps(raw, indent=1) + "\n")
    put(options.into, "roofline", text)
    print(text)
    return 0 if rooflines[-1].kernels[0].fraction >= MIN_PEAK_FRACTION else 5


if __name__ == "__main__":
    sys.exit(main())
