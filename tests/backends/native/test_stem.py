"""The fused first stage against plain torch operations in float64, and against the NumPy textbook."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convscope import reference
from convscope.backends.native import backend
from convscope.backends.native.stem import Function, Padding, Pooling, conv_act_pool, conv_act_pool_ref

native = backend.native
needs_native = pytest.mark.skipif(
    native is None and os.environ.get("CI") != "true", reason="convscope-native is not installed"
)
VARIANTS: list[str] = native.variants() if native is not None else ["none"]

# images (n, c, h, w), filters, kernel, padding, activation, pool
Case = tuple[tuple[int, int, int, int], int, int, Padding, Function, Pooling | None]
CASES: list[Case] = [
    ((5, 1, 28, 28), 32, 3, (0, 0, 0, 0), "relu", ("max", 2)),
    ((3, 1, 28, 28), 16, 5, (2, 2, 2, 2), "relu", ("max", 2)),
    ((3, 3, 16, 16), 24, 2, (0, 0, 0, 0), "gelu", None),
    ((2, 3, 15, 16), 64, 3, (1, 1, 1, 1), "relu", ("max", 2)),
    ((2, 4, 9, 11), 20, 3, (1, 1, 1, 1), "none", ("max", 2)),
    ((1, 1, 1, 1), 1, 1, (0, 0, 0, 0), "none", None),
    ((2, 1, 7, 5), 3, 1, (0, 0, 0, 0), "relu", ("min", 2)),
    ((9, 2, 6, 13), 7, 4, (1, 2, 1, 2), "relu", ("min", 3)),
    ((2, 3, 14, 9), 33, 3, (1, 1, 1, 1), "tanh", ("max", 3)),
    ((2, 2, 13, 12), 48, 2, (0, 1, 0, 1), "tanh", ("min", 2)),
    ((2, 1, 12, 12), 17, 7, (3, 3, 3, 3), "relu", ("max", 4)),
    ((2, 4, 12, 10), 9, 5, (0, 0, 3, 1), "gelu", ("max", 2)),
    ((2, 1, 12, 10), 40, 3, (0, 0, 0, 0), "relu", ("average", 2)),
    ((2, 3, 12, 10), 31, 3, (2, 0, 0, 0), "none", ("average", 3)),
    ((2, 3, 10, 12), 5, 6, (2, 3, 2, 3), "tanh", ("average", 2)),
    ((2, 2, 9, 9), 66, 3, (0, 0, 0, 0), "gelu", ("average", 4)),
    ((2, 1, 17, 8), 100, 3, (1, 1, 1, 1), "relu", None),
    ((2, 3, 7, 8), 15, 3, (0, 0, 0, 0), "tanh", None),
    ((2, 1, 8, 30), 4, 8, (0, 0, 0, 0), "none", None),
    ((70, 1, 6, 6), 8, 3, (0, 0, 0, 0), "gelu", ("min", 2)),
    ((2, 4, 9, 9), 18, 1, (0, 0, 0, 0), "relu", ("max", 1)),
]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    assert native is not None
    before = native.variant()
    native.use_variant(request.param)
    yield request.param
    native.use_variant(before)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def operands(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    (n, c, h, w), filters, k, *_ = case
    x = numbers(n, c, h, w).to(memory_format=torch.channels_last)
    return x, numbers(filters, c, k, k, seed=1) / (k * c**0.5), numbers(filters, seed=2) / 4


def run(function: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *plan: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and the gradients of its product with fixed numbers that bfloat16 has, too."""
    weight = weight.clone().requires_grad_()
    bias = None if bias is None else bias.clone().requires_grad_()
    y = function(x, weight, bias, *plan)
    y.backward(numbers(*y.shape, seed=3).bfloat16().to(y.dtype))
    assert weight.grad is not None
    return y.detach(), weight.grad, torch.zeros(()) if bias is None or bias.grad is None else bias.grad


def close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == wanted.shape
    scale = float(wanted.abs().max()) + 1e-30
    assert float((got.double() - wanted.double()).abs().max()) <= tolerance * scale


