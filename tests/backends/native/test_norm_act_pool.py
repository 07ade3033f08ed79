"""The fused norm_act_pool against its twin in float64: values, every gradient, the running statistics."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from convscope.backends.native import backend
from convscope.backends.native.norm_act_pool import Pooling, norm_act_pool, norm_act_pool_ref

native = pytest.mark.skipif(
    backend.native is None and os.environ.get("CI") != "true", reason="convscope-native is not installed"
)
# (n, channels, h, w): channels below, at, between and above the widths of the vectors; cells that fill no window
SHAPES = [(3, 3, 5, 7), (2, 16, 6, 6), (3, 19, 7, 9)]
POOLS: list[Pooling | None] = [None, ("max", 2), ("min", 3), ("average", 2), ("average", 3), ("max", 4)]
CASES = list(itertools.product(["none", "relu", "gelu", "tanh"], POOLS, [False, True], ["", "train", "eval"]))
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1.2e-2}  # of the largest value; bf16 rounds values and gradients


@pytest.fixture(params=backend.native.variants() if backend.native is not None else [""])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    assert backend.native is not None
    before = backend.native.variant()
    backend.native.use_variant(request.param)
    yield request.param
    backend.native.use_variant(before)


def a_norm(channels: int, mode: str) -> nn.BatchNorm2d | None:
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


def a_map(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape) * 2 + 1
    return x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def outcome(
    function: object, x: Tensor, norm: nn.BatchNorm2d | None, activation: str, pool: Pooling | None, first: bool
) -> dict[str, Tensor]:
    """The output, every gradient of a fixed random projection of it, and the norm's statistics."""
    y = function(x, norm, activation, pool, first)  # type: ignore[operator]
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y.dtype)
    parts = {"x": x, **(dict(norm.named_parameters()) if norm is not None else {})}
    wanted = {name: part for name, part in parts.items() if part.requires_grad}
    gradients = torch.autograd.grad((y * weights).sum(), list(wanted.values()))
    return {"y": y.detach(), **{f"d{name}": g for name, g in zip(wanted, gradients, strict=True)},
            **(dict(norm.named_buffers()) if norm is not None else {})}  # fmt: skip


def assert_close(ours: dict[str, Tensor], truth: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == truth.keys()
    for name, value in ours.items():
        expected = truth[name].double()
        assert value.shape == expected.shape, name
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=tolerance * scale, equal_nan=True, msg=name)


def compare(x: Tensor, norm: nn.BatchNorm2d | None, activation: str, pool: Pooling | None, first: bool) -> None:
    exact = copy.deepcopy(norm).double() if norm is not None else None
    ours = outcome(norm_act_pool, x, norm, activation, pool, first)
    truth = outcome(norm_act_pool_ref, x.detach().double().requires_grad_(), exact, activation, pool, first)
    assert ours["y"].dtype == x.dtype
    assert_close(ours, truth, TOLERANCE[x.dtype])


@native
@pytest.mark.parametrize(("activation", "pool", "first", "mode"), CASES)
@pytest.mark.usefixtures("variant")
def test_chain_is_its_twin(activation: str, pool: Pooling | None, first: bool, mode: str) -> None:
    torch.manual_seed(0)
    for shape in SHAPES:
        if not pool or pool[1] <= min(shape[2:]):
            norm = a_norm(shape[1], mode)
            if first and mode == "train" and pool and shape[0] * (shape[2] // pool[1]) * (shape[3] // pool[1]) < 4:
                continue  # the statistics of two or three values amplify every rounding
            compare(a_map(shape), norm, activation, pool, first)


@native
@pytest.mark.parametrize(("activation", "pool", "first", "mode"), CASES)
@pytest.mark.usefixtures("variant")
def test_bfloat16(activation: str, pool: Pooling | None, first: bool, mode: str) -> None:
    if first and pool and pool[0] == "average":
        return  # torch and we round the pooled map to bf16, the twin in float64 does not: see the next test
    torch.manual_seed(0)
    compare(a_map((8, 24, 7, 9), torch.bfloat16), a_norm(24, mode), activation, pool, first)


@native
@pytest.mark.usefixtures("variant")
def test_bfloat16_rounds_an_average_that_comes_first_once() -> None:
    x = a_map((8, 24, 7, 9), torch.bfloat16)
    pooled = nn.functional.avg_pool2d(x.detach(), 2)
    y = norm_act_pool(x, a_norm(24, "train"), "gelu", ("average", 2), True)
    again = norm_act_pool(pooled, a_norm(24, "train"), "none")
    assert y.shape == again.shape
    torch.testing.assert_close(norm_act_pool(x, None, "none", ("average", 2), True), pooled, rtol=0, atol=0)


@native
@pytest.mark.parametrize(("pool", "first"), [(None, False), (("max", 2), True), (("max", 2), False)])
@pytest.mark.usefixtures("variant")
def test_statistics_do_not_cancel(pool: Pooling | None, first: bool) -> None:
    """Mean 3,000 and standard deviation 1: sums of squares in float32 would be off by several units."""
    torch.manual_seed(0)
    x = (torch.randn(40, 20, 30, 30) + 3000).contiguous(memory_format=torch.channels_last)
    norm = nn.BatchNorm2d(20, momentum=1.0)
    norm_act_pool(x, norm, "relu", pool, first)
    seen = nn.functional.max_pool2d(x, 2) if pool and first else x
    assert norm.running_mean is not None and norm.running_var is not None
    torch.testing.assert_close(norm.running_mean.double(), seen.double().mean((0, 2, 3)), rtol=2e-7, atol=0)
    torch.testing.assert_close(norm.running_var.double(), seen.double().var((0, 2, 3)), rtol=1e-5, atol=0)
    assert norm.num_batches_tracked is not None and norm.num_batches_tracked.item() == 1


@native
@pytest.mark.parametrize(("pool", "first"), [(None, False), (("max", 2), True), (("max", 2), False)])
def test_any_number_of_threads_gives_the_same_bits(pool: Pooling | None, first: bool) -> None:
    assert backend.native is not None
    torch.manual_seed(0)
    x, norm = a_map((30, 48, 16, 16)), a_norm(48, "train")
    before = backend.native.threads()
    results = []
    for count in (1, 2, 3, 4):
        backend.native.set_threads(count)
        results.append(outcome(norm_act_pool, x, copy.deepcopy(norm), "gelu", pool, first))
    backend.native.set_threads(before)
    for other in results[1:]:
        assert all(torch.equal(value, other[name]) for name, value in results[0].items())


@native
@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "tanh"])
@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("mode", ["", "eval"])
@pytest.mark.usefixtures("variant")
def test_nan_ties_and_infinity(activation: str, kind: str, mode: str) -> None:
    """The first of equal cells wins, NaN wins over all, as in torch; dead ReLUs pass no gradient."""
    torch.manual_seed(0)
    cells = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])[torch.randint(5, (2, 20, 8, 8))]
    cells[0, :, 2, 3] = torch.nan
    if activation != "gelu":  # its slope at infinity is 1; torch computes infinity * 0 there
        cells[1, :, 5, 5] = torch.inf
    x = cells.contiguous(memory_format=torch.channels_last).requires_grad_()
    norm, pool = nn.BatchNorm2d(20).eval() if mode else None, (kind, 2)
    for first in (False, True):
        ours, twin = (outcome(each, x, norm, activation, pool, first) for each in (norm_act_pool, norm_act_pool_ref))
        assert_close(ours, twin, 2e-5)


