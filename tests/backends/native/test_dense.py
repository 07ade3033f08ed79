"""The dense kernel against its twin in float64: values, gradients, NaN, layouts, threads and instruction sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from convscope.backends.native import backend
from convscope.backends.native.dense import dense, dense_ref

needs_native = pytest.mark.skipif(
    backend.native is None and os.environ.get("CI") != "true", reason="convscope-native is not installed"
)
VARIANTS = backend.native.variants() if backend.native is not None else ["plain"]

# (n, inputs, units): single numbers, less and more than a vector, a panel, a row tile, a block and a chunk of each
SHAPES = [
    (1, 1, 1),
    (2, 3, 1),
    (128, 100, 10),
    (7, 33, 5),
    (16, 31, 14),
    (17, 129, 13),
    (100, 777, 130),
    (129, 258, 27),
    (300, 300, 300),
    (1, 600, 10),
    (3, 40, 2500),
    (600, 17, 3),
    (128, 1100, 100),
    (24, 5408, 20),
]


def numbers(n: int, inputs: int, units: int, seed: int = 0) -> list[Tensor]:
    """x, weight, bias and the gradient of y, of size about 1 (weight: 1 / sqrt(inputs))."""
    draw = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(n, inputs, generator=draw), torch.randn(units, inputs, generator=draw) / inputs**0.5
    return [x, weight, torch.randn(units, generator=draw), torch.randn(n, units, generator=draw)]


def results(function: Any, tensors: list[Tensor], **options: bool) -> list[Tensor]:
    """y and the gradients of x, weight and bias."""
    x, weight, bias = (tensor.detach().requires_grad_() for tensor in tensors[:3])
    y = function(x, weight, bias, **options)
    return [y.detach(), *torch.autograd.grad(y, (x, weight, bias), tensors[3])]


def oracle(tensors: list[Tensor], relu: bool, bf16: bool) -> list[Tensor]:
    """The twin's results in float64; with `bf16` it takes operands rounded to bfloat16, as the kernel does."""
    x, weight, bias, gradient = tensors
    kept = torch.ones_like(gradient)
    if relu:  # where y is 0 up to rounding, the kernel's own side counts
        kept = (dense(x, weight, bias, relu=True, bf16=bf16) > 0).to(torch.float32)
    masked = gradient * kept
    rounded = [t.bfloat16().double() if bf16 else t.double() for t in (x, weight, masked)]
    x_, weight_, masked_ = rounded
    y = dense_ref(x_, weight_, bias.double(), relu=relu)
    return [y, masked_ @ weight_, masked_.T @ x_, masked.double().sum(0)]


