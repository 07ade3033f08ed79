"""When a process began, for programs that are given a time from their start to their end."""

from __future__ import annotations

import os
import time
from pathlib import Path


def started() -> float:
    """By `time.monotonic()`; Linux only."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.monotonic() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
