"""Limits of a container: the processor time and the memory that Linux control groups (versions 1 and 2) allow.

A process is in one group per version and controller; the groups above it limit it too. Systems without control groups
have no limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path, PurePosixPath

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")
UNLIMITED_BYTES = 2**60  # version 1 writes a number near 2**63 for no limit


def cpu_quota() -> float:
    """Processor seconds per second that this process may use; infinity without a limit."""
    quotas = [inf]
    for folder in _groups(""):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quotas.append(_ratio(quota, period))
    for folder in _groups("cpu"):
        quotas.append(_ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")))
    return min(quotas)


def memory_left() -> float:
    """Bytes that this process may still use before a limit is reached; infinity without a limit."""
    left = [inf]
    for folder in _groups(""):
        used = _number(folder / "memory.current") - _cached(folder / "memory.stat", "inactive_file")
        left.append(_number(folder / "memory.max", inf) - used)
    for folder in _groups("memory"):
        limit = _number(folder / "memory.limit_in_bytes", inf)
        used = _number(folder / "memory.usage_in_bytes") - _cached(folder / "memory.stat", "total_inactive_file")
        left.append(limit - used if limit < UNLIMITED_BYTES else inf)
    return max(0.0, min(left))


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's group and of those above it; controller "" stands for version 2."""
    for line in _read(MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        root = MOUNT / controllers if controllers else MOUNT
        root = root if root.is_dir() else MOUNT / controller
        group = PurePosixPath(path)
        for part in (group, *group.parents):
            folder = root / str(part).lstrip("/")
            if folder.is_dir():  # in a container, the path may be that of the host
                yield folder


def _ratio(quota: str, period: str) -> float:
    """Quota by period; infinity if there is none, which is written as "max" or as -1."""
    try:
        return int(quota) / int(period) if int(quota) > 0 else inf
    except ValueError:
        return inf


def _number(file: Path, default: float = 0.0) -> float:
    text = _read(file)
    return float(text) if text.isdecimal() else default


def _cached(file: Path, name: str) -> float:
    """Bytes of cached files that count as used but are given up when memory is needed."""
    lines = (line.split() for line in _read(file).splitlines())
    return next((float(words[1]) for words in lines if len(words) == 2 and words[0] == name), 0.0)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
