"""The machine's own benchmark: work counted by hand, calls as training makes them, and what is made of the times."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from convscope import _hardware as machine
from convscope._hardware import busy_share, hardware_info, last_cache
from convscope.api import benchmark as bench
from convscope.api.benchmark import PEER, Bench, Training, in_turn, plain_network, training_rows
from convscope.backends.native import backend, dense, norm_act_pool, roofline, stem, step
from convscope.backends.native.backend import Precision
from convscope.backends.native.roofline import Kernel, KernelTiming, Roofline, Summary
from convscope.backends.pytorch.models import build_model
from convscope.cli import format as display
from convscope.cli.console import stdout_console
from convscope.data.dataset import Split
from convscope.network.build import parse_network
from convscope.network.presets import PRESETS
from helpers.command import Command

native = pytest.mark.skipif(
    backend.native is None and os.environ.get("CI") != "true", reason="convscope-native is not installed"
)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    torchs, ours = torch.get_num_threads(), backend.native and backend.native.threads()
    yield
    torch.set_num_threads(torchs)
    if backend.native is not None:
        backend.native.set_threads(ours)


# The work of a kernel


@native
@pytest.mark.parametrize(
    ("make", "flops", "moved"),
    [
        # 26 x 26 cells of 9 multiply-adds for 32 filters; backward one argmax in four. 28 x 28 pixels in, 13 x 13 out
        # with a argmax's byte each, 32 x 9 weights.
        (lambda: roofline.conv_act_pool(28, 1, 32, 3, pool=2, n=10),
         [10 * 26 * 26 * 32 * 18, 10 * 13 * 13 * 32 * 18],
         2 * [10 * (28 * 28 * 4 + 13 * 13 * 32 * 5) + 32 * 9 * 4]),
        (lambda: roofline.conv_act_pool(6, 3, 4, 5, pool=1, n=2),  # 2 x 2 cells of 75, none of them lost
         [2 * 4 * 4 * 150] * 2, 2 * [2 * (36 * 3 + 4 * 4) * 4 + 4 * 75 * 4]),
        (lambda: roofline.conv_act_pool(8, 1, 2, 3, pool=4, n=1),  # 6 x 6 cells, of which one window of 4 x 4 is full
         [16 * 2 * 18, 2 * 18], 2 * [64 * 4 + 2 * 5 + 2 * 9 * 4]),
        (lambda: roofline.dense(5408, 100, n=128),
         [138_444_800, 276_889_600], [(128 * 5408 + 540_800 + 12_800) * 4, (128 * 5408 + 540_800 + 12_800) * 8]),
        (lambda: roofline.dense(6, 5, bf16=True, n=2), [120, 240], [24 + 120 + 40, 2 * 184]),
        # a map in, a quarter of it out with the argmaxes; backward the map and its gradient, a quarter and the argmaxes
        (lambda: roofline.norm_act_pool(4, 3, pool=2, n=2), [0, 0], [96 * 4 + 24 * 5, 2 * 96 * 4 + 24 * 5]),
        (lambda: roofline.norm_act_pool(4, 3, pool=1, bf16=True, n=2), [0, 0], [96 * 2 * 2, 96 * 2 * 3]),
        (lambda: [roofline.gather_batch((28, 28, 1), n=128, images=200)], [0], [128 * 784 * 5]),
        (lambda: [roofline.sgd_step(542_230)], [0], [10_844_600]),
    ],
)  # fmt: skip
def test_the_work_is_what_one_counts_by_hand(
    make: Callable[[], list[Kernel]], flops: list[int], moved: list[int]
) -> None:
    made = make()
    assert [kernel.flops for kernel in made] == flops
    assert [kernel.bytes_moved for kernel in made] == moved
    for kernel in made:
        kernel.call()


class Listening:
    """convscope-native, noting each call: its name, and its arguments but for where arrays are and what is in them."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls = inner, list[tuple[Any, ...]]()

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.inner, name)

        def call(*arguments: Any) -> Any:
            self.calls.append((name, *map(noted, arguments)))
            return function(*arguments)

        return call


def noted(argument: Any) -> Any:
    if hasattr(argument, "shape"):
        return str(argument.dtype), tuple(argument.shape), isinstance(argument, torch.Tensor) and argument.stride()
    return "address" if isinstance(argument, int) and argument > 1 << 20 else argument


def train_conv_act_pool() -> None:
    weight, bias = torch.ones(8, 3, 3, 3, requires_grad=True), torch.zeros(8, requires_grad=True)
    weight = weight.to(memory_format=torch.channels_last)
    images = torch.ones(4, 3, 10, 10).contiguous(memory_format=torch.channels_last)
    stem.conv_act_pool(images, weight, bias, pool=("max", 2)).sum().backward()  # type: ignore[no-untyped-call]


