"""gather_batch, cross_entropy and sgd_step against their references, and the references against the textbook."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from convscope.backends.native import backend
from convscope.backends.native.step import (
    cross_entropy,
    cross_entropy_ref,
    gather_batch,
    gather_batch_ref,
    sgd_step,
    sgd_step_ref,
)
from helpers.kernels import needs_native, record_kernels, use_native_threads, without_native
from helpers.networks import many_examples

# images, index, table, shifts, flips
Batch = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32], Any, Any]


# gather_batch


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Small images of any size, some of them several times, shifted by more than their size."""
    count, n = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    height, width, channels = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.sampled_from([1, 3, 4]))
    images = draw(hnp.arrays(np.uint8, (count, height, width, channels)))
    index = draw(hnp.arrays(np.int64, n, elements=st.integers(0, count - 1)))
    table = draw(hnp.arrays(np.float32, (256, channels), elements=st.floats(-2, 2, width=32)))
    shifts = draw(st.none() | hnp.arrays(np.int64, (n, 2), elements=st.integers(-7, 7)))
    flips = draw(st.none() | hnp.arrays(np.bool_, n))
    return images, index, table, shifts, flips


def gather_pixelwise(batch: Batch) -> NDArray[np.float32]:
    images, index, table, shifts, flips = batch
    _, height, width, channels = images.shape
    out = np.empty((len(index), height, width, channels), np.float32)

    def reflect(at: int, size: int) -> int:
        at = abs(at)
        return max(0, 2 * (size - 1) - at if at >= size else at)

    for n, row, column, channel in np.ndindex(out.shape):
        down, right = (0, 0) if shifts is None else shifts[n]
        y, x = reflect(row - down, height), reflect(column - right, width)
        if flips is not None and flips[n]:
            x = width - 1 - x
        out[n, row, column, channel] = table[images[index[n], y, x, channel], channel]
    return out


@pytest.mark.slow
@many_examples
@given(batches())
def test_gather_batch_any_batch_equals_pixelwise(batch: Batch) -> None:
    for out in (gather_batch(*batch), gather_batch_ref(*batch)):
        assert out.dtype == np.float32
        assert out.flags.c_contiguous
        np.testing.assert_array_equal(out, gather_pixelwise(batch))


def test_gather_batch_shifts_and_flips_by_hand() -> None:
    """The edge pixel is not repeated; an image is flipped before it is shifted."""
    image = np.arange(4, dtype=np.uint8).reshape(1, 1, 4, 1)
    table, index = np.arange(256, dtype=np.float32)[:, None], np.zeros(6, np.int64)
    columns = np.array([0, 1, 2, -1, 1, 9])
    shifts, flips = np.stack([columns * 0, columns], 1), np.array([0, 0, 0, 0, 1, 0], bool)
    expected = [[0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1], [1, 2, 3, 2], [2, 3, 2, 1], [0, 0, 0, 0]]
    for function in (gather_batch, gather_batch_ref):
        assert function(image, index, table, shifts, flips)[:, 0, :, 0].tolist() == expected


def test_gather_batch_strided_images_equal_contiguous() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8).transpose(0, 2, 1, 3)
    table, index = np.random.default_rng(1).random((256, 3), np.float32), np.array([3, 1])
    assert not images.flags.c_contiguous
    np.testing.assert_array_equal(gather_batch(images, index, table), gather_batch(images.copy(), index, table))


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_gather_batch_on_threads_equals_reference(threads: int) -> None:
    random = np.random.default_rng(0)
    images, index = random.integers(0, 256, (50, 28, 28, 1), np.uint8), random.integers(0, 50, 129)
    table, shifts = random.random((256, 1), np.float32), random.integers(-2, 3, (129, 2))
    batch = images, index, table, shifts, random.random(129) < 0.5
    with use_native_threads(threads):
        np.testing.assert_array_equal(gather_batch(*batch), gather_batch_ref(*batch))


@needs_native
@pytest.mark.parametrize("index", [3, -4])
def test_gather_batch_index_out_of_range_raises(index: int) -> None:
    images, table = np.zeros((3, 2, 2, 1), np.uint8), np.zeros((256, 1), np.float32)
    with pytest.raises(ValueError, match="index out of range of the images"):
        gather_batch(images, np.array([0, index]), table)