def used_native(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels called from here on."""
    calls: list[str] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(native, name)

    monkeypatch.setattr(backend, "native", Spy())
    return calls


@needs_native
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients(case: Case, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = used_native(monkeypatch)
    plan = case[3:]
    x, weight, bias = operands(case)
    wanted = run(conv_act_pool_ref, x.double(), weight.double(), bias.double(), *plan)
    got = run(conv_act_pool, x, weight, bias, *plan)
    assert calls == ["first_stage_forward", "first_stage_backward"], variant
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    for mine, theirs in zip(got, wanted, strict=True):
        close(mine, theirs)
    with torch.no_grad():
        assert torch.equal(conv_act_pool(x, weight, bias, *plan), got[0])
    without = run(conv_act_pool, x, weight, None, *plan)
    for mine, theirs in zip(without, run(conv_act_pool_ref, x.double(), weight.double(), None, *plan), strict=True):
        close(mine, theirs)


@needs_native
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bfloat16(case: Case, variant: str) -> None:
    """Products are float32: only y is rounded, by 2^-8 at most; tanh's slope comes from the rounded y."""
    plan = case[3:]
    x, weight, bias = operands(case)
    wanted = run(conv_act_pool_ref, x.double(), weight.double(), bias.double(), *plan)
    with torch.autocast("cpu", torch.bfloat16):
        got = run(conv_act_pool, x, weight, bias, *plan)
    assert got[0].dtype == torch.bfloat16, variant
    assert got[1].dtype == torch.float32
    close(got[0], wanted[0], 2**-8 * 1.01)
    for mine, theirs in zip(got[1:], wanted[1:], strict=True):
        close(mine, theirs, 2**-6 if plan[1] == "tanh" else 1e-5)


@needs_native
@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[19]], ids=str)
def test_threads_do_not_change_a_bit(case: Case, threads: int) -> None:
    assert native is not None
    inputs, before = operands(case), native.threads()
    try:
        native.set_threads(1)
        alone = run(conv_act_pool, *inputs, *case[3:])
        native.set_threads(threads)
        together = run(conv_act_pool, *inputs, *case[3:])
    finally:
        native.set_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@needs_native
@pytest.mark.parametrize("kind", ["max", "min", "average"])
def test_the_textbook_agrees(kind: Any, variant: str) -> None:
    """relu, then pooling, of a same convolution with an even kernel: reference.py, value and gradients."""
    x, weight, bias = numbers(2, 2, 6, 7).contiguous(memory_format=torch.channels_last), numbers(5, 2, 2, 2), numbers(5)
    images = x.permute(0, 2, 3, 1).double().numpy()
    kernel = weight.permute(2, 3, 1, 0).double().numpy()
    sums = reference.convolve(images, kernel, bias.double().numpy(), pad="same")
    hidden = reference.relu(sums)
    wanted = reference.pool(hidden, 2, kind=kind)
    grad = numbers(*wanted.transpose(0, 3, 1, 2).shape, seed=3).bfloat16().permute(0, 2, 3, 1).double().numpy()
    dsums = reference.relu_backward(reference.pool_backward(grad, hidden, 2, kind=kind), sums)
    _, dkernel, dbias = reference.convolve_backward(dsums, images, kernel, pad="same")
    y, dweight, dbias_got = run(conv_act_pool, x, weight, bias, (0, 1, 0, 1), "relu", (kind, 2))
    np.testing.assert_allclose(y.permute(0, 2, 3, 1).numpy(), wanted, rtol=1e-5, atol=1e-5, err_msg=variant)
    np.testing.assert_allclose(dweight.permute(2, 3, 1, 0).numpy(), dkernel, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dbias_got.numpy(), dbias, rtol=1e-4, atol=1e-4)


@needs_native
@pytest.mark.parametrize("pool", [("max", 2), ("min", 2), ("max", 3), ("average", 2), None], ids=str)
@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "tanh"])
def test_nan_comes_out_where_the_twin_has_it(activation: Function, pool: Pooling | None, variant: str) -> None:
    x, weight, bias = numbers(2, 1, 11, 12), numbers(18, 1, 3, 3), numbers(18)
    x[0, 0, 4, 5] = x[1, 0, 0, 0] = torch.nan
    got, wanted = (f(x, weight, bias, (0, 0, 0, 0), activation, pool) for f in (conv_act_pool, conv_act_pool_ref))
    assert torch.equal(got.isnan(), wanted.isnan()), variant
    assert wanted.isnan().any()
    close(got.nan_to_num(), wanted.nan_to_num())