def train_dense(bf16: bool) -> None:
    x = torch.ones(4, 20, dtype=torch.bfloat16 if bf16 else torch.float32, requires_grad=True)
    weight, bias = torch.ones(6, 20, requires_grad=True), torch.zeros(6, requires_grad=True)
    dense.dense(x, weight, bias, relu=True, bf16=bf16).sum().backward()  # type: ignore[no-untyped-call]


def train_norm_act_pool(bf16: bool, pool: tuple[str, int] | None) -> None:
    x = torch.rand(4, 5, 8, 8).to(torch.bfloat16 if bf16 else torch.float32).requires_grad_()
    norm_act_pool.norm_act_pool(x, torch.nn.BatchNorm2d(5), "relu", pool).sum().backward()  # type: ignore[no-untyped-call]


def run_sgd_step() -> None:
    step.sgd_step(torch.ones(30), torch.ones(30), torch.ones(30), 1e-3, 0.9, 0.0, False)


def run_gather_batch() -> None:
    step.gather_batch(np.zeros((50, 8, 8, 3), np.uint8), np.arange(4), np.zeros((256, 3), np.float32))


@native
@pytest.mark.parametrize(
    ("measured", "trained"),
    [
        (lambda: roofline.conv_act_pool(10, 3, 8, 3, pool=2, n=4), train_conv_act_pool),
        (lambda: roofline.dense(20, 6, n=4), lambda: train_dense(bf16=False)),
        (lambda: roofline.dense(20, 6, bf16=True, n=4), lambda: train_dense(bf16=True)),
        (lambda: roofline.norm_act_pool(8, 5, pool=2, n=4), lambda: train_norm_act_pool(False, ("max", 2))),
        (lambda: roofline.norm_act_pool(8, 5, pool=1, bf16=True, n=4), lambda: train_norm_act_pool(True, None)),
        (lambda: [roofline.gather_batch((8, 8, 3), n=4, images=50)], run_gather_batch),
        (lambda: [roofline.sgd_step(30)], run_sgd_step),
    ],
)
def test_what_is_measured_is_what_training_calls(
    monkeypatch: pytest.MonkeyPatch, measured: Callable[[], list[Kernel]], trained: Callable[[], None]
) -> None:
    listening = Listening(backend.native)
    monkeypatch.setattr(backend, "native", listening)
    trained()
    real, kernels = listening.calls.copy(), measured()
    listening.calls.clear()
    for kernel in kernels:
        kernel.call()
    assert listening.calls == real


@native
def test_the_article_has_each_of_them() -> None:
    names = [kernel.name for kernel in roofline.article_kernels() if kernel.precision == "float32"]
    both = [f"{name} {way}" for name in ("conv_act_pool", "dense", "norm_act_pool") for way in ("fwd", "bwd")]
    assert names == [*both, "gather_batch", "sgd_step"]


# Times and limits


def test_a_kernel_is_held_against_the_best_limit_of_all_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([40.0, 100.0, 60.0])
    seconds = {"sum": iter([[0.5, 0.1, 0.2], [0.1] * 3, [0.4] * 3]), "move": iter([[2.0], [1.0], [4.0]])}
    copies = iter([0.8, 0.5, 0.7])
    fake = SimpleNamespace(peak_gflops=lambda: next(peaks), set_threads=lambda _: None, threads=lambda: 1)
    monkeypatch.setattr(backend, "native", fake)
    monkeypatch.setattr(roofline, "_timed", lambda call, _: next(seconds[call()]))
    monkeypatch.setattr(roofline, "_copy_seconds", lambda *_: next(copies))
    monkeypatch.setattr(roofline, "last_cache", lambda: 1_000_000_000)
    kernels = [
        Kernel("sum", "big", "bf16", 10_000_000_000, 12, lambda: "sum"),
        Kernel("move", "big", "float32", 0, 4_000_000_000, lambda: "move"),
    ]
    found = roofline.roofline(kernels, threads=1, rounds=3)
    assert (found.threads, found.rounds, found.peak_gflops) == (1, 3, 100.0)
    sums, moves = found.kernels
    # 1e10 operations in 0.2 s, the median of the rounds' medians
    assert sums.milliseconds == Summary(min=100.0, median=200.0, max=400.0)
    assert (sums.unit, sums.limit) == ("GFLOP/s", 100.0)
    assert [sums.rate, sums.fraction] == pytest.approx([50, 0.5])
    # 4e9 bytes in 2 s, a copy at best in half a second
    assert moves.unit == "GB/s"
    assert [moves.rate, moves.limit, moves.fraction] == pytest.approx([2, 8, 0.25])
    assert (sums.in_cache, moves.in_cache) == (True, False)
    assert (sums.name, sums.fraction_text) == ("sum bf16", "50 % peak")
    assert (moves.name, moves.fraction_text) == ("move", "25 % copy*")