def assert_close(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Largest difference relative to the largest number of each tensor."""
    for name, one, other in zip(("y", "dx", "dweight", "dbias"), got, expected, strict=True):
        assert one.shape == other.shape, name
        scale = max(1e-3, float(other.abs().max()))
        assert_allclose(one.double() / scale, other.double() / scale, rtol=0, atol=tolerance, err_msg=name)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    assert backend.native is not None, "CI runs with convscope-native"
    before = backend.native.variant()
    backend.native.use_variant(request.param)
    yield request.param
    backend.native.use_variant(before)


@needs_native
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_agrees_with_the_twin_in_float64(shape: tuple[int, int, int], variant: str) -> None:  # noqa: ARG001
    tensors = numbers(*shape)
    for relu in (False, True):
        assert_close(results(dense, tensors, relu=relu), oracle(tensors, relu, bf16=False), 5e-6)


@needs_native
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_half_rounds_operands_and_nothing_else(shape: tuple[int, int, int], variant: str) -> None:  # noqa: ARG001
    tensors = numbers(*shape)
    assert_close(results(dense, tensors, relu=True, bf16=True), oracle(tensors, relu=True, bf16=True), 1e-5)


@needs_native
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 33, 5), (128, 100, 10), (100, 777, 130)], ids=str)
def test_bfloat16_input_gets_a_bfloat16_gradient(
    shape: tuple[int, int, int],
    bf16: bool,
    variant: str,  # noqa: ARG001
) -> None:
    tensors = numbers(*shape)
    tensors[0] = tensors[0].bfloat16()
    got, expected = results(dense, tensors, relu=True, bf16=bf16), oracle(tensors, relu=True, bf16=bf16)
    assert [tensor.dtype for tensor in got] == [torch.float32, torch.bfloat16, torch.float32, torch.float32]
    assert_close([got[1]] * 4, [expected[1]] * 4, 2**-8)  # one rounding of the result
    got[1] = expected[1]
    assert_close(got, expected, 1e-5)


@needs_native
@pytest.mark.parametrize("bf16", [False, True])
def test_two_by_two_by_hand(bf16: bool, variant: str) -> None:  # noqa: ARG001
    x, weight = torch.tensor([[1.0, 2.0], [3.0, -4.0]]), torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    bias, gradient = torch.tensor([0.5, -1.0]), torch.tensor([[10.0, 1.0], [2.0, 30.0]])
    y, dx, dweight, dbias = results(dense, [x, weight, bias, gradient], relu=True, bf16=bf16)
    assert y.tolist() == [[0.0, 3.5], [7.5, 0.0]]
    assert dx.tolist() == [[0.5, 2.0], [2.0, -2.0]]
    assert dweight.tolist() == [[6.0, -8.0], [1.0, 2.0]]
    assert dbias.tolist() == [2.0, 1.0]


@needs_native
def test_random_shapes() -> None:
    draw = np.random.default_rng(0)
    for _ in range(60):
        n, inputs, units = (int(draw.integers(1, most)) for most in (200, 400, 80))
        bf16 = bool(draw.integers(2))
        tensors = numbers(n, inputs, units)
        assert_close(results(dense, tensors, relu=True, bf16=bf16), oracle(tensors, True, bf16), 1e-5)


@needs_native
@pytest.mark.parametrize("bf16", [False, True])
def test_any_number_of_threads_gives_the_same_bits(bf16: bool) -> None:
    assert backend.native is not None
    before = backend.native.threads()
    try:
        for shape in [(128, 2000, 100), (300, 300, 300), (33, 77, 5)]:
            tensors = numbers(*shape)
            runs = []
            for threads in (1, 2, 3, 4):
                backend.native.set_threads(threads)
                runs.append(results(dense, tensors, relu=True, bf16=bf16))
            for run in runs[1:]:
                assert all(torch.equal(one, other) for one, other in zip(run, runs[0], strict=True))
    finally:
        backend.native.set_threads(before)


@needs_native
@pytest.mark.parametrize("bf16", [False, True])
def test_nan_spreads_as_in_the_twin(bf16: bool, variant: str) -> None:  # noqa: ARG001
    tensors = numbers(20, 40, 30)
    tensors[0][3, 5] = torch.nan
    tensors[1][7, 2] = torch.nan
    tensors[3][4, 1] = torch.inf
    got, expected = (results(function, tensors, relu=True, bf16=bf16) for function in (dense, dense_ref))
    assert torch.isnan(got[0][3]).all()
    assert torch.isnan(got[0][:, 7]).all()
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(torch.isnan(one), torch.isnan(other))
        assert torch.equal(torch.isinf(one), torch.isinf(other))


@needs_native
def test_layouts_and_unneeded_gradients() -> None:
    x, weight, bias, gradient = numbers(20, 40, 30)
    y, dx, dweight, dbias = results(dense, [x, weight, bias, gradient])
    strided = torch.stack([x, x], dim=2)[:, :, 0]
    sparse_gradient = torch.stack([gradient, gradient], dim=2)[:, :, 0]
    turned = weight.T.contiguous().T  # not contiguous: the twin
    assert not (strided.is_contiguous() or sparse_gradient.is_contiguous() or turned.is_contiguous())
    again = results(dense, [strided, weight, bias, sparse_gradient])
    assert all(torch.equal(one, other) for one, other in zip(again, (y, dx, dweight, dbias), strict=True))
    assert_close(results(dense, [x, turned, bias, gradient]), [y, dx, dweight, dbias], 1e-5)
    for index, expected in enumerate((dx, dweight, dbias)):
        tensors = [x.clone(), weight.clone(), bias.clone()]
        tensors[index].requires_grad_()
        (only,) = torch.autograd.grad(dense(tensors[0], tensors[1], tensors[2]), tensors[index], gradient)
        assert torch.equal(only, expected)
    summed = torch.autograd.grad(dense(x, weight.requires_grad_(), bias).sum(), weight)[0]  # an expanded gradient
    assert_allclose(summed, x.sum(0).expand(30, 40), atol=1e-5)


@needs_native
def test_float32_comes_out_under_autocast() -> None:
    x, weight, bias, _ = numbers(20, 40, 30)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dense(x, weight, bias), dense(x, weight, bias))
        assert dense(x, weight, bias).dtype is torch.float32
        assert dense_ref(x, weight, bias, bf16=True).dtype is torch.float32


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2)], ids=str)
def test_empty_batches_and_inputs_run_as_the_twin(shape: tuple[int, int, int]) -> None:
    n, inputs, units = shape
    y = dense(torch.ones(n, inputs), torch.ones(units, inputs), torch.ones(units))
    assert torch.equal(y, torch.ones(n, units))


def test_wrong_shapes_get_torchs_error() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        dense(torch.ones(2, 3), torch.ones(4, 5), torch.ones(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bf16", [False, True])
def test_without_native_the_twin_runs(monkeypatch: pytest.MonkeyPatch, bf16: bool, dtype: torch.dtype) -> None:
    tensors = [tensor.to(dtype) for tensor in numbers(20, 40, 30)]
    expected = oracle(tensors, relu=True, bf16=bf16)
    monkeypatch.setattr(backend, "native", None)
    got = results(dense, tensors, relu=True, bf16=bf16)
    assert got[0].dtype is (torch.float32 if bf16 and dtype is torch.float32 else dtype)
    assert_close(got, expected, 1e-2 if bf16 else 1e-5)
