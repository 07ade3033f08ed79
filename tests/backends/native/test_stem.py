"""conv_act_pool against its reference in float64, and against the NumPy textbook."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convscope import reference
from convscope.backends.native import backend, stem
from convscope.backends.native.reference_ops import Pooling
from convscope.backends.native.stem import Padding, conv_act_pool, conv_act_pool_ref
from helpers.kernels import FUSED_ACTIVATIONS, needs_native, record_kernels, use_native_threads

# images (n, c, h, w), filters, kernel size, padding, activation, pool
Case = tuple[tuple[int, int, int, int], int, int, Padding, str, Pooling | None]
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
POOLINGS: list[Pooling | None] = [None, ("max", 2), ("average", 2)]
CASES += [((2, 3, 9, 8), 17, 3, (1, 1, 1, 1), name, pool) for name in FUSED_ACTIVATIONS for pool in POOLINGS]
FORWARD, BACKWARD = "conv_act_pool_forward", "conv_act_pool_backward"


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def operands(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight and bias."""
    (n, c, h, w), filters, k, *_ = case
    x = randn(n, c, h, w).to(memory_format=torch.channels_last)
    return x, randn(filters, c, k, k, seed=1) / (k * c**0.5), randn(filters, seed=2) / 4


def run(function: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and the gradients of weight and bias for a fixed gradient that bfloat16 represents exactly."""
    weight = weight.clone().requires_grad_()
    bias = None if bias is None else bias.clone().requires_grad_()
    y = function(x, weight, bias, *options)
    y.backward(randn(*y.shape, seed=3).bfloat16().to(y.dtype))
    assert weight.grad is not None
    return y.detach(), weight.grad, torch.zeros(()) if bias is None or bias.grad is None else bias.grad


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """The largest difference relative to the largest expected number."""
    assert actual.shape == expected.shape
    scale = float(expected.abs().max()) + 1e-30
    assert float((actual.double() - expected.double()).abs().max()) <= tolerance * scale


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_act_pool_float32_matches_reference(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record_kernels(monkeypatch)
    options = case[3:]
    x, weight, bias = operands(case)
    expected = run(conv_act_pool_ref, x.double(), weight.double(), bias.double(), *options)
    actual = run(conv_act_pool, x, weight, bias, *options)
    assert recorder.names == [FORWARD, BACKWARD]
    assert actual[0].is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other)
    with torch.no_grad():
        assert torch.equal(conv_act_pool(x, weight, bias, *options), actual[0])
    expected = run(conv_act_pool_ref, x.double(), weight.double(), None, *options)
    for one, other in zip(run(conv_act_pool, x, weight, None, *options), expected, strict=True):
        assert_close(one, other)


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_act_pool_autocast_rounds_output_only(case: Case) -> None:
    """Products are float32: y is rounded, by 2^-8 at most; the slope of tanh follows from the rounded y."""
    options = case[3:]
    x, weight, bias = operands(case)
    expected = run(conv_act_pool_ref, x.double(), weight.double(), bias.double(), *options)
    with torch.autocast("cpu", torch.bfloat16):
        actual = run(conv_act_pool, x, weight, bias, *options)
    assert actual[0].dtype == torch.bfloat16
    assert actual[1].dtype == torch.float32
    assert_close(actual[0], expected[0], 2**-8 * 1.01)
    for one, other in zip(actual[1:], expected[1:], strict=True):
        assert_close(one, other, 2**-6 if options[1] == "tanh" else 1e-5)


@needs_native
@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[19]], ids=str)
def test_conv_act_pool_on_threads_is_bit_identical(case: Case, threads: int) -> None:
    with use_native_threads(1):
        expected = run(conv_act_pool, *operands(case), *case[3:])
    with use_native_threads(threads):
        actual = run(conv_act_pool, *operands(case), *case[3:])
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("kind", ["max", "min", "average"])
def test_conv_act_pool_matches_textbook(kind: Any) -> None:
    """ReLU and pooling of a same convolution with an even kernel: values and gradients of reference.py."""
    x, weight, bias = randn(2, 2, 6, 7).contiguous(memory_format=torch.channels_last), randn(5, 2, 2, 2), randn(5)
    images = x.permute(0, 2, 3, 1).double().numpy()
    kernel = weight.permute(2, 3, 1, 0).double().numpy()
    sums = reference.convolve(images, kernel, bias.double().numpy(), pad="same")
    hidden = reference.relu(sums)
    expected = reference.pool(hidden, 2, kind=kind)
    grad = randn(*expected.transpose(0, 3, 1, 2).shape, seed=3).bfloat16().permute(0, 2, 3, 1).double().numpy()
    dsums = reference.relu_backward(reference.pool_backward(grad, hidden, 2, kind=kind), sums)
    _, dkernel, dbias = reference.convolve_backward(dsums, images, kernel, pad="same")
    actual = run(conv_act_pool, x, weight, bias, (0, 1, 0, 1), "relu", (kind, 2))
    np.testing.assert_allclose(actual[0].permute(0, 2, 3, 1).numpy(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(actual[1].permute(2, 3, 1, 0).numpy(), dkernel, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(actual[2].numpy(), dbias, rtol=1e-4, atol=1e-4)


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("pool", [("max", 2), ("min", 2), ("max", 3), ("average", 2), None], ids=str)
@pytest.mark.parametrize("activation", ["none", *FUSED_ACTIVATIONS])
def test_conv_act_pool_nan_spreads_as_in_reference(activation: str, pool: Pooling | None) -> None:
    x, weight, bias = randn(2, 1, 11, 12), randn(18, 1, 3, 3), randn(18)
    x[0, 0, 4, 5] = x[1, 0, 0, 0] = torch.nan
    options = (0, 0, 0, 0), activation, pool
    actual, expected = conv_act_pool(x, weight, bias, *options), conv_act_pool_ref(x, weight, bias, *options)
    assert torch.equal(actual.isnan(), expected.isnan())
    assert expected.isnan().any()
    assert_close(actual.nan_to_num(), expected.nan_to_num())


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("size", [2, 3])
def test_conv_act_pool_equal_cells_first_gets_gradient(kind: str, size: int) -> None:
    """In constant images all cells are equal except at the padding; integer weights keep the sums exact."""
    x, weight, bias = torch.ones(3, 1, 12, 12), randn(19, 1, 3, 3).round(), randn(19).round()
    x[1, 0, :, 6:] = -1
    for activation in ("none", "relu"):
        options = (1, 1, 1, 1), activation, (kind, size)
        expected = run(conv_act_pool_ref, x, weight, bias, *options)
        for one, other in zip(run(conv_act_pool, x, weight, bias, *options), expected, strict=True):
            assert_close(one, other)


@needs_native
def test_conv_act_pool_layouts_give_same_bits() -> None:
    x, weight, bias = operands(CASES[3])
    options = CASES[3][3:]
    expected = run(conv_act_pool, x, weight, bias, *options)
    wide = torch.zeros(4, *x.shape[1:])
    wide[::2] = x
    for images in (x.contiguous(), wide[::2], x.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)):
        actual = run(conv_act_pool, images, weight.to(memory_format=torch.channels_last), bias, *options)
        assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))
    transposed = weight.transpose(2, 3)
    assert torch.equal(
        conv_act_pool(x, transposed, bias, *options), conv_act_pool(x, transposed.contiguous(), bias, *options)
    )


@needs_native
def test_conv_act_pool_expanded_gradient_matches_reference() -> None:
    x, weight, bias = operands(CASES[0])
    grads = []
    for function in (conv_act_pool, conv_act_pool_ref):
        leaf = weight.clone().requires_grad_()
        y: Tensor = function(x, leaf, bias, *CASES[0][3:])
        torch.autograd.backward(y.sum())
        assert leaf.grad is not None
        grads.append(leaf.grad)
    assert_close(grads[0], grads[1])


@needs_native
def test_conv_act_pool_frozen_weight_bias_gets_gradient() -> None:
    x, weight, bias = operands(CASES[0])
    bias.requires_grad_()
    torch.autograd.backward(conv_act_pool(x, weight, bias, *CASES[0][3:]).sum())
    assert bias.grad is not None
    assert weight.grad is None


@needs_native
def test_conv_act_pool_retained_graph_gives_same_gradient_twice() -> None:
    x, weight, bias = operands(CASES[0])
    weight.requires_grad_()
    loss = conv_act_pool(x, weight, bias, *CASES[0][3:]).sum()
    first, second = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_conv_act_pool_unsupported_input_runs_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record_kernels(monkeypatch)
    x, weight, bias = operands(CASES[0])
    five, filters = randn(2, 5, 9, 9), randn(3, 5, 3, 3)
    assert torch.equal(conv_act_pool(five, filters), conv_act_pool_ref(five, filters, None, (0,) * 4, "relu", None))
    assert conv_act_pool(x.double(), weight.double(), bias.double()).dtype == torch.float64
    assert conv_act_pool(x, weight, bias, pool=("max", 5)).shape == (5, 32, 5, 5)
    x.requires_grad_()
    torch.autograd.backward(conv_act_pool(x, weight, bias).sum())
    assert x.grad is not None
    assert recorder.names == []


def test_conv_act_pool_unknown_activation_runs_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record_kernels(monkeypatch)
    monkeypatch.setattr(stem, "activate", lambda x, activation: x + len(activation))
    x, weight, bias = operands(CASES[0])
    y = conv_act_pool(x, weight, bias, activation="new")
    torch.testing.assert_close(y, torch.nn.functional.conv2d(x, weight, bias) + 3)
    assert recorder.names == []


def test_conv_act_pool_without_native_runs_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "native", None)
    x, weight, bias = operands(CASES[3])
    options = CASES[3][3:]
    actual = run(conv_act_pool, x, weight, bias, *options)
    expected = run(conv_act_pool_ref, x.double(), weight.double(), bias.double(), *options)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other)
    assert actual[0].is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv_act_pool(x, weight, bias, *options).dtype == torch.bfloat16


# The kernel trusts addresses: conv_act_pool has to check what is behind them.


@needs_native
@pytest.mark.usefixtures("variant")
def test_conv_act_pool_strided_operands_reach_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, in float32 and under autocast, with the backward pass outside of autocast."""
    recorder = record_kernels(monkeypatch)
    x, weight, bias = operands(CASES[3])
    options = CASES[3][3:]
    gaps, one = randn(64, 3, 3, 6)[..., ::2], randn(1, 3, 3, 3)
    weights = [weight.to(memory_format=torch.channels_last), weight.transpose(2, 3), gaps, one.expand(64, 3, 3, 3)]
    for images in (x, x.contiguous(), x.flip(3).transpose(2, 3)):
        for kernels in weights:
            for bf16 in (False, True):
                leaf, exact = kernels.detach().requires_grad_(), kernels.detach().double().requires_grad_()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    y = conv_act_pool(images, leaf, bias, *options)
                expected = conv_act_pool_ref(images.double(), exact, bias.double(), *options)
                dy = randn(*y.shape, seed=3).bfloat16()
                torch.autograd.backward(y, dy.to(y.dtype))
                torch.autograd.backward(expected, dy.double())
                assert leaf.grad is not None and exact.grad is not None
                assert y.dtype == (torch.bfloat16 if bf16 else torch.float32)
                assert_close(y.detach(), expected.detach(), 2**-8 * 1.01 if bf16 else 1e-5)
                assert_close(leaf.grad, exact.grad)
    assert recorder.names == [FORWARD, BACKWARD] * 24


@needs_native
def test_conv_act_pool_other_default_device_result_is_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record_kernels(monkeypatch)
    x, weight, bias = operands(CASES[0])
    expected = conv_act_pool(x, weight, bias)
    with torch.device("meta"):
        assert torch.equal(conv_act_pool(x, weight, bias), expected)
    assert recorder.names == [FORWARD] * 2


IMAGES, FILTERS, BIAS = randn(2, 1, 4, 4), randn(6, 1, 3, 3), randn(6)


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [
        pytest.param(IMAGES, FILTERS, randn(12)[::2], id="bias with gaps"),
        pytest.param(IMAGES, FILTERS, randn(1).expand(6), id="expanded bias"),
        pytest.param(IMAGES, FILTERS, randn(5), id="short bias"),
        pytest.param(IMAGES, FILTERS, randn(6, 1), id="bias with two axes"),
        pytest.param(IMAGES, FILTERS, BIAS.double(), id="float64 bias"),
        pytest.param(IMAGES, FILTERS, BIAS.to("meta"), id="bias on another device"),
        pytest.param(IMAGES, FILTERS.double(), BIAS, id="float64 weight"),
        pytest.param(IMAGES, FILTERS.to("meta"), BIAS, id="weight on another device"),
        pytest.param(IMAGES, FILTERS[..., :2], BIAS, id="kernel that is not square"),
        pytest.param(IMAGES, FILTERS[..., :0, :0], BIAS, id="empty kernel"),
        pytest.param(IMAGES, randn(6, 1, 5, 5), BIAS, id="kernel larger than the images"),
        pytest.param(IMAGES, FILTERS[:0], BIAS[:0], id="no filters"),
        pytest.param(randn(2, 2, 4, 4), FILTERS, BIAS, id="channels of images and weight differ"),
        pytest.param(IMAGES[:, :0], FILTERS[:, :0], BIAS, id="no channels"),
        pytest.param(IMAGES[:0], FILTERS, BIAS, id="no images"),
        pytest.param(IMAGES[0], FILTERS, BIAS, id="image without batch axis"),
        pytest.param(IMAGES.bfloat16(), FILTERS, BIAS, id="bfloat16 images"),
        pytest.param(IMAGES.to("meta"), FILTERS, BIAS, id="images on another device"),
    ],
)
def test_conv_act_pool_bad_operands_reach_reference_only(
    x: Tensor, weight: Tensor, bias: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record_kernels(monkeypatch)
    monkeypatch.setattr(stem, "conv_act_pool_ref", lambda *arguments: arguments)
    arguments = conv_act_pool(x, weight, bias)
    assert all(one is other for one, other in zip(arguments, (x, weight, bias), strict=False))
    assert recorder.names == []


def test_conv_act_pool_bias_with_gaps_gets_gradient() -> None:
    x, weight, _ = operands(CASES[0])
    grads = []
    for function in (conv_act_pool, conv_act_pool_ref):
        wide = randn(64).requires_grad_()
        torch.autograd.backward(function(x, weight, wide[::2], *CASES[0][3:]).sum())
        assert wide.grad is not None
        grads.append(wide.grad)
    assert_close(grads[0], grads[1])


def test_conv_act_pool_float16_autocast_runs_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record_kernels(monkeypatch)
    with torch.autocast("cpu", torch.float16):
        assert conv_act_pool(IMAGES, FILTERS, BIAS).dtype == torch.float16
    assert recorder.names == []


@needs_native
def test_stem_limits_are_those_of_the_kernel() -> None:
    assert backend.native is not None
    assert backend.native.STEM_MAX_CHANNELS == stem.MAX_CHANNELS
    assert backend.native.STEM_MAX_POOL_SIZE == stem.MAX_POOL_SIZE