@needs_native
@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("size", [2, 3])
def test_the_first_of_equal_cells_wins(kind: Any, size: int, variant: str) -> None:
    """Constant images tie everywhere except at the padding; the gradients show which cell was taken."""
    x, weight, bias = torch.ones(3, 1, 12, 12), numbers(19, 1, 3, 3), numbers(19)
    x[1, 0, :, 6:] = -1
    for activation in ("none", "relu"):
        plan = ((1, 1, 1, 1), activation, (kind, size))
        weight = weight.round()  # whole numbers: sums are exact, so ties are the conv_act_pool_ref's ties
        for mine, theirs in zip(run(conv_act_pool, x, weight, bias.round(), *plan),
                                run(conv_act_pool_ref, x, weight, bias.round(), *plan), strict=True):  # fmt: skip
            close(mine, theirs)
    assert variant


@needs_native
def test_other_layouts_give_the_same() -> None:
    x, weight, bias = operands(CASES[3])
    plan = CASES[3][3:]
    wanted = run(conv_act_pool, x, weight, bias, *plan)
    wide = torch.zeros(4, *x.shape[1:])
    wide[::2] = x
    for images in (x.contiguous(), wide[::2], x.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)):
        got = run(conv_act_pool, images, weight.to(memory_format=torch.channels_last), bias, *plan)
        assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    assert torch.equal(conv_act_pool(x, weight.transpose(2, 3), bias, *plan),
                       conv_act_pool(x, weight.transpose(2, 3).contiguous(), bias, *plan))  # fmt: skip


@needs_native
def test_a_gradient_that_is_one_repeated_number() -> None:
    x, weight, bias = operands(CASES[0])
    grads = []
    for function in (conv_act_pool, conv_act_pool_ref):
        free = weight.clone().requires_grad_()
        y: Tensor = function(x, free, bias, *CASES[0][3:])
        torch.autograd.backward(y.sum())
        assert free.grad is not None
        grads.append(free.grad)
    close(grads[0], grads[1])


@needs_native
def test_only_the_bias_learns() -> None:
    x, weight, bias = operands(CASES[0])
    bias.requires_grad_()
    torch.autograd.backward(conv_act_pool(x, weight, bias, *CASES[0][3:]).sum())
    assert bias.grad is not None
    assert weight.grad is None


def test_what_the_kernel_cannot_do_goes_to_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = used_native(monkeypatch)
    x, weight, bias = operands(CASES[0])
    five, wide = numbers(2, 5, 9, 9), numbers(3, 5, 3, 3)
    assert torch.equal(conv_act_pool(five, wide), conv_act_pool_ref(five, wide, None, (0, 0, 0, 0), "relu", None))
    assert conv_act_pool(x.double(), weight.double(), bias.double()).dtype == torch.float64
    assert conv_act_pool(x, weight, bias, pool=("max", 5)).shape == (5, 32, 5, 5)
    x.requires_grad_()
    torch.autograd.backward(conv_act_pool(x, weight, bias).sum())
    assert x.grad is not None
    assert calls == []


def test_without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "native", None)
    x, weight, bias = operands(CASES[3])
    got = run(conv_act_pool, x, weight, bias, *CASES[3][3:])
    wanted = run(conv_act_pool_ref, x.double(), weight.double(), bias.double(), *CASES[3][3:])
    for mine, theirs in zip(got, wanted, strict=True):
        close(mine, theirs)
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv_act_pool(x, weight, bias, *CASES[3][3:]).dtype == torch.bfloat16


# The kernel trusts addresses: what may lie behind them is for conv_act_pool to see to.


