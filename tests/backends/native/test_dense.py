"""dense against its reference in float64: values, gradients, NaN, layouts, threads and instruction sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from convscope.backends.native import backend
from convscope.backends.native.dense import dense, dense_ref, matmul, matmul_transposed
from helpers.kernels import needs_native, use_native_threads, without_native

# (n, inputs, units): single numbers, less and more than a register, a panel, a row tile, a block and a chunk of each
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


def operands(n: int, inputs: int, units: int) -> list[Tensor]:
    """x, weight, bias and the gradient of y, of size about 1 (weight: 1 / sqrt(inputs))."""
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(n, inputs, generator=draw), torch.randn(units, inputs, generator=draw) / inputs**0.5
    return [x, weight, torch.randn(units, generator=draw), torch.randn(n, units, generator=draw)]


def run(function: Any, tensors: list[Tensor], **options: bool) -> list[Tensor]:
    """y and the gradients of x, weight and bias."""
    x, weight, bias = (tensor.detach().requires_grad_() for tensor in tensors[:3])
    y = function(x, weight, bias, **options)
    return [y.detach(), *torch.autograd.grad(y, (x, weight, bias), tensors[3])]


def oracle(tensors: list[Tensor], relu: bool, bf16: bool) -> list[Tensor]:
    """The reference in float64; with `bf16` its operands are rounded to bfloat16, as in the kernel."""
    x, weight, bias, dy = tensors
    mask = torch.ones_like(dy)
    if relu:  # near 0 the sign of the kernel's own y counts
        mask = (dense(x, weight, bias, relu=True, bf16=bf16) > 0).to(torch.float32)
    rounded = [t.bfloat16().double() if bf16 else t.double() for t in (x, weight, dy * mask)]
    x_, weight_, dy_ = rounded
    y = dense_ref(x_, weight_, bias.double(), relu=relu)
    return [y, dy_ @ weight_, dy_.T @ x_, (dy * mask).double().sum(0)]


def assert_close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """The largest difference relative to the largest number of each tensor."""
    for name, one, other in zip(("y", "dx", "dweight", "dbias"), actual, expected, strict=True):
        assert one.shape == other.shape, name
        scale = max(1e-3, float(other.abs().max()))
        assert_allclose(one.double() / scale, other.double() / scale, rtol=0, atol=tolerance, err_msg=name)


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dense_float32_matches_reference(shape: tuple[int, int, int]) -> None:
    tensors = operands(*shape)
    for relu in (False, True):
        assert_close(run(dense, tensors, relu=relu), oracle(tensors, relu, bf16=False), 5e-6)


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dense_bf16_rounds_operands_only(shape: tuple[int, int, int]) -> None:
    tensors = operands(*shape)
    assert_close(run(dense, tensors, relu=True, bf16=True), oracle(tensors, relu=True, bf16=True), 1e-5)


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 33, 5), (128, 100, 10), (100, 777, 130)], ids=str)
def test_dense_bfloat16_input_gets_bfloat16_gradient(shape: tuple[int, int, int], bf16: bool) -> None:
    tensors = operands(*shape)
    tensors[0] = tensors[0].bfloat16()
    actual, expected = run(dense, tensors, relu=True, bf16=bf16), oracle(tensors, relu=True, bf16=bf16)
    assert [tensor.dtype for tensor in actual] == [torch.float32, torch.bfloat16, torch.float32, torch.float32]
    assert_close([actual[1]] * 4, [expected[1]] * 4, 2**-8)  # one rounding of the result
    actual[1] = expected[1]
    assert_close(actual, expected, 1e-5)


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("bf16", [False, True])
def test_dense_two_by_two_by_hand(bf16: bool) -> None:
    x, weight = torch.tensor([[1.0, 2.0], [3.0, -4.0]]), torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    bias, dy = torch.tensor([0.5, -1.0]), torch.tensor([[10.0, 1.0], [2.0, 30.0]])
    y, dx, dweight, dbias = run(dense, [x, weight, bias, dy], relu=True, bf16=bf16)
    assert y.tolist() == [[0.0, 3.5], [7.5, 0.0]]
    assert dx.tolist() == [[0.5, 2.0], [2.0, -2.0]]
    assert dweight.tolist() == [[6.0, -8.0], [1.0, 2.0]]
    assert dbias.tolist() == [2.0, 1.0]


@needs_native
def test_dense_random_shapes_match_reference() -> None:
    draw = np.random.default_rng(0)
    for _ in range(60):
        n, inputs, units = (int(draw.integers(1, limit)) for limit in (200, 400, 80))
        bf16 = bool(draw.integers(2))
        tensors = operands(n, inputs, units)
        assert_close(run(dense, tensors, relu=True, bf16=bf16), oracle(tensors, True, bf16), 1e-5)


@needs_native
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("shape", [(128, 2000, 100), (300, 300, 300), (33, 77, 5)], ids=str)
def test_dense_on_threads_is_bit_identical(shape: tuple[int, int, int], bf16: bool) -> None:
    tensors, results = operands(*shape), []
    for threads in (1, 2, 3, 4):
        with use_native_threads(threads):
            results.append(run(dense, tensors, relu=True, bf16=bf16))
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(other, results[0], strict=True))


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("bf16", [False, True])
def test_dense_nan_spreads_as_in_reference(bf16: bool) -> None:
    tensors = operands(20, 40, 30)
    tensors[0][3, 5] = torch.nan
    tensors[1][7, 2] = torch.nan
    tensors[3][4, 1] = torch.inf
    actual, expected = (run(function, tensors, relu=True, bf16=bf16) for function in (dense, dense_ref))
    assert torch.isnan(actual[0][3]).all()
    assert torch.isnan(actual[0][:, 7]).all()
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(torch.isnan(one), torch.isnan(other))
        assert torch.equal(torch.isinf(one), torch.isinf(other))


@needs_native
def test_dense_strided_operands_give_same_bits() -> None:
    x, weight, bias, dy = operands(20, 40, 30)
    expected = run(dense, [x, weight, bias, dy])
    strided, strided_dy = (torch.stack([tensor, tensor], dim=2)[:, :, 0] for tensor in (x, dy))
    transposed = weight.T.contiguous().T  # not contiguous: the reference runs
    assert not (strided.is_contiguous() or strided_dy.is_contiguous() or transposed.is_contiguous())
    actual = run(dense, [strided, weight, bias, strided_dy])
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))
    assert_close(run(dense, [x, transposed, bias, dy]), expected, 1e-5)


@needs_native
def test_dense_one_gradient_equals_that_of_all() -> None:
    x, weight, bias, dy = operands(20, 40, 30)
    _, *expected = run(dense, [x, weight, bias, dy])
    for index, gradient in enumerate(expected):
        tensors = [x.clone(), weight.clone(), bias.clone()]
        tensors[index].requires_grad_()
        (only,) = torch.autograd.grad(dense(tensors[0], tensors[1], tensors[2]), tensors[index], dy)
        assert torch.equal(only, gradient)


@needs_native
def test_dense_expanded_gradient_is_read_as_it_is() -> None:
    x, weight, bias, _ = operands(20, 40, 30)
    (dweight,) = torch.autograd.grad(dense(x, weight.requires_grad_(), bias).sum(), weight)
    assert_allclose(dweight, x.sum(0).expand(30, 40), atol=1e-5)


@needs_native
def test_dense_under_autocast_returns_float32() -> None:
    x, weight, bias, _ = operands(20, 40, 30)
    with torch.autocast("cpu", torch.bfloat16):
        assert dense(x, weight, bias).dtype is torch.float32
        assert dense_ref(x, weight, bias, bf16=True).dtype is torch.float32


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2)], ids=str)
def test_dense_empty_input_returns_bias(shape: tuple[int, int, int]) -> None:
    n, inputs, units = shape
    y = dense(torch.ones(n, inputs), torch.ones(units, inputs), torch.ones(units))
    assert torch.equal(y, torch.ones(n, units))


def test_dense_wrong_shapes_raise_pytorchs_error() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        dense(torch.ones(2, 3), torch.ones(4, 5), torch.ones(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bf16", [False, True])
def test_dense_without_native_runs_reference(bf16: bool, dtype: torch.dtype) -> None:
    tensors = [tensor.to(dtype) for tensor in operands(20, 40, 30)]
    expected = oracle(tensors, relu=True, bf16=bf16)
    with without_native():
        actual = run(dense, tensors, relu=True, bf16=bf16)
    assert actual[0].dtype is (torch.float32 if bf16 and dtype is torch.float32 else dtype)
    assert_close(actual, expected, 1e-2 if bf16 else 1e-5)


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_native), False])
def test_matmul_matches_float64(native: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(33, 70, generator=draw), torch.randn(70, 18, generator=draw)
    with use_native_threads(2) if native else without_native():
        products = matmul(a, b), matmul_transposed(a, b.T.contiguous())
    for product in products:
        torch.testing.assert_close(product.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)
    assert backend.native is not None or not native
