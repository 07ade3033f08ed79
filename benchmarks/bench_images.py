"""How fast are image files checked and decoded, and how much memory does it take?

    bench_images.py [--counts 1000 10000 100000] [--side 128] [--rounds 3] [--into RESULTS.md]

Runs `convscope data check` on synthetic JPEGs with an empty cache, and again with the cache filled. Measures seconds of
the whole process and memory of all its processes together (proportional set size, Linux). The table goes into
RESULTS.md. Exit code 5: the largest set is decoded at less than 1,500 files/s, takes 1 GB or more, or costs over 1.5
times as much per file as the smallest.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from make_images import write
from peers import HERE
from speed_report import median_range, put, table, today
from speed_rows import CONVSCOPE

MIN_FILES_PER_SECOND = 1500
MAX_BYTES = 10**9
MAX_COST_GROWTH = 1.5  # of the cost per file, from the smallest set to the largest


@dataclass(frozen=True)
class CheckTiming:
    """Seconds of one `data check`, and peak bytes of its process and worker processes together."""

    seconds: float
    peak: int


Timings = dict[int, list[CheckTiming]]  # by number of files


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="needs a few GB of space")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    cold: Timings = {}
    warm: Timings = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for count in options.counts:
            write(Path(folder, str(count)), count, options.side)
        for _ in range(options.rounds):
            for count in options.counts:
                cache = Path(folder, "cache")
                cold.setdefault(count, []).append(check(Path(folder, str(count)), cache))
                warm.setdefault(count, []).append(check(Path(folder, str(count)), cache))
                shutil.rmtree(cache)
    report(options.into, options.side, cold, warm)
    return 0 if is_reached(cold) else 5


def check(folder: Path, cache: Path) -> CheckTiming:
    """Run `convscope data check FOLDER` with that cache."""
    variables = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [CONVSCOPE, "data", "check", folder], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"convscope data check {folder} ended with exit code {process.returncode}")
    return CheckTiming(time.perf_counter() - start, peak)


def memory(pid: int) -> int:
    """Return the bytes of a process and its descendants; pages they share are divided among them."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    own = next(1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return own + sum(memory(int(child)) for child in children)


def is_reached(cold: Timings) -> bool:
    """Return whether the largest set meets the targets."""
    smallest, largest = min(cold), max(cold)
    seconds = {count: median(one.seconds for one in many) for count, many in cold.items()}
    rate = largest / seconds[largest]
    further = (seconds[largest] - seconds[smallest]) / max(1, largest - smallest)
    peak = max(one.peak for one in cold[largest])
    growth = further / (seconds[smallest] / smallest)
    return rate >= MIN_FILES_PER_SECOND and peak < MAX_BYTES and growth <= MAX_COST_GROWTH


def report(file: Path, side: int, cold: Timings, warm: Timings) -> None:
    """Write the table into the file and to stdout."""
    rows = [
        (
            f"{count:,}",
            median_range([one.seconds for one in cold[count]]),
            f"{count / median(one.seconds for one in cold[count]):,.0f}",
            median_range([one.peak / 1e6 for one in cold[count]], 0),
            median_range([one.seconds for one in warm[count]]),
        )
        for count in cold
    ]
    heads = ("files", "empty cache, s", "files/s", "peak memory of all processes, MB", "filled cache, s")
    text = (
        f"## Checking and decoding image files\n\n`bench_images.py`, {today()}, JPEGs of {side}x{side}, "
        f"{len(os.sched_getaffinity(0))} cores; median (min to max).\n\n{table(heads, rows)}"
    )
    print(text)
    put(file, "images", text)


if __name__ == "__main__":
    sys.exit(main())
