"""Processor, cores, threads and memory settings."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from convscope import _hardware as machine
from convscope._hardware import (
    HardwareInfo,
    hardware_info,
    has_bf16,
    keep_freed_memory,
    max_threads,
    process_start,
    slowdown,
    usable_cores,
)


def test_hardware_info_describes_this_machine() -> None:
    found = hardware_info(3)
    assert found.threads == 3
    assert found.cores == usable_cores() <= (os.cpu_count() or 1)
    assert found.python == platform.python_version()
    assert found.system == f"{platform.system()} {platform.machine()}"
    assert found.processor
    assert found.versions == {
        name: metadata.version(name) for name in ("convscope", "numpy", "torch", "onnxruntime", "pillow")
    }
    assert HardwareInfo.model_validate_json(found.model_dump_json()) == found


def test_usable_cores_follow_the_affinity() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("only Linux pins a process to cores")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == len(before)


@pytest.mark.parametrize(
    ("durations", "best"),
    [
        ([0.02, 0.02, 0.02, 0.02], 0.02),
        ([0.02, 0.02, 0.02, 0.005, 0.02, 0.02, 0.02], 0.005),
        ([0.03, 0.02, 0.01, 0.00999, 0.00998, 0.00997], 0.00997),  # less than 1 % faster does not count
        ([0.2, 0.15, 0.1, 0.05], 0.05),  # 0.5 s is the limit
    ],
)
def test_peak_is_the_fastest_product_until_three_are_not_faster(
    monkeypatch: pytest.MonkeyPatch, durations: list[float], best: float
) -> None:
    """768 x 768 x 768 multiply-adds of two operations."""
    instants = [100 * i + seconds for i, duration in enumerate(durations) for seconds in (0.0, duration)]
    left = iter(instants)
    monkeypatch.setattr(time, "perf_counter", lambda: next(left))
    assert hardware_info(1).peak_gflops == round(2 * 768**3 / best / 1e9, 1)
    assert next(left, None) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7763 : 64-Core\nmodel name\t: second\n", "AMD EPYC 7763 : 64-Core"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "from platform"),
        (None, "from platform"),
    ],
)
def test_processor_name_is_found_on_every_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "from platform")
    assert machine._processor() == expected


def test_summary_is_one_line() -> None:
    found = hardware_info(1).model_copy(update={"processor": "Abacus", "cores": 4, "threads": 2, "peak_gflops": 213.6})
    assert found.summary == "Abacus, 2 of 4 cores, 214 GFLOP/s float32"


@pytest.mark.parametrize(
    ("cores", "variable", "expected"),
    [(4, None, 4), (1, None, 1), (4, "3", 3), (4, "16", 16), (4, "0", 1), (4, "", 4), (4, "4,2", 4)],
)
def test_max_threads_follows_variable_or_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, variable: str | None, expected: int
) -> None:
    """$OMP_NUM_THREADS if it is a number, else one thread per core."""
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert max_threads() == expected


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (False, True), (True, False)])
def test_has_bf16_with_either_instruction_set_is_true(monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    assert has_bf16() is (avx512 or amx)


@pytest.mark.parametrize("library", ["glibc", "musl", ""])
def test_keep_freed_memory_sets_options_of_glibc_only(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    asked: list[tuple[int, int]] = []
    libc = SimpleNamespace(mallopt=lambda option, value: asked.append((option, value)))
    monkeypatch.setattr("ctypes.CDLL", lambda _: libc)
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, "1"))
    keep_freed_memory()
    assert sorted(asked) == ([(-4, 0), (-1, 2**31 - 1)] if library == "glibc" else [])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process started")
def test_process_start_includes_the_time_before_the_import() -> None:
    code = (
        "import time; time.sleep(.7); from convscope._hardware import process_start as s; print(time.monotonic() - s())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.7 <= float(done.stdout) < 10
    assert process_start() <= time.monotonic()


def test_process_start_system_does_not_tell_is_the_used_processor_time_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", unreadable)
    before = time.monotonic() - time.process_time()
    assert before - 0.1 <= process_start() <= time.monotonic()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process started")
@pytest.mark.parametrize("uptime", [0.0, 5.0, 1e9])
def test_process_start_clock_of_a_container_is_not_believed(monkeypatch: pytest.MonkeyPatch, uptime: float) -> None:
    """The process seems to have started in the future, or long ago."""
    monkeypatch.setattr(time, "clock_gettime", lambda _: uptime)
    before = time.monotonic() - time.process_time()
    assert before - 0.1 <= process_start() <= time.monotonic()


@pytest.mark.parametrize(
    ("waited", "cores", "expected"), [(0.1, 2, 1.0), (0.11, 2, 1.0), (0.15, 2, 2.0), (0.4, 4, 4.75)]
)
def test_slowdown_is_that_of_work_on_all_cores(
    monkeypatch: pytest.MonkeyPatch, waited: float, cores: int, expected: float
) -> None:
    """Two processes on two cores: a third gets two thirds of one, and two more threads get half of both."""
    wall, cpu = iter([10.0, 10.0 + waited]), iter([5.0, 5.05, 5.11])
    monkeypatch.setattr(time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(time, "thread_time", lambda: next(cpu))
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    assert slowdown(0.1) == pytest.approx(expected)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_available_memory_obeys_the_limit_of_the_address_space() -> None:
    program = (
        "import resource; from convscope._hardware import available_memory; "
        "resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, resource.RLIM_INFINITY)); print(available_memory())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 10**9 < float(printed) < 2 * 10**9
