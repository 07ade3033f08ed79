"""How fast are pictures checked and decoded, and in how much memory?

    bench_pictures.py [--counts 1000 10000 100000] [--side 128] [--rounds 3] [--into RESULTS.md]

`convscope data check` on synthetic JPEGs with an empty cache, and again with the cache that it left: seconds of the
whole process, and the memory of all its processes together (proportional set size, Linux). It goes into RESULTS.md.
Exit code 5: the largest set is decoded at less than 1,500 files/s, or takes 1 GB or more, or its cost per file is over
1.5 times that of the smallest.
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

from make_pictures import write
from peers import HERE
from speed_report import put, spread, table, today
from speed_rows import CONVSCOPE

LEAST_RATE, MOST_BYTES, MOST_GROWTH = 1500, 10**9, 1.5


@dataclass(frozen=True)
class AuditReport:
    """Seconds and peak bytes of one process with its helpers."""

    seconds: float
    peak: int


def main() -> int:
    """Measure, report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="room for some GB")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    first: dict[int, list[AuditReport]] = {}
    second: dict[int, list[AuditReport]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for count in options.counts:
            write(Path(folder, str(count)), count, options.side)
        for _ in range(options.rounds):
            for count in options.counts:
                cache = Path(folder, "cache")
                first.setdefault(count, []).append(check(Path(folder, str(count)), cache))
                second.setdefault(count, []).append(check(Path(folder, str(count)), cache))
                shutil.rmtree(cache)
    report(options.into, options.side, first, second)
    return 0 if reached(first) else 5


def check(folder: Path, cache: Path) -> AuditReport:
    """`convscope data check FOLDER`, with that cache."""
    variables = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [CONVSCOPE, "data", "check", folder], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"convscope data check {folder} ended with {process.returncode}")
    return AuditReport(time.perf_counter() - start, peak)


def memory(pid: int) -> int:
    """Bytes of a process and of those it started, each page that some share counted in shares."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    own = next(1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return own + sum(memory(int(child)) for child in children)


def reached(first: dict[int, list[AuditReport]]) -> bool:
    """Whether the largest set meets the targets."""
    least, most = min(first), max(first)
    seconds = {count: median(one.seconds for one in many) for count, many in first.items()}
    rate = most / seconds[most]
    per_file = (seconds[most] - seconds[least]) / max(1, most - least), seconds[least] / least
    peak = max(one.peak for one in first[most])
    return rate >= LEAST_RATE and peak < MOST_BYTES and per_file[0] <= MOST_GROWTH * per_file[1]


def report(file: Path, side: int, first: dict[int, list[AuditReport]], second: dict[int, list[AuditReport]]) -> None:
    """The table, into the file and onto stdout."""
    rows = [
        (
            f"{count:,}",
            spread([one.seconds for one in first[count]]),
            f"{count / median(one.seconds for one in first[count]):,.0f}",
            spread([one.peak / 1e6 for one in first[count]], 0),
            spread([one.seconds for one in second[count]]),
        )
        for count in first
    ]
    heads = ("files", "first time, s", "files/s", "all processes' peak, MB", "again, s")
    text = (
        f"## Pictures: checked and decoded once\n\n`bench_pictures.py`, {today()}, JPEGs of {side}x{side}, "
        f"{len(os.sched_getaffinity(0))} cores; median (min to max).\n\n{table(heads, rows)}"
    )
    print(text)
    put(file, "pictures", text)


if __name__ == "__main__":
    sys.exit(main())