@native
def test_measured_shares_fit_their_rates() -> None:
    kernels = [*roofline.conv_act_pool(10, 1, 8, 3, pool=2, n=4), roofline.sgd_step(1000)]
    found = roofline.roofline(kernels, threads=2, rounds=2, seconds=0)
    assert backend.native is not None
    assert (backend.native.threads(), torch.get_num_threads()) == (2, 2)
    for kernel, timing in zip(kernels, found.kernels, strict=True):
        work = kernel.flops or kernel.bytes_moved
        assert timing.rate == pytest.approx(work / timing.milliseconds.median / 1e6)
        assert timing.fraction == pytest.approx(timing.rate / timing.limit)
        assert math.isfinite(timing.fraction) and timing.fraction > 0
        assert timing.limit == found.peak_gflops or not kernel.flops


def test_programs_take_turns_and_fill_the_time() -> None:
    ran: list[tuple[str, int]] = []

    def program(name: str) -> Callable[[int], float]:
        return lambda steps: ran.append((name, steps)) or 0.01 * steps  # type: ignore[func-returns-value]

    both = {"a": program("a"), "b": program("b")}
    # 0.02 s for a step of each: (seconds, most steps) -> (steps, slices)
    for given, expected in {(12, 468): (200, 3), (60, 468): (468, 6), (900, 468): (468, 9), (0, 468): (10, 3),
                            (12, 4): (4, 9)}.items():  # fmt: skip
        ran.clear()
        steps, times = in_turn(both, *given)
        slices = len(times["a"])
        assert (steps, slices) == expected
        warm_up = min(10, given[1])
        assert ran == 2 * [("a", warm_up), ("b", warm_up)] + slices * [("a", steps), ("b", steps)]
        assert times == {name: pytest.approx(slices * [0.01 * steps]) for name in both}


def test_slices_are_scaled_to_an_epoch_and_compared_one_by_one() -> None:
    rows = training_rows({"ours": [1.0, 2.0, 1.5], PEER: [3.0, 3.0, 3.0]}, steps=10, images=2560)
    assert rows == [  # 1,280 images in a slice
        Training("ours", 2560 / 3, Summary(min=2.0, median=3.0, max=4.0), 2.0),
        Training(PEER, 2560 / 6, Summary(min=6.0, median=6.0, max=6.0), 1.0),
    ]


# The programs


def test_plain_pytorch_computes_the_same_network() -> None:
    model, plain = build_model(parse_network(PRESETS["article"])), plain_network()
    weights = model.state_dict()
    rows_first = weights["dense1.weight"].view(100, 13, 13, 32)  # torch's own flatten starts with the channel
    weights["dense1.weight"] = rows_first.permute(0, 3, 1, 2).flatten(1)
    plain.load_state_dict(dict(zip(plain.state_dict(), weights.values(), strict=True)))
    assert sum(weight.numel() for weight in plain.parameters()) == 542_230
    assert not any(module.__module__.startswith("convscope") for module in plain.modules())
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-5)


