"""Limits of containers, read from folders as Linux has them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from convscope import _cgroups, _hardware
from convscope._cgroups import cpu_quota, memory_left
from convscope._hardware import available_memory, usable_cores

Files = dict[str, str]
MEMBER = "0::/work/job\n"
V1_MEMBER = "11:cpu,cpuacct:/work\n9:memory:/work\n1:name=systemd:/work\n0::/\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for /sys/fs/cgroup."""
    monkeypatch.setattr(_cgroups, "MOUNT", tmp_path)
    monkeypatch.setattr(_cgroups, "MEMBERSHIP", tmp_path / "self")
    return tmp_path


def create(folder: Path, membership: str, files: Files) -> None:
    (folder / "self").write_text(membership)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (MEMBER, {"work/job/cpu.max": "150000 100000"}, 1.5),
        (MEMBER, {"work/job/cpu.max": "max 100000"}, math.inf),
        (MEMBER, {"work/cpu.max": "200000 100000", "work/job/cpu.max": "max 100000"}, 2.0),  # the group above counts
        (MEMBER, {"work/cpu.max": "50000 100000", "work/job/cpu.max": "300000 100000"}, 0.5),
        ("0::/../../elsewhere\n", {"cpu.max": "100000 100000"}, 1.0),  # in a container, its own group is the root
        (
            V1_MEMBER,
            {"cpu,cpuacct/work/cpu.cfs_quota_us": "250000", "cpu,cpuacct/work/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        (V1_MEMBER, {"cpu/work/cpu.cfs_quota_us": "-1", "cpu/work/cpu.cfs_period_us": "100000"}, math.inf),
        (V1_MEMBER, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1.0),
        (MEMBER, {"work/job/cpu.max": "nonsense"}, math.inf),
        ("", {}, math.inf),
    ],
)  # fmt: skip
def test_cpu_quota_is_the_lowest_of_all_groups(write: Path, membership: str, files: Files, expected: float) -> None:
    create(write, membership, files)
    assert cpu_quota() == expected


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (
            MEMBER,
            {
                "work/job/memory.max": "8000", "work/job/memory.current": "5000",
                "work/job/memory.stat": "anon 3000\ninactive_file 1500",
            },
            4500,
        ),
        (MEMBER, {"work/memory.max": "9000", "work/memory.current": "2000", "work/job/memory.max": "max"}, 7000),
        (MEMBER, {"work/job/memory.max": "8000", "work/job/memory.current": "9000"}, 0),
        (
            V1_MEMBER,
            {
                "memory/work/memory.limit_in_bytes": "8000", "memory/work/memory.usage_in_bytes": "6000",
                "memory/work/memory.stat": "cache 1\ntotal_inactive_file 1000",
            },
            3000,
        ),
        (V1_MEMBER, {"memory/work/memory.limit_in_bytes": "9223372036854771712"}, math.inf),
        ("", {}, math.inf),
    ],
)  # fmt: skip
def test_memory_left_is_the_lowest_of_all_groups(write: Path, membership: str, files: Files, expected: float) -> None:
    create(write, membership, files)
    assert memory_left() == expected


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.0, 1), (1.9, 1), (3.0, 3), (math.inf, 4)])
def test_usable_cores_obey_the_quota(monkeypatch: pytest.MonkeyPatch, quota: float, expected: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(_hardware, "cpu_quota", lambda: quota)
    assert usable_cores() == expected


def test_available_memory_obeys_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e6 < available_memory() < 1e14
    monkeypatch.setattr(_hardware, "memory_left", lambda: 5e5)
    assert available_memory() == 5e5
