"""norm_act_pool against its reference in float64: values, every gradient, and the running statistics."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from convscope.backends.native import backend
from convscope.backends.native import norm_act_pool as module
from convscope.backends.native.norm_act_pool import norm_act_pool, norm_act_pool_ref
from convscope.backends.native.reference_ops import Pooling
from helpers.kernels import FUSED_ACTIVATIONS, needs_native, record_kernels, use_native_threads

# (n, channels, h, w): fewer channels than a register, as many, more; cells outside every window
SHAPES = [(3, 3, 5, 7), (2, 16, 6, 6), (3, 19, 7, 9)]
POOLS: list[Pooling | None] = [None, ("max", 2), ("min", 3), ("average", 2), ("average", 3), ("max", 4)]
POSITIONS: list[tuple[Pooling | None, bool]] = [(None, False), (("max", 2), True), (("max", 2), False)]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1.2e-2}  # of the largest value; bf16 rounds values and gradients


@dataclass(frozen=True)
class Case:
    """The arguments of norm_act_pool but for x and the norm."""

    activation: str = "none"
    pool: Pooling | None = None
    pool_first: bool = False


CASES = [Case(*case) for case in itertools.product(["none", *FUSED_ACTIVATIONS], POOLS, [False, True])]
MODES = ["", "train", "eval"]  # of the norm; "" for none


def new_norm(channels: int, mode: str) -> nn.BatchNorm2d | None:
    if not mode:
        return None
    norm = nn.BatchNorm2d(channels, momentum=0.3, eps=1e-3)
    with torch.no_grad():
        norm.weight.uniform_(-1.5, 1.5)
        norm.bias.normal_()
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm.train(mode == "train")


def new_map(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape) * 2 + 1
    return x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def run(function: Callable[..., Tensor], x: Tensor, norm: nn.BatchNorm2d | None, case: Case) -> dict[str, Tensor]:
    """The output, every gradient of a fixed random projection of it, and the statistics of the norm."""
    y = function(x, norm, case.activation, case.pool, case.pool_first)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y.dtype)
    parts = {"x": x, **(dict(norm.named_parameters()) if norm is not None else {})}
    wanted = {name: part for name, part in parts.items() if part.requires_grad}
    gradients = torch.autograd.grad((y * weights).sum(), list(wanted.values()))
    buffers = dict(norm.named_buffers()) if norm is not None else {}
    return {"y": y.detach(), **{f"d{name}": g for name, g in zip(wanted, gradients, strict=True)}, **buffers}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        exact = expected[name].double()
        assert value.shape == exact.shape, name
        scale = max(1.0, exact.abs().max().item())
        torch.testing.assert_close(value.double(), exact, rtol=0, atol=tolerance * scale, equal_nan=True, msg=name)


def compare(x: Tensor, norm: nn.BatchNorm2d | None, case: Case) -> None:
    """Compare the kernel with the reference in float64."""
    exact_norm = copy.deepcopy(norm).double() if norm is not None else None
    exact_x = x.detach().double().requires_grad_(x.requires_grad)
    actual, expected = run(norm_act_pool, x, norm, case), run(norm_act_pool_ref, exact_x, exact_norm, case)
    assert actual["y"].dtype == x.dtype
    assert_close(actual, expected, TOLERANCE[x.dtype])


@pytest.mark.slow
@needs_native
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("variant")
def test_norm_act_pool_float32_matches_reference(case: Case, mode: str) -> None:
    torch.manual_seed(0)
    for n, channels, h, w in SHAPES:
        size = case.pool[1] if case.pool else 1
        if size > min(h, w):
            continue
        if case.pool_first and mode == "train" and case.pool and n * (h // size) * (w // size) < 4:
            continue  # the statistics of two or three values amplify rounding
        compare(new_map((n, channels, h, w)), new_norm(channels, mode), case)


@pytest.mark.slow
@needs_native
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("variant")
def test_norm_act_pool_bfloat16_matches_reference(case: Case, mode: str) -> None:
    if case.pool_first and case.pool and case.pool[0] == "average":
        return  # the kernel and PyTorch round the pooled map, the reference in float64 does not: see the next test
    torch.manual_seed(0)
    compare(new_map((8, 24, 7, 9), torch.bfloat16), new_norm(24, mode), case)


@needs_native
@pytest.mark.usefixtures("variant")
def test_norm_act_pool_bfloat16_average_first_is_rounded_once() -> None:
    x = new_map((8, 24, 7, 9), torch.bfloat16)
    pooled = nn.functional.avg_pool2d(x.detach(), 2)
    torch.testing.assert_close(norm_act_pool(x, None, "none", ("average", 2), True), pooled, rtol=0, atol=0)


@needs_native
@pytest.mark.parametrize(("pool", "pool_first"), POSITIONS)
@pytest.mark.usefixtures("variant")
def test_norm_act_pool_large_mean_statistics_are_accurate(pool: Pooling | None, pool_first: bool) -> None:
    """Mean 3,000 and standard deviation 1: sums of squares in float32 would be off by several units."""
    torch.manual_seed(0)
    x = (torch.randn(40, 20, 30, 30) + 3000).contiguous(memory_format=torch.channels_last)
    norm = nn.BatchNorm2d(20, momentum=1.0)
    norm_act_pool(x, norm, "relu", pool, pool_first)
    seen = nn.functional.max_pool2d(x, 2) if pool and pool_first else x
    assert norm.running_mean is not None and norm.running_var is not None
    torch.testing.assert_close(norm.running_mean.double(), seen.double().mean((0, 2, 3)), rtol=2e-7, atol=0)
    torch.testing.assert_close(norm.running_var.double(), seen.double().var((0, 2, 3)), rtol=1e-5, atol=0)
    assert norm.num_batches_tracked is not None and norm.num_batches_tracked.item() == 1


@needs_native
@pytest.mark.parametrize(("pool", "pool_first"), POSITIONS)
def test_norm_act_pool_on_threads_is_bit_identical(pool: Pooling | None, pool_first: bool) -> None:
    torch.manual_seed(0)
    x, norm, results = new_map((30, 48, 16, 16)), new_norm(48, "train"), []
    for count in (1, 2, 3, 4):
        with use_native_threads(count):
            results.append(run(norm_act_pool, x, copy.deepcopy(norm), Case("gelu", pool, pool_first)))
    for other in results[1:]:
        assert all(torch.equal(value, other[name]) for name, value in results[0].items())


@needs_native
@pytest.mark.parametrize("activation", ["none", *FUSED_ACTIVATIONS])
@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("mode", ["", "eval"])
@pytest.mark.usefixtures("variant")
def test_norm_act_pool_nan_ties_infinity_match_reference(activation: str, kind: str, mode: str) -> None:
    """The first of equal cells is selected, and NaN before all others; closed ReLUs pass no gradient."""
    torch.manual_seed(0)
    cells = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])[torch.randint(5, (2, 20, 8, 8))]
    cells[0, :, 2, 3] = torch.nan
    if activation != "gelu":  # its slope at infinity is 1; PyTorch computes infinity * 0
        cells[1, :, 5, 5] = torch.inf
    x = cells.contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = nn.BatchNorm2d(20).eval() if mode else None
    for pool_first in (False, True):
        case = Case(activation, (kind, 2), pool_first)
        assert_close(run(norm_act_pool, x, norm, case), run(norm_act_pool_ref, x, norm, case), 2e-5)


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("activation", FUSED_ACTIVATIONS)
def test_activation_whole_range_matches_reference(activation: str) -> None:
    x = torch.cat([torch.linspace(-12, 12, 20001), torch.tensor([1e30, -1e4, 0.0, 1e-30])])[None, None, None]
    actual = run(norm_act_pool, x.requires_grad_(), None, Case(activation))
    expected = run(norm_act_pool_ref, x.detach().double().requires_grad_(), None, Case(activation))
    for name, value in actual.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=8e-6, msg=name)


@needs_native
@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias"), ("x",), ("x", "weight")])
def test_norm_act_pool_frozen_operands_other_gradients_match(frozen: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    for mode, (pool, pool_first) in itertools.product(("train", "eval"), POSITIONS[:2]):
        x, norm = new_map((4, 20, 6, 6)), new_norm(20, mode)
        assert norm is not None
        for name in frozen:
            (x if name == "x" else norm.get_parameter(name)).requires_grad_(False)
        compare(x, norm, Case("relu", pool, pool_first))


@needs_native
@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}], ids=str)
def test_norm_act_pool_bare_norm_matches_reference(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    for training in (True, False):
        compare(new_map((4, 20, 6, 6)), nn.BatchNorm2d(20, **options).train(training), Case("gelu"))


@needs_native
def test_norm_act_pool_any_layout_matches_reference() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 20, 8, 10)
    for layout in (x, x[:, :, ::2], x.transpose(2, 3), x.expand(3, 20, 8, 10)[:, 1:], x[:0], x.double()):
        for pool_first in (False, True):
            with torch.no_grad():
                norm = new_norm(layout.shape[1], "eval")
                assert norm is not None
                options = norm.to(layout.dtype), "tanh", ("max", 2), pool_first
                torch.testing.assert_close(norm_act_pool(layout, *options), norm_act_pool_ref(layout, *options))


def test_norm_act_pool_without_native_runs_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "native", None)
    x, norm = new_map((3, 20, 8, 10)), new_norm(20, "eval")
    expected = norm_act_pool_ref(x, norm, "gelu", ("min", 2), False)
    assert torch.equal(norm_act_pool(x, norm, "gelu", ("min", 2)), expected)


def test_norm_act_pool_unknown_activation_runs_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record_kernels(monkeypatch)
    monkeypatch.setattr(module, "activate", lambda x, activation: x + len(activation))
    x = new_map((3, 20, 8, 10))
    assert torch.equal(norm_act_pool(x, None, "new"), x + 3)
    assert recorder.names == []


def test_norm_act_pool_bad_input_raises_pytorchs_error() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        norm_act_pool(torch.randn(1, 4, 1, 1), nn.BatchNorm2d(4))
    with pytest.raises(RuntimeError, match=r"[Oo]utput size is too small"):
        norm_act_pool(torch.randn(1, 4, 1, 1), None, "relu", ("max", 2))


@needs_native
def test_norm_act_pool_limit_is_that_of_the_kernel() -> None:
    assert backend.native is not None
    assert backend.native.MAX_POOL_SIZE == module.MAX_POOL_SIZE
