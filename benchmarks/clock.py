"""When this process began, for programs whose time limit includes their start."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_start() -> float:
    """Return the moment this process began, by `time.monotonic()`; Linux only."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.monotonic() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