def test_every_program_trains_and_times_the_steps_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5 steps the time between the end of the first, which is a sixth, and of the last."""
    random = np.random.default_rng(0)
    data = Split(random.integers(0, 256, (900, 28, 28, 1), np.uint8), random.integers(0, 10, 900))
    programs = bench.programs(data)
    assert next(iter(programs)) == "convscope, float32"
    assert list(programs)[-1] == PEER
    for run in programs.values():
        instants = iter(range(1, 1000))
        monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda instants=instants: next(instants)))
        assert run(5) == 5
        assert next(instants) == 7


# The whole


def some_kernels() -> list[Kernel]:
    return [*roofline.dense(6, 5, n=2), roofline.sgd_step(100)]


SUMMARY = {"min", "median", "max"}


def check_schema(values: dict[str, Any]) -> None:
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert list(values) == ["machine", "load", "last_cache_bytes", "kernels", "reason", "images", "batch", "steps",
                            "slices", "unsteady", "busy", "training", "roofline"]  # fmt: skip
    for row in values["training"]:
        assert set(row) == {"program", "images_per_second", "epoch_seconds", "speed"}
        assert set(row["epoch_seconds"]) == SUMMARY


@native
def test_the_whole_as_json() -> None:
    found = bench.measure(threads=1, seconds=0, images=700, kernels=some_kernels)
    values = json.loads(json.dumps(found.to_dict()))
    check_schema(values)
    assert (values["machine"]["threads"], values["images"], values["steps"], values["slices"]) == (1, 700, 5, 3)
    assert (values["kernels"], values["reason"]) == (backend.variant(), "")
    assert set(values["roofline"]) == {"threads", "rounds", "peak_gflops", "last_cache_bytes", "kernels"}
    for row in values["roofline"]["kernels"]:
        assert set(row) == {"kernel", "shape", "precision", "milliseconds", "unit", "rate", "limit", "fraction",
                            "in_cache"}  # fmt: skip
        assert set(row["milliseconds"]) == SUMMARY


def test_without_native_kernels_there_is_no_roofline_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "native", None)
    monkeypatch.setattr(backend, "reason", "it was left out")
    found = bench.measure(threads=1, seconds=0, images=700)
    check_schema(json.loads(json.dumps(found.to_dict())))
    assert (found.kernels, found.reason, found.roofline) == ("torch", "it was left out", None)
    lines = [line for line in display.bench_lines(found) if isinstance(line, str)]
    assert "kernels   torch: it was left out" in lines
    assert not any("peak" in line for line in lines)


def timing(kernel: str, shape: str, precision: Precision, **values: Any) -> KernelTiming:
    """Half of a limit, in 2 ms."""
    milliseconds, limit = Summary(min=1, median=2, max=3), 2 * values["rate"]
    return KernelTiming(kernel=kernel, shape=shape, precision=precision, milliseconds=milliseconds, limit=limit,
                        fraction=0.5, **values)  # fmt: skip


def a_bench(fastest: float = 1.0, load: float | None = 0.0) -> Bench:
    training = (
        Training("ours", 50_000.0, Summary(min=fastest, median=1.2, max=1.3), 3.5),
        Training(PEER, 1.0, Summary(min=4, median=4, max=4), 1.0),
    )
    rows = (
        timing("conv_act_pool fwd", "28x28x1 -> 32 3x3 max 2", "float32", unit="GFLOP/s", rate=300, in_cache=True),
        timing("norm_act_pool bwd", "32x32x32 relu max 2", "bf16", unit="GB/s", rate=20, in_cache=None),
    )
    limits = Roofline(threads=2, rounds=5, peak_gflops=600.0, last_cache_bytes=1 << 25, kernels=rows)
    return Bench(hardware_info(2), load, 1 << 25, "native x", "", 60_000, 128, 300, 3, training, limits)


@pytest.mark.parametrize(
    ("fastest", "load", "busy"),
    [(1.14, 0.0, False), (1.14, None, False), (1.0, None, True), (1.14, 0.11, True), (1.0, 0.5, True)],
)
def test_a_busy_machine_is_called_one(fastest: float, load: float | None, busy: bool) -> None:
    """1.3 s at most: 14 % more than 1.14 s, 30 % more than 1 s."""
    found = a_bench(fastest, load)
    said = [line for line in display.bench_lines(found) if isinstance(line, str) and line.startswith("BUSY")]
    assert found.busy == found.to_dict()["busy"] == busy == bool(said)
    if busy:
        assert f"a slice took up to {1.3 / fastest:.1f} times its fastest" in said[0]
        assert ("cores were busy before" in said[0]) == (load is not None)


def test_people_read_it_in_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console = stdout_console()
    for line in display.bench_lines(a_bench(1.14)):
        console.print(line, markup=False, soft_wrap=isinstance(line, str))
    printed = capsys.readouterr().out.splitlines()
    found = [" ".join(line.split()) for line in printed]
    assert "ours 50,000 1.14 1.20 1.30 3.5" in found
    assert "conv_act_pool fwd 28x28x1 -> 32 3x3 max 2 2.000 300 GFLOP/s 50 % peak" in found
    assert "norm_act_pool bwd bf16 32x32x32 relu max 2 2.000 20 GB/s 50 % copy" in found
    assert "peak: 600 GFLOP/s, float32 multiply-adds in registers (bf16's is not measured)" in printed
    assert max(len(line.rstrip()) for line in printed[1:]) <= 80  # the first has the processor's name


# The command and the machine


def test_the_command_passes_on_what_was_asked(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(bench, "measure", lambda *words: asked.append(words) or a_bench())  # type: ignore[func-returns-value]
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
def test_bad_words_are_refused(command: Command, words: str, message: str) -> None:
    answer = command("bench", *words.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"convscope: {message}")


@pytest.mark.parametrize(
    ("ticks", "share"), [([(10, 100), (30, 180)], 0.25), ([(5, 9), (5, 9)], 0.0), ([None, None], None)]
)
def test_the_busy_share_is_that_of_the_time_between(
    monkeypatch: pytest.MonkeyPatch, ticks: list[tuple[int, int] | None], share: float | None
) -> None:
    left = iter(ticks)
    monkeypatch.setattr(machine, "_ticks", lambda: next(left))
    assert busy_share(0) == share


def test_the_last_cache_is_larger_than_any_first_one_where_it_is_known() -> None:
    size = last_cache()
    assert size is None or size >= 1 << 17
