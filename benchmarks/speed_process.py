"""Measure one process: its time, its memory, the lines it prints and when, and whether the machine was quiet."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MAX_BUSY = 0.10  # fraction of all cores; the machine is quiet below it
EPOCH_LINE = re.compile(r"epoch (\d+)[/:]")
VALIDATION_ACCURACY = re.compile(r"'val_accuracy': ([\d.]+)")


@dataclass(frozen=True)
class Row:
    """A process to measure: a command, all its environment variables, and the number of its cores (None: all)."""

    name: str
    command: list[str]
    variables: dict[str, str]
    cores: int | None = None


@dataclass
class Measurement:
    """One measured process.

    epoch_ends: seconds from its start until each line about an epoch was read from its stderr. above: the first of them
    with a validation accuracy over 98 %. answer: the JSON object it printed. busy_before: fraction of all cores in use
    just before it started. error: empty on success.
    """

    name: str
    seconds: float = 0.0
    peak_mib: float = 0.0
    busy_before: float = 0.0
    error: str = ""
    epoch_ends: list[float] = field(default_factory=list)
    above: float | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> list[float]:
        """Seconds of every epoch except the first, validation included: the gaps between the lines."""
        return [b - a for a, b in zip(self.epoch_ends, self.epoch_ends[1:], strict=False)]

    @property
    def first_epoch(self) -> float | None:
        """Seconds of the first epoch as the program reports it, validation included."""
        if "seconds_per_epoch" in self.answer:
            return float(self.answer["seconds_per_epoch"][0])
        if not self.answer.get("history"):
            return None
        training = [row["seconds"] for row in self.answer["history"]]  # only the sum includes the validations
        return float(training[0] + (self.answer["train_seconds"] - sum(training)) / len(training))

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the 10,000 test images."""
        return self.answer["evaluation"]["accuracy"] if "evaluation" in self.answer else self.answer.get("accuracy")

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and properties, for the file of raw numbers."""
        derived = {"epoch_seconds": self.epochs, "first_epoch": self.first_epoch, "accuracy": self.accuracy}
        return asdict(self) | derived


def measure(row: Row, wait: float, limit: float) -> Measurement:
    """Wait up to `wait` seconds for a quiet machine, then run the row; kill it after `limit` seconds."""
    result = Measurement(row.name, busy_before=quiet(wait))
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        with on_cores(row.cores):
            process = subprocess.Popen(row.command, env=row.variables, stdout=out, stderr=subprocess.PIPE, text=True)
        killer = threading.Timer(limit, process.send_signal, [signal.SIGKILL])
        killer.start()
        try:
            lines = _read_lines(process, start, result)
        except BaseException:  # leaves no process running
            killer.cancel()
            process.kill()
            raise
        _, status, usage = os.wait4(process.pid, 0)
        killer.cancel()
        result.seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        result.peak_mib = usage.ru_maxrss / 1024
        out.seek(0)
        printed = out.read()
    if process.returncode:
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        late = f", killed after {limit:.0f} s" if result.seconds >= limit else ""
        result.error = f"exit code {process.returncode}{late}: {last}"
    elif "{" in printed:
        result.answer = json.loads(printed[printed.index("{") :])
    print(f"  {row.name}: {result.error or f'{result.seconds:.1f} s, {result.peak_mib:.0f} MiB'}", file=sys.stderr)
    return result


@contextmanager
def on_cores(number: int | None) -> Iterator[None]:
    """Restrict processes started inside to the first `number` cores; None: all cores of this process."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def quiet(wait: float) -> float:
    """Wait up to `wait` seconds for a quiet machine; return the busy fraction of all cores in the last second."""
    end = time.monotonic() + wait
    while (busy := _busy_fraction()) > MAX_BUSY and time.monotonic() < end:
        pass
    if busy > MAX_BUSY:
        print(f"  not quiet: {100 * busy:.0f} % of the cores are busy", file=sys.stderr)
    return busy


def interleave(rows: list[Row], rounds: int, wait: float, limit: float) -> dict[str, list[Measurement]]:
    """Measure every row once, then every row again, and so on, each in a new process."""
    results: dict[str, list[Measurement]] = {row.name: [] for row in rows}
    for number in range(1, rounds + 1):
        print(f" round {number} of {rounds}", file=sys.stderr)
        for row in rows:
            results[row.name].append(measure(row, wait, limit))
    return results


def _read_lines(process: subprocess.Popen[str], start: float, result: Measurement) -> list[str]:
    lines = []
    for line in process.stderr or ():
        now = time.perf_counter() - start
        lines.append(line)
        if EPOCH_LINE.match(line):
            result.epoch_ends.append(now)
            validation = VALIDATION_ACCURACY.search(line)
            if validation and float(validation[1]) > 0.98 and result.above is None:
                result.above = now
    return lines


def _busy_fraction() -> float:
    earlier = _ticks()
    time.sleep(1)
    busy, total = (b - a for a, b in zip(earlier, _ticks(), strict=True))
    return busy / max(1, total)


def _ticks() -> tuple[int, int]:
    """Return busy and total ticks of all cores since the machine booted; low-priority work counts as busy."""
    user, nice, system, idle, waiting, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + waiting
