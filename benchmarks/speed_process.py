"""One measured process: is the machine quiet, how long does it take, how much memory, what does it print, and when."""

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

QUIET = 0.10  # share of busy time over all cores
EPOCH = re.compile(r"epoch (\d+)[/:]")
VALIDATION = re.compile(r"'val_accuracy': ([\d.]+)")


@dataclass(frozen=True)
class Row:
    """What to measure: a command, its whole environment, and the cores it may use (None: all)."""

    name: str
    command: list[str]
    variables: dict[str, str]
    cores: int | None = None


@dataclass
class Measured:
    """One process. `epoch_ends` are seconds from its start at which a line of an epoch was read from its stderr.

    `above` is the first of them whose validation accuracy is over 98 %. `first_epoch` and `answer` are what the program
    says itself. `busy_before` is the share of all cores that others used just before. `error` is empty for a success.
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
        """Seconds of every epoch but the first, validation included: the gaps between the lines."""
        return [b - a for a, b in zip(self.epoch_ends, self.epoch_ends[1:], strict=False)]

    @property
    def first_epoch(self) -> float | None:
        """Seconds of the first epoch by the program's own clock, validation included."""
        if "seconds_per_epoch" in self.answer:
            return float(self.answer["seconds_per_epoch"][0])
        if not self.answer.get("history"):
            return None
        training = [row["seconds"] for row in self.answer["history"]]  # the validations are in the sum only
        return float(training[0] + (self.answer["seconds"] - sum(training)) / len(training))

    @property
    def accuracy(self) -> float | None:
        """On the 10,000 test images."""
        return self.answer["test"]["accuracy"] if "test" in self.answer else self.answer.get("accuracy")

    def to_dict(self) -> dict[str, Any]:
        """For the file of raw numbers: all of the above."""
        derived = {"epoch_seconds": self.epochs, "first_epoch": self.first_epoch, "accuracy": self.accuracy}
        return asdict(self) | derived


def measure(row: Row, wait: float, limit: float) -> Measured:
    """Wait up to `wait` seconds for a quiet machine, then run `row`; it is killed after `limit` seconds."""
    result = Measured(row.name, busy_before=quiet(wait))
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        with on_cores(row.cores):
            process = subprocess.Popen(row.command, env=row.variables, stdout=out, stderr=subprocess.PIPE, text=True)
        killer = threading.Timer(limit, process.send_signal, [signal.SIGKILL])
        killer.start()
        try:
            said = _listen(process, start, result)
        except BaseException:  # nothing is left running when the measuring is stopped
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
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        late = f", stopped after {limit:.0f} s" if result.seconds >= limit else ""
        result.error = f"exit code {process.returncode}{late}: {last}"
    elif "{" in printed:
        result.answer = json.loads(printed[printed.index("{") :])
    print(f"  {row.name}: {result.error or f'{result.seconds:.1f} s, {result.peak_mib:.0f} MiB'}", file=sys.stderr)
    return result


@contextmanager
def on_cores(number: int | None) -> Iterator[None]:
    """What is started inside may use the first `number` cores only; None: all that we may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def quiet(wait: float) -> float:
    """The share of all cores that is busy over one second; asked again for up to `wait` seconds until it is small."""
    end = time.monotonic() + wait
    while (busy := _busy_share()) > QUIET and time.monotonic() < end:
        pass
    if busy > QUIET:
        print(f"  not quiet: {100 * busy:.0f} % of the cores are busy", file=sys.stderr)
    return busy


def interleave(rows: list[Row], rounds: int, wait: float, limit: float) -> dict[str, list[Measured]]:
    """Every row once, then every row again, ...; a fresh process each."""
    results: dict[str, list[Measured]] = {row.name: [] for row in rows}
    for number in range(1, rounds + 1):
        print(f" round {number} of {rounds}", file=sys.stderr)
        for row in rows:
            results[row.name].append(measure(row, wait, limit))
    return results


def _listen(process: subprocess.Popen[str], start: float, result: Measured) -> list[str]:
    said = []
    for line in process.stderr or ():
        now = time.perf_counter() - start
        said.append(line)
        if EPOCH.match(line):
            result.epoch_ends.append(now)
            validation = VALIDATION.search(line)
            if validation and float(validation[1]) > 0.98 and result.above is None:
                result.above = now
    return said


def _busy_share() -> float:
    before = _ticks()
    time.sleep(1)
    busy, everything = (b - a for a, b in zip(before, _ticks(), strict=True))
    return busy / max(1, everything)


def _ticks() -> tuple[int, int]:
    """Busy and all ticks of all cores since the machine started; low-priority work counts as busy."""
    user, nice, system, idle, waiting, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + waiting
