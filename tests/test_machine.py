"""The facts about this machine."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from itertools import count
from pathlib import Path

import pytest

from convscope import machine
from convscope.machine import Machine, this_machine, usable_cores, worthwhile_threads


def test_the_facts_are_this_machines() -> None:
    found = this_machine(3)
    assert found.threads == 3
    assert found.cores == usable_cores() <= (os.cpu_count() or 1)
    assert found.python == platform.python_version()
    assert found.system == f"{platform.system()} {platform.machine()}"
    assert found.processor
    assert found.versions == {
        name: metadata.version(name) for name in ("convscope", "numpy", "torch", "onnxruntime", "pillow")
    }
    assert Machine.model_validate_json(found.model_dump_json()) == found


def test_cores_are_those_that_this_process_may_use() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("only Linux pins a process to cores")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == len(before)


def test_the_peak_is_the_best_of_several_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """1024 x 1024 x 1024 multiply-adds, two operations each, once in half a second and else in two."""
    instants = (100 * i + seconds for i in count() for seconds in (0.0, 0.5 if i == 3 else 2.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(instants))
    assert this_machine(1).peak_gflops == round(2 * 1024**3 / 0.5 / 1e9, 1) == 4.3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7763 : 64-Core\nmodel name\t: second\n", "AMD EPYC 7763 : 64-Core"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "from platform"),
        (None, "from platform"),
    ],
)
def test_the_processor_has_a_name_on_every_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "from platform")
    assert machine._processor() == expected


def test_the_summary_is_one_line() -> None:
    found = this_machine(1).model_copy(update={"processor": "Abacus", "cores": 4, "threads": 2, "peak_gflops": 213.6})
    assert found.summary == "Abacus, 2 of 4 cores, 214 GFLOP/s float32"


@pytest.mark.parametrize(
    ("work", "cores", "variable", "expected"),
    [
        (0, 4, None, 1),
        (49_999_999, 4, None, 1),
        (50_000_000, 4, None, 2),
        (10**12, 4, None, 3),
        (10**12, 1, None, 1),
        (10**12, 4, "3", 3),
        (10**12, 4, "16", 16),
        (50_000_000, 4, "16", 2),
        (10**12, 4, "0", 1),
        (10**12, 4, "", 3),
        (10**12, 4, "4,2", 3),
    ],
)
def test_there_are_no_more_threads_than_there_is_work_for(
    monkeypatch: pytest.MonkeyPatch, work: int, cores: int, variable: str | None, expected: int
) -> None:
    """25 million multiply-adds for each, and at most what the user or the machine allows."""
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert worthwhile_threads(work) == expected