@needs_native
@pytest.mark.parametrize(
    ("table", "shifts", "flips", "message"),
    [
        (np.zeros((255, 1), np.float32), None, None, r"expected table \(256, c\)"),
        (np.zeros((256, 3), np.float32), None, None, r"expected table \(256, c\)"),
        (np.zeros((256, 1), np.float32), np.zeros((1, 2), np.int64), None, r"expected shifts \(n, 2\)"),
        (np.zeros((256, 1), np.float32), None, np.zeros(3, bool), r"expected flips \(n,\)"),
    ],
    ids=["short table", "channels of the table", "shifts", "flips"],
)
def test_gather_batch_wrong_shape_raises(table: Any, shifts: Any, flips: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gather_batch(np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1]), table, shifts, flips)


# cross_entropy


def loss_of(function: Any, logits: Tensor, labels: Tensor, smoothing: float) -> tuple[float, Tensor, int]:
    """Loss, gradient of three times the loss, and number of correct labels."""
    leaf = logits.detach().requires_grad_()
    loss, correct = function(leaf, labels, smoothing)
    (3 * loss).backward()
    assert leaf.grad is not None
    return loss.item(), leaf.grad.double(), correct


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize(("n", "classes"), [(1, 1), (1, 2), (3, 10), (128, 10), (7, 1000), (33, 17)])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_cross_entropy_matches_float64(n: int, classes: int, smoothing: float, scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits, labels = scale * torch.randn(n, classes, generator=draw), torch.randint(classes, (n,), generator=draw)
    loss, gradient, correct = loss_of(cross_entropy_ref, logits.double(), labels, smoothing)
    for function in (cross_entropy, cross_entropy_ref):
        actual = loss_of(function, logits, labels, smoothing)
        assert actual[0] == pytest.approx(loss, rel=2e-6, abs=1e-6)
        assert float((actual[1] - gradient).abs().max()) <= 1e-6
        assert actual[2] == correct == int((logits.argmax(1) == labels).sum())


def test_cross_entropy_by_hand() -> None:
    logits, labels = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]), torch.tensor([1, 0])
    loss, correct = cross_entropy(logits, labels)
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-6)
    assert correct == 2  # the first of equal logits counts
    assert loss.dtype is torch.float32


@pytest.mark.parametrize("function", [cross_entropy, cross_entropy_ref])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("column", [0, 1])
def test_cross_entropy_non_finite_logit_loss_is_not_finite(
    function: Any, value: float, label: int, column: int
) -> None:
    logits = torch.zeros(2, 3)
    logits[1, column] = value
    loss, gradient, _ = loss_of(function, logits, torch.tensor([0, label]), 0.0)
    assert not math.isfinite(loss)
    assert torch.isnan(gradient[1]).any()
    assert torch.isfinite(gradient[0]).all()


@pytest.mark.parametrize("function", [cross_entropy, cross_entropy_ref])
def test_cross_entropy_minus_infinity_has_probability_zero(function: Any) -> None:
    logits = torch.tensor([[0.0, -math.inf, 0.0]])
    loss, gradient, _ = loss_of(function, logits, torch.tensor([0]), 0.0)
    assert loss == pytest.approx(math.log(2), rel=1e-6)
    assert gradient.tolist() == [[-1.5, 0.0, 1.5]]


def test_cross_entropy_other_layout_or_dtype_same_gradient() -> None:
    transposed, labels = torch.randn(10, 7).T, torch.arange(7)
    assert not transposed.is_contiguous()
    gradients = []
    for logits in (transposed, transposed.double(), transposed.contiguous()):
        leaf = logits.detach().requires_grad_()
        loss, _ = cross_entropy(leaf, labels)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert loss.dtype is gradient.dtype is leaf.dtype
        gradients.append(gradient.float())
    for gradient in gradients[:2]:
        torch.testing.assert_close(gradient, gradients[2], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("label", [3, -1])
def test_cross_entropy_unknown_label_raises(label: int) -> None:
    with pytest.raises((ValueError, IndexError), match=r"out of (range|bounds)"):
        cross_entropy(torch.zeros(1, 3), torch.tensor([label]))


@needs_native
@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int32)),
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64)),
        (torch.zeros(4), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(4, 3, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")),
    ],
    ids=["int32 labels", "too few labels", "two-dimensional labels", "no class axis", "empty", "other device"],
)
def test_cross_entropy_unsupported_batch_runs_reference(
    logits: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record_kernels(monkeypatch)
    with suppress(RuntimeError, ValueError, IndexError, NotImplementedError):  # PyTorch may refuse it
        cross_entropy(logits, labels)
    assert recorder.names == []


@needs_native
def test_cross_entropy_strided_labels_are_read_correctly() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 9, 1, 9, 2, 9, 0, 9, 1, 9])[::2]
    loss, correct = cross_entropy(logits, labels)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, labels))
    assert correct == int((logits.argmax(1) == labels).sum())