@needs_native
def test_maps_and_weights_of_any_layout_reach_the_kernel(monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    """Values and gradients, of float32 and under autocast, whose backward pass comes after it."""
    calls = used_native(monkeypatch)
    x, weight, bias = operands(CASES[3])
    plan = CASES[3][3:]
    holes, one = numbers(64, 3, 3, 6), numbers(1, 3, 3, 3)
    weights = [weight.to(memory_format=torch.channels_last), weight.transpose(2, 3), holes[..., ::2]]
    for images in (x, x.contiguous(), x.flip(3).transpose(2, 3)):
        for kernels in (*weights, one.expand(64, 3, 3, 3)):
            for bf16 in (False, True):
                leaf, dense = kernels.detach().requires_grad_(), kernels.detach().double().requires_grad_()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    y = conv_act_pool(images, leaf, bias, *plan)
                wanted = conv_act_pool_ref(images.double(), dense, bias.double(), *plan)
                dy = numbers(*y.shape, seed=3).bfloat16()
                torch.autograd.backward(y, dy.to(y.dtype))
                torch.autograd.backward(wanted, dy.double())
                assert leaf.grad is not None and dense.grad is not None
                assert y.dtype == (torch.bfloat16 if bf16 else torch.float32)
                close(y.detach(), wanted.detach(), 2**-8 * 1.01 if bf16 else 1e-5)
                close(leaf.grad, dense.grad)
    assert calls == ["first_stage_forward", "first_stage_backward"] * 24, variant


@needs_native
def test_results_lie_where_the_images_do(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = used_native(monkeypatch)
    x, weight, bias = operands(CASES[0])
    wanted = conv_act_pool(x, weight, bias)
    with torch.device("meta"):
        assert torch.equal(conv_act_pool(x, weight, bias), wanted)
    assert calls == ["first_stage_forward"] * 2


IMAGES, FILTERS, BIAS = numbers(2, 1, 4, 4), numbers(6, 1, 3, 3), numbers(6)


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [
        pytest.param(IMAGES, FILTERS, numbers(12)[::2], id="a bias with gaps"),
        pytest.param(IMAGES, FILTERS, numbers(1).expand(6), id="a bias of one number"),
        pytest.param(IMAGES, FILTERS, numbers(5), id="a bias too short"),
        pytest.param(IMAGES, FILTERS, numbers(6, 1), id="a bias with two axes"),
        pytest.param(IMAGES, FILTERS, BIAS.double(), id="a bias of float64"),
        pytest.param(IMAGES, FILTERS, BIAS.to("meta"), id="a bias elsewhere"),
        pytest.param(IMAGES, FILTERS.double(), BIAS, id="a weight of float64"),
        pytest.param(IMAGES, FILTERS.to("meta"), BIAS, id="a weight elsewhere"),
        pytest.param(IMAGES, FILTERS[..., :2], BIAS, id="a kernel that is not square"),
        pytest.param(IMAGES, FILTERS[..., :0, :0], BIAS, id="a kernel of no pixels"),
        pytest.param(IMAGES, numbers(6, 1, 5, 5), BIAS, id="a kernel larger than the images"),
        pytest.param(IMAGES, FILTERS[:0], BIAS[:0], id="no filters"),
        pytest.param(numbers(2, 2, 4, 4), FILTERS, BIAS, id="channels that the weight does not have"),
        pytest.param(IMAGES[:, :0], FILTERS[:, :0], BIAS, id="no channels"),
        pytest.param(IMAGES[:0], FILTERS, BIAS, id="no images"),
        pytest.param(IMAGES[0], FILTERS, BIAS, id="one image without an axis for it"),
        pytest.param(IMAGES.bfloat16(), FILTERS, BIAS, id="images of bfloat16"),
        pytest.param(IMAGES.to("meta"), FILTERS, BIAS, id="images elsewhere"),
    ],
)
def test_what_the_kernel_must_not_read_goes_to_the_twin(
    x: Tensor, weight: Tensor, bias: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "native", object())  # without a kernel: to call it fails
    monkeypatch.setattr("convscope.backends.native.stem.conv_act_pool_ref", lambda *given: given)
    given = conv_act_pool(x, weight, bias)
    assert all(mine is theirs for mine, theirs in zip(given, (x, weight, bias), strict=False))


def test_a_bias_with_gaps_learns() -> None:
    x, weight, _ = operands(CASES[0])
    grads = []
    for function in (conv_act_pool, conv_act_pool_ref):
        wide = numbers(64).requires_grad_()
        torch.autograd.backward(function(x, weight, wide[::2], *CASES[0][3:]).sum())
        assert wide.grad is not None
        grads.append(wide.grad)
    close(grads[0], grads[1])


def test_float16_goes_to_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = used_native(monkeypatch)
    with torch.autocast("cpu", torch.float16):
        assert conv_act_pool(IMAGES, FILTERS, BIAS).dtype == torch.float16
    assert calls == []
