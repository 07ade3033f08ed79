"""The benchmark: programs, times and their summary, and the command."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from convscope import _hardware as machine
from convscope._hardware import busy_fraction, hardware_info, last_level_cache
from convscope.api import benchmark
from convscope.api.benchmark import (
    BASELINE,
    BenchmarkResult,
    ProgramTiming,
    pytorch_network,
    summarize_times,
    time_in_turns,
)
from convscope.backends.native import backend, roofline_kernels
from convscope.backends.native.backend import Precision
from convscope.backends.native.roofline import KernelTiming, Roofline, Summary
from convscope.backends.native.roofline_kernels import Kernel
from convscope.backends.pytorch.models import build_model
from convscope.cli.console import stdout_console
from convscope.cli.format_models import bench_lines
from convscope.data.dataset import Split
from convscope.network.build import parse_network
from convscope.network.presets import PRESETS
from helpers.command import Command

pytestmark = pytest.mark.slow

native = pytest.mark.skipif(
    backend.native is None and os.environ.get("CI") != "true", reason="convscope-native is not installed"
)


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    torchs, ours = torch.get_num_threads(), backend.native and backend.native.threads()
    yield
    torch.set_num_threads(torchs)
    if backend.native is not None:
        backend.native.set_threads(ours)


def program_timing(
    name: str, images_per_second: float, epoch_seconds: tuple[float, float, float], speedup: float
) -> ProgramTiming:
    least, middle, most = epoch_seconds
    summary = Summary(min=least, median=middle, max=most)
    return ProgramTiming(program=name, images_per_second=images_per_second, epoch_seconds=summary, speedup=speedup)


def test_time_in_turns_fills_the_time() -> None:
    ran: list[tuple[str, int]] = []

    def program(name: str) -> Callable[[int], float]:
        return lambda steps: ran.append((name, steps)) or 0.01 * steps  # type: ignore[func-returns-value]

    both = {"a": program("a"), "b": program("b")}
    # 0.02 s for a step of each: (seconds, most steps) -> (steps, slices)
    for given, expected in {(12, 468): (200, 3), (60, 468): (468, 6), (900, 468): (468, 9), (0, 468): (10, 3),
                            (12, 4): (4, 9)}.items():  # fmt: skip
        ran.clear()
        steps, times = time_in_turns(both, *given)
        slices = len(times["a"])
        assert (steps, slices) == expected
        warm_up = min(10, given[1])
        assert ran == 2 * [("a", warm_up), ("b", warm_up)] + slices * [("a", steps), ("b", steps)]
        assert times == {name: pytest.approx(slices * [0.01 * steps]) for name in both}


def test_summarize_times_scales_to_epoch_and_compares_slice_by_slice() -> None:
    rows = summarize_times({"ours": [1.0, 2.0, 1.5], BASELINE: [3.0, 3.0, 3.0]}, steps=10, images=2560)
    assert rows == [  # 1,280 images in a slice
        program_timing("ours", 2560 / 3, (2.0, 3.0, 4.0), 2.0),
        program_timing(BASELINE, 2560 / 6, (6.0, 6.0, 6.0), 1.0),
    ]


# The programs


def test_pytorch_network_computes_the_same_logits() -> None:
    model, plain = build_model(parse_network(PRESETS["article"])), pytorch_network()
    weights = model.state_dict()
    rows_first = weights["dense1.weight"].view(100, 13, 13, 32)  # torch's own flatten starts with the channel
    weights["dense1.weight"] = rows_first.permute(0, 3, 1, 2).flatten(1)
    plain.load_state_dict(dict(zip(plain.state_dict(), weights.values(), strict=True)))
    assert sum(weight.numel() for weight in plain.parameters()) == 542_230
    assert not any(module.__module__.startswith("convscope") for module in plain.modules())
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-5)


def test_programs_time_the_requested_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time from the end of an extra first step to the end of the last of 5 steps."""
    random = np.random.default_rng(0)
    data = Split(random.integers(0, 256, (900, 28, 28, 1), np.uint8), random.integers(0, 10, 900))
    programs = benchmark.make_programs(data)
    assert next(iter(programs)) == "convscope, float32"
    assert list(programs)[-1] == BASELINE
    for run in programs.values():
        instants = iter(range(1, 1000))
        monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=lambda instants=instants: next(instants)))
        assert run(5) == 5
        assert next(instants) == 7


# The result


def some_kernels() -> list[Kernel]:
    return [*roofline_kernels.dense(6, 5, n=2), roofline_kernels.sgd_step(100)]


SUMMARY = {"min", "median", "max"}


def check_schema(values: dict[str, Any]) -> None:
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert list(values) == ["machine", "load", "last_cache_bytes", "kernels", "reason", "images", "batch_size",
                            "steps", "slices", "training", "roofline", "slice_ratio", "busy"]  # fmt: skip
    for row in values["training"]:
        assert set(row) == {"program", "images_per_second", "epoch_seconds", "speedup"}
        assert set(row["epoch_seconds"]) == SUMMARY


@native
def test_run_benchmark_result_as_json() -> None:
    found = benchmark.run_benchmark(threads=1, seconds=0, images=700, kernels=some_kernels)
    values = json.loads(found.model_dump_json())
    check_schema(values)
    assert (values["machine"]["threads"], values["images"], values["steps"], values["slices"]) == (1, 700, 5, 3)
    assert (values["kernels"], values["reason"]) == (backend.variant(), "")
    assert set(values["roofline"]) == {"threads", "rounds", "peak_gflops", "last_cache_bytes", "kernels"}
    for row in values["roofline"]["kernels"]:
        assert set(row) == {"kernel", "shape", "precision", "milliseconds", "unit", "rate", "limit", "fraction",
                            "in_cache"}  # fmt: skip
        assert set(row["milliseconds"]) == SUMMARY