# sgd_step


@needs_native
@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("shape", [(1,), (7,), (129,), (4, 3, 5, 5), (200, 300)], ids=str)
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_step_any_layout_matches_reference(shape: tuple[int, ...], nesterov: bool) -> None:
    """For contiguous and channels_last weights, and gradients of the same or another layout."""
    draw = torch.Generator().manual_seed(0)
    first = [torch.randn(shape, generator=draw) for _ in range(3)]
    layouts = [[tensor.clone() for tensor in first]]
    layouts.append([layouts[0][0].clone(), first[1].flip(0).contiguous().flip(0), first[2].clone()])
    if len(shape) == 4:
        layouts.append([tensor.clone(memory_format=torch.channels_last) for tensor in first])
        layouts.append([layouts[2][0].clone(), first[1].clone(), layouts[2][2].clone()])
    for weight, gradient, velocity in layouts:
        expected, expected_velocity, kept = weight.clone(), velocity.clone(), gradient.clone()
        sgd_step_ref(expected, gradient, expected_velocity, 0.1, 0.9, 0.01, nesterov)
        for threads in (1, 3):
            actual, actual_velocity = weight.clone(), velocity.clone()
            with use_native_threads(threads):
                sgd_step(actual, gradient, actual_velocity, 0.1, 0.9, 0.01, nesterov)
            torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(actual_velocity, expected_velocity, rtol=1e-6, atol=1e-6)
            assert torch.equal(gradient, kept)


@pytest.mark.parametrize(("nesterov", "expected"), [(False, 3.3), (True, 3.25)])
def test_sgd_step_by_hand(nesterov: bool, expected: float) -> None:
    """g = 2 + 0.5 * 4 = 4; v = 0.5 * 6 + 4 = 7; w = 4 - 0.1 * 7, or with Nesterov 4 - 0.1 * (4 + 0.5 * 7)."""
    for function in (sgd_step, sgd_step_ref):
        weight, gradient, velocity = torch.tensor([4.0]), torch.tensor([2.0]), torch.tensor([6.0])
        function(weight, gradient, velocity, 0.1, 0.5, 0.5, nesterov)
        assert velocity.item() == 7.0
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_sgd_step_without_native_runs_reference() -> None:
    weight, velocity = torch.zeros(3), torch.zeros(3)
    with without_native():
        sgd_step(weight, torch.ones(3), velocity, 0.5, 0.9, 0.0, False)
    assert (weight.tolist(), velocity.tolist()) == ([-0.5] * 3, [1.0] * 3)


def test_sgd_step_float64_is_updated() -> None:
    weight, velocity = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    sgd_step(weight, torch.ones(3, dtype=torch.float64), velocity, 0.5, 0.9, 0.0, False)
    assert (weight.tolist(), velocity.tolist()) == ([-0.5] * 3, [1.0] * 3)


def test_sgd_step_empty_weight_is_accepted() -> None:
    weight = torch.zeros(0)
    sgd_step(weight, torch.zeros(0), torch.zeros(0), 0.5, 0.9, 0.0, False)
    assert weight.shape == (0,)


@needs_native
@pytest.mark.parametrize(
    ("gradient", "velocity"),
    [
        (torch.ones(8), torch.zeros(4)),
        (torch.ones(4), torch.zeros(8)),
        (torch.ones(4, dtype=torch.float64), torch.zeros(4)),
        (torch.ones(4), torch.zeros(4, dtype=torch.float64)),
        (torch.ones(4), torch.zeros(8)[::2]),
        (torch.ones(4, device="meta"), torch.zeros(4)),
    ],
    ids=["long gradient", "long velocity", "float64 gradient", "float64 velocity", "strided velocity", "other device"],
)
def test_sgd_step_mismatched_tensors_run_reference(
    gradient: Tensor, velocity: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record_kernels(monkeypatch)
    with suppress(RuntimeError, NotImplementedError):  # PyTorch may refuse them
        sgd_step(torch.ones(4), gradient, velocity, 0.1, 0.9, 0.0, False)
    assert recorder.names == []


@needs_native
def test_native_threads_are_restored() -> None:
    assert backend.native is not None
    before = backend.native.threads()
    with use_native_threads(before + 1):
        assert backend.native.threads() == before + 1
    assert backend.native.threads() == before