@native
@pytest.mark.usefixtures("variant")
def test_gelu_and_tanh_everywhere() -> None:
    x = torch.cat([torch.linspace(-12, 12, 20001), torch.tensor([1e30, -1e4, 0.0, 1e-30])])[None, None, None]
    for activation, tolerance in (("gelu", 8e-6), ("tanh", 3e-6)):
        ours = outcome(norm_act_pool, x.requires_grad_(), None, activation, None, False)
        twin = outcome(norm_act_pool_ref, x.detach().double().requires_grad_(), None, activation, None, False)
        for name, value in ours.items():
            torch.testing.assert_close(value.double(), twin[name], rtol=1e-6, atol=tolerance, msg=name)


@native
@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias"), ("x",), ("x", "weight")])
def test_gradients_that_nobody_wants_are_skipped(frozen: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    for mode, (pool, first) in itertools.product(("train", "eval"), ((None, False), (("max", 2), True))):
        x, norm = a_map((4, 20, 6, 6)), a_norm(20, mode)
        assert norm is not None
        for name in frozen:
            (x if name == "x" else norm.get_parameter(name)).requires_grad_(False)
        exact = copy.deepcopy(norm).double()
        ours = outcome(norm_act_pool, x, norm, "relu", pool, first)
        truth = outcome(
            norm_act_pool_ref, x.detach().double().requires_grad_(x.requires_grad), exact, "relu", pool, first
        )
        assert_close(ours, truth, 2e-5)


@native
def test_a_norm_without_parameters_or_running_statistics() -> None:
    torch.manual_seed(0)
    for options in ({"affine": False}, {"track_running_stats": False}):
        for training in (True, False):
            compare(a_map((4, 20, 6, 6)), nn.BatchNorm2d(20, **options).train(training), "gelu", None, False)


@native
def test_without_gradients_and_in_any_layout() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 20, 8, 10)
    for layout in (x, x[:, :, ::2], x.transpose(2, 3), x.expand(3, 20, 8, 10)[:, 1:], x[:0], x.double()):
        for first in (False, True):
            with torch.no_grad():
                norm = a_norm(layout.shape[1], "eval")
                assert norm is not None
                norm = norm.to(layout.dtype)
                y = norm_act_pool(layout, norm, "tanh", ("max", 2), first)
                torch.testing.assert_close(y, norm_act_pool_ref(layout, norm, "tanh", ("max", 2), first))


def test_without_native_the_twin_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "native", None)
    x, norm = a_map((3, 20, 8, 10)), a_norm(20, "eval")
    assert torch.equal(
        norm_act_pool(x, norm, "gelu", ("min", 2)), norm_act_pool_ref(x, norm, "gelu", ("min", 2), False)
    )


def test_what_torch_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        norm_act_pool(torch.randn(1, 4, 1, 1), nn.BatchNorm2d(4))
    with pytest.raises(RuntimeError, match=r"[Oo]utput size is too small"):
        norm_act_pool(torch.randn(1, 4, 1, 1), None, "relu", ("max", 2))