def test_run_benchmark_without_native_kernels_has_reason_and_no_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "native", None)
    monkeypatch.setattr(backend, "reason", "it was left out")
    found = benchmark.run_benchmark(threads=1, seconds=0, images=700)
    check_schema(json.loads(found.model_dump_json()))
    assert (found.kernels, found.reason, found.roofline) == ("torch", "it was left out", None)
    lines = [line for line in bench_lines(found) if isinstance(line, str)]
    assert "kernels   torch: it was left out" in lines
    assert not any("peak" in line for line in lines)


def timing(kernel: str, shape: str, precision: Precision, **values: Any) -> KernelTiming:
    """A kernel that takes 2 ms and reaches half of its limit."""
    milliseconds, limit = Summary(min=1, median=2, max=3), 2 * values["rate"]
    return KernelTiming(kernel=kernel, shape=shape, precision=precision, milliseconds=milliseconds, limit=limit,
                        fraction=0.5, **values)  # fmt: skip


def a_result(fastest: float = 1.0, load: float | None = 0.0) -> BenchmarkResult:
    training = (
        program_timing("ours", 50_000.0, (fastest, 1.2, 1.3), 3.5),
        program_timing(BASELINE, 1.0, (4, 4, 4), 1.0),
    )
    rows = (
        timing("conv_act_pool fwd", "28x28x1 -> 32 3x3 max 2", "float32", unit="GFLOP/s", rate=300, in_cache=True),
        timing("norm_act_pool bwd", "32x32x32 relu max 2", "bf16", unit="GB/s", rate=20, in_cache=None),
    )
    limits = Roofline(threads=2, rounds=5, peak_gflops=600.0, last_cache_bytes=1 << 25, kernels=rows)
    return BenchmarkResult(
        machine=hardware_info(2),
        load=load,
        last_cache_bytes=1 << 25,
        kernels="native x",
        reason="",
        images=60_000,
        batch_size=128,
        steps=300,
        slices=3,
        training=training,
        roofline=limits,
    )


@pytest.mark.parametrize(
    ("fastest", "load", "busy"),
    [(1.14, 0.0, False), (1.14, None, False), (1.0, None, True), (1.14, 0.11, True), (1.0, 0.5, True)],
)
def test_bench_lines_on_busy_machine_say_so(fastest: float, load: float | None, busy: bool) -> None:
    """The slowest slice takes 1.3 s: 14 % more than 1.14 s, 30 % more than 1 s."""
    found = a_result(fastest, load)
    warnings = [line for line in bench_lines(found) if isinstance(line, str) and line.startswith("BUSY")]
    assert found.busy == found.model_dump()["busy"] == busy == bool(warnings)
    if busy:
        assert f"the slowest slice took {1.3 / fastest:.1f} times as long as the fastest" in warnings[0]
        assert ("cores were busy before" in warnings[0]) == (load is not None)


def test_bench_lines_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console = stdout_console()
    for line in bench_lines(a_result(1.14)):
        console.print(line, markup=False, soft_wrap=isinstance(line, str))
    printed = capsys.readouterr().out.splitlines()
    found = [" ".join(line.split()) for line in printed]
    assert "ours 50,000 1.14 1.20 1.30 3.5" in found
    assert "conv_act_pool fwd 28x28x1 -> 32 3x3 max 2 2.000 300 GFLOP/s 50 % peak" in found
    assert "norm_act_pool bwd bf16 32x32x32 relu max 2 2.000 20 GB/s 50 % copy" in found
    assert "peak: 600 GFLOP/s, float32 multiply-adds in registers (not measured for bf16)" in printed
    assert max(len(line.rstrip()) for line in printed[1:]) <= 80  # the first has the processor's name


# The command and the machine


def test_bench_command_passes_its_options_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(benchmark, "run_benchmark", lambda *words: asked.append(words) or a_result())  # type: ignore[func-returns-value]
    answer = command("bench", "--threads", "2", "--seconds", "3", "--json")
    assert (answer.code, answer.err) == (0, "")
    check_schema(json.loads(answer.out))
    assert command("bench").out.startswith("machine ")
    assert asked == [(2, 3), (None, 12)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--threads 0", "Invalid value for '--threads': Input should be greater than or equal to 1"),
        ("--threads two", "Invalid value for '--threads': "),
        ("--seconds 0", "Invalid value for '--seconds': "),
        ("--seconds nan", "Invalid value for '--seconds': "),
        ("mnist", "Got unexpected extra argument"),
    ],
)
def test_bench_command_with_bad_option_fails(command: Command, words: str, message: str) -> None:
    answer = command("bench", *words.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"convscope: {message}")


@pytest.mark.parametrize(
    ("ticks", "share"), [([(10, 100), (30, 180)], 0.25), ([(5, 9), (5, 9)], 0.0), ([None, None], None)]
)
def test_busy_fraction_covers_the_time_of_the_measurement(
    monkeypatch: pytest.MonkeyPatch, ticks: list[tuple[int, int] | None], share: float | None
) -> None:
    left = iter(ticks)
    monkeypatch.setattr(machine, "_ticks", lambda: next(left))
    assert busy_fraction(0) == share


def test_last_level_cache_is_at_least_128_kib_if_known() -> None:
    size = last_level_cache()
    assert size is None or size >= 1 << 17
