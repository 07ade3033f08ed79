"""The roofline: work counted by hand, the same calls as training makes, and rates compared with limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from convscope.backends.native import backend, norm_act_pool, roofline, roofline_kernels, stem, step
from convscope.backends.native import dense as dense_layer
from convscope.backends.native.roofline import Summary
from convscope.backends.native.roofline_kernels import Kernel
from helpers.kernels import KernelRecorder, needs_native, record_kernels


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    torch_threads, threads = torch.get_num_threads(), backend.native and backend.native.threads()
    yield
    torch.set_num_threads(torch_threads)
    if backend.native is not None:
        backend.native.set_threads(threads)


@needs_native
@pytest.mark.parametrize(
    ("make", "flops", "bytes_moved"),
    [
        # 26 x 26 cells of 9 multiply-adds for 32 filters; backward one cell in four. 28 x 28 pixels in, 13 x 13 out
        # with a byte of argmax each, 32 x 9 weights.
        (lambda: roofline_kernels.conv_act_pool(28, 1, 32, 3, pool_size=2, n=10),
         [10 * 26 * 26 * 32 * 18, 10 * 13 * 13 * 32 * 18],
         2 * [10 * (28 * 28 * 4 + 13 * 13 * 32 * 5) + 32 * 9 * 4]),
        (lambda: roofline_kernels.conv_act_pool(6, 3, 4, 5, pool_size=1, n=2),  # 2 x 2 cells of 75, all of them used
         [2 * 4 * 4 * 150] * 2, 2 * [2 * (36 * 3 + 4 * 4) * 4 + 4 * 75 * 4]),
        (lambda: roofline_kernels.conv_act_pool(8, 1, 2, 3, pool_size=4, n=1),  # 6 x 6 cells, one window of 4 x 4
         [16 * 2 * 18, 2 * 18], 2 * [64 * 4 + 2 * 5 + 2 * 9 * 4]),
        (lambda: roofline_kernels.dense(5408, 100, n=128),
         [138_444_800, 276_889_600], [(128 * 5408 + 540_800 + 12_800) * 4, (128 * 5408 + 540_800 + 12_800) * 8]),
        (lambda: roofline_kernels.dense(6, 5, bf16=True, n=2), [120, 240], [24 + 120 + 40, 2 * 184]),
        # forward the input, and a quarter of it out with its argmax; backward two of each, and the argmax
        (lambda: roofline_kernels.norm_act_pool(4, 3, pool_size=2, n=2), [0, 0],
         [96 * 4 + 24 * 5, 2 * 96 * 4 + 24 * 5]),
        (lambda: roofline_kernels.norm_act_pool(4, 3, pool_size=1, bf16=True, n=2), [0, 0],
         [96 * 2 * 2, 96 * 2 * 3]),
        (lambda: [roofline_kernels.gather_batch((28, 28, 1), n=128, images=200)], [0], [128 * 784 * 5]),
        (lambda: [roofline_kernels.sgd_step(542_230)], [0], [10_844_600]),
    ],
)  # fmt: skip
def test_kernel_work_equals_count_by_hand(
    make: Callable[[], list[Kernel]], flops: list[int], bytes_moved: list[int]
) -> None:
    kernels = make()
    assert [kernel.flops for kernel in kernels] == flops
    assert [kernel.bytes_moved for kernel in kernels] == bytes_moved
    for kernel in kernels:
        kernel.call()


def train_conv_act_pool() -> None:
    weight, bias = torch.ones(8, 3, 3, 3, requires_grad=True), torch.zeros(8, requires_grad=True)
    weight = weight.to(memory_format=torch.channels_last)
    images = torch.ones(4, 3, 10, 10).contiguous(memory_format=torch.channels_last)
    stem.conv_act_pool(images, weight, bias, pool=("max", 2)).sum().backward()  # type: ignore[no-untyped-call]


def train_dense(bf16: bool) -> None:
    x = torch.ones(4, 20, dtype=torch.bfloat16 if bf16 else torch.float32, requires_grad=True)
    weight, bias = torch.ones(6, 20, requires_grad=True), torch.zeros(6, requires_grad=True)
    dense_layer.dense(x, weight, bias, relu=True, bf16=bf16).sum().backward()  # type: ignore[no-untyped-call]


def train_norm_act_pool(bf16: bool, pool: tuple[str, int] | None) -> None:
    x = torch.rand(4, 5, 8, 8).to(torch.bfloat16 if bf16 else torch.float32).requires_grad_()
    y = norm_act_pool.norm_act_pool(x, torch.nn.BatchNorm2d(5), "relu", pool)
    y.sum().backward()  # type: ignore[no-untyped-call]


def train_sgd_step() -> None:
    step.sgd_step(torch.ones(30), torch.ones(30), torch.ones(30), 1e-3, 0.9, 0.0, False)


def train_gather_batch() -> None:
    step.gather_batch(np.zeros((50, 8, 8, 3), np.uint8), np.arange(4), np.zeros((256, 3), np.float32))


def without_contents(value: Any) -> Any:
    """Calls without the contents and the addresses of arrays."""
    if isinstance(value, dict):
        return {name: without_contents(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [without_contents(item) for item in value]
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape
    return "address" if isinstance(value, int) and value > 1 << 20 else value


def take_calls(recorder: KernelRecorder) -> Any:
    calls = without_contents(recorder.calls)
    recorder.calls.clear()
    return calls


@needs_native
@pytest.mark.parametrize(
    ("make", "train"),
    [
        (lambda: roofline_kernels.conv_act_pool(10, 3, 8, 3, pool_size=2, n=4), train_conv_act_pool),
        (lambda: roofline_kernels.dense(20, 6, n=4), lambda: train_dense(bf16=False)),
        (lambda: roofline_kernels.dense(20, 6, bf16=True, n=4), lambda: train_dense(bf16=True)),
        (
            lambda: roofline_kernels.norm_act_pool(8, 5, pool_size=2, n=4),
            lambda: train_norm_act_pool(False, ("max", 2)),
        ),
        (
            lambda: roofline_kernels.norm_act_pool(8, 5, pool_size=1, bf16=True, n=4),
            lambda: train_norm_act_pool(True, None),
        ),
        (lambda: [roofline_kernels.gather_batch((8, 8, 3), n=4, images=50)], train_gather_batch),
        (lambda: [roofline_kernels.sgd_step(30)], train_sgd_step),
    ],
    ids=["conv_act_pool", "dense", "dense bf16", "norm_act_pool", "norm_act_pool bf16", "gather_batch", "sgd_step"],
)
def test_kernel_calls_equal_those_of_training(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], list[Kernel]], train: Callable[[], None]
) -> None:
    recorder = record_kernels(monkeypatch)
    train()
    expected = take_calls(recorder)
    kernels = make()
    recorder.calls.clear()  # of the preparation
    for kernel in kernels:
        kernel.call()
    assert take_calls(recorder) == expected


@needs_native
def test_article_kernels_are_one_of_each_kind() -> None:
    names = [kernel.name for kernel in roofline_kernels.article_kernels() if kernel.precision == "float32"]
    both = [f"{name} {way}" for name in ("conv_act_pool", "dense", "norm_act_pool") for way in ("fwd", "bwd")]
    assert names == [*both, "gather_batch", "sgd_step"]


def test_roofline_rates_are_compared_with_best_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([40.0, 100.0, 60.0])
    seconds = {"sum": iter([[0.5, 0.1, 0.2], [0.1] * 3, [0.4] * 3]), "move": iter([[2.0], [1.0], [4.0]])}
    copies = iter([0.8, 0.5, 0.7])
    fake = SimpleNamespace(peak_gflops=lambda: next(peaks), set_threads=lambda _: None, threads=lambda: 1)
    monkeypatch.setattr(backend, "native", fake)
    monkeypatch.setattr(roofline, "_time_calls", lambda call, _: next(seconds[call()]))
    monkeypatch.setattr(roofline, "_copy_seconds", lambda *_: next(copies))
    monkeypatch.setattr(roofline, "last_level_cache", lambda: 1_000_000_000)
    kernels = [
        Kernel("sum", "big", "bf16", 10_000_000_000, 12, lambda: "sum"),
        Kernel("move", "big", "float32", 0, 4_000_000_000, lambda: "move"),
    ]
    measured = roofline.roofline(kernels, threads=1, rounds=3)
    assert (measured.threads, measured.rounds, measured.peak_gflops) == (1, 3, 100.0)
    sums, moves = measured.kernels
    # 1e10 operations in 0.2 s, the median of the rounds' medians
    assert sums.milliseconds == Summary(min=100.0, median=200.0, max=400.0)
    assert (sums.unit, sums.limit) == ("GFLOP/s", 100.0)
    assert [sums.rate, sums.fraction] == pytest.approx([50, 0.5])
    # 4e9 bytes in 2 s, a copy in 0.5 s at best
    assert moves.unit == "GB/s"
    assert [moves.rate, moves.limit, moves.fraction] == pytest.approx([2, 8, 0.25])
    assert (sums.in_cache, moves.in_cache) == (True, False)
    assert (sums.name, sums.fraction_text) == ("sum bf16", "50 % peak")
    assert (moves.name, moves.fraction_text) == ("move", "25 % copy*")


@needs_native
def test_roofline_measured_fractions_match_rates() -> None:
    kernels = [*roofline_kernels.conv_act_pool(10, 1, 8, 3, pool_size=2, n=4), roofline_kernels.sgd_step(1000)]
    measured = roofline.roofline(kernels, threads=2, rounds=2, seconds=0)
    assert backend.native is not None
    assert (backend.native.threads(), torch.get_num_threads()) == (2, 2)
    for kernel, timing in zip(kernels, measured.kernels, strict=True):
        work = kernel.flops or kernel.bytes_moved
        assert timing.rate == pytest.approx(work / timing.milliseconds.median / 1e6)
        assert timing.fraction == pytest.approx(timing.rate / timing.limit)
        assert math.isfinite(timing.fraction) and timing.fraction > 0
        assert timing.limit == measured.peak_gflops or not kernel.flops
