"""Cutting batches, the loss and the update: kernels against their twins, twins against the textbook."""

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
from convscope.backends.native.step import cross_entropy, gather_batch, sgd_step
from helpers.kernels import VARIANTS, needs_native, use_native_threads, use_variant, without_native
from helpers.lines import many

Case = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32], Any, Any]


# Cutting batches


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Images of any small size, some of them several times, moved by up to their own size and more."""
    count, n = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    height, width, channels = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.sampled_from([1, 3, 4]))
    images = draw(hnp.arrays(np.uint8, (count, height, width, channels)))
    index = draw(hnp.arrays(np.int64, n, elements=st.integers(0, count - 1)))
    table = draw(hnp.arrays(np.float32, (256, channels), elements=st.floats(-2, 2, width=32)))
    moves = draw(st.none() | hnp.arrays(np.int64, (n, 2), elements=st.integers(-7, 7)))
    flips = draw(st.none() | hnp.arrays(np.bool_, n))
    return images, index, table, moves, flips


def by_hand(case: Case) -> NDArray[np.float32]:
    """Pixel by pixel."""
    images, index, table, moves, flips = case
    _, height, width, channels = images.shape
    out = np.empty((len(index), height, width, channels), np.float32)

    def mirrored(at: int, size: int) -> int:
        at = abs(at)
        return max(0, 2 * (size - 1) - at if at >= size else at)

    for n, row, column, channel in np.ndindex(out.shape):
        down, right = (0, 0) if moves is None else moves[n]
        y, x = mirrored(row - down, height), mirrored(column - right, width)
        if flips is not None and flips[n]:
            x = width - 1 - x
        out[n, row, column, channel] = table[images[index[n], y, x, channel], channel]
    return out


@many
@given(cases())
def test_a_batch_is_cut_pixel_by_pixel(case: Case) -> None:
    for found in [gather_batch(*case), by_the_twin(case)]:
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, by_hand(case))


def by_the_twin(case: Case) -> NDArray[np.float32]:
    with without_native():
        return gather_batch(*case)


def test_moves_and_flips_by_hand() -> None:
    """The edge is not repeated; an image is flipped before it is moved."""
    image = np.arange(4, dtype=np.uint8).reshape(1, 1, 4, 1)
    table, index = np.arange(256, dtype=np.float32)[:, None], np.zeros(6, np.int64)
    columns = np.array([0, 1, 2, -1, 1, 9])
    moves, flips = np.stack([columns * 0, columns], 1), np.array([0, 0, 0, 0, 1, 0], bool)
    expected = [[0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1], [1, 2, 3, 2], [2, 3, 2, 1], [0, 0, 0, 0]]
    assert gather_batch(image, index, table, moves, flips)[:, 0, :, 0].tolist() == expected
    assert by_the_twin((image, index, table, moves, flips))[:, 0, :, 0].tolist() == expected


def test_images_that_lie_otherwise_in_memory_are_cut_by_the_twin() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    turned = images.transpose(0, 2, 1, 3)
    table = np.random.default_rng(1).random((256, 3), np.float32)
    assert not turned.flags.c_contiguous
    np.testing.assert_array_equal(
        gather_batch(turned, np.array([3, 1]), table), gather_batch(turned.copy(), np.array([3, 1]), table)
    )


@needs_native
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_instruction_set_and_any_number_of_threads_cut_the_same(variant: str) -> None:
    random = np.random.default_rng(0)
    images, index = random.integers(0, 256, (50, 28, 28, 1), np.uint8), random.integers(0, 50, 129)
    table, moves = random.random((256, 1), np.float32), random.integers(-2, 3, (129, 2))
    flips = random.random(129) < 0.5
    expected = by_the_twin((images, index, table, moves, flips))
    with use_variant(variant):
        for threads in (1, 2, 3, 4):
            with use_native_threads(threads):
                np.testing.assert_array_equal(gather_batch(images, index, table, moves, flips), expected)


@needs_native
def test_an_image_that_is_not_there_is_refused() -> None:
    images, table = np.zeros((3, 2, 2, 1), np.uint8), np.zeros((256, 1), np.float32)
    for wrong in (3, -4):
        with pytest.raises((IndexError, ValueError)):
            gather_batch(images, np.array([0, wrong]), table)


# The loss


def both(logits: Tensor, labels: Tensor, smoothing: float) -> list[tuple[float, Tensor, int]]:
    """Loss, gradient of three times the loss, and right answers: of the kernel, of the twin, of the twin in float64."""
    found = []
    for dtype, twin in ((torch.float32, False), (torch.float32, True), (torch.float64, True)):
        given = logits.detach().to(dtype).requires_grad_()
        if twin:
            with without_native():
                loss, right = cross_entropy(given, labels, smoothing)
        else:
            loss, right = cross_entropy(given, labels, smoothing)
        (3 * loss).backward()  # type: ignore[no-untyped-call]
        assert given.grad is not None
        found.append((loss.item(), given.grad.double(), right))
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize(("n", "classes"), [(1, 1), (1, 2), (3, 10), (128, 10), (7, 1000), (33, 17)])
@pytest.mark.parametrize("size", [1.0, 50.0])
def test_the_loss_and_its_gradient_are_torchs_in_float64(n: int, classes: int, smoothing: float, size: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = size * torch.randn(n, classes, generator=draw)
    labels = torch.randint(classes, (n,), generator=draw)
    kernel, twin, (loss, gradient, right) = both(logits, labels, smoothing)
    for found, grad, count in (kernel, twin):
        assert found == pytest.approx(loss, rel=2e-6, abs=1e-6)
        assert float((grad - gradient).abs().max()) <= 1e-6
        assert count == right == int((logits.argmax(1) == labels).sum())


def test_the_loss_by_hand() -> None:
    logits, labels = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]), torch.tensor([1, 0])
    loss, right = cross_entropy(logits, labels)
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-6)
    assert right == 2  # of equal logits the first is taken
    assert loss.dtype is torch.float32


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("place", [0, 1])
def test_a_logit_that_is_no_number_makes_a_loss_that_is_none(wrong: float, label: int, place: int) -> None:
    logits = torch.zeros(2, 3)
    logits[1, place] = wrong
    for loss, gradient, _ in both(logits, torch.tensor([0, label]), 0.0)[:2]:
        assert not math.isfinite(loss)
        assert torch.isnan(gradient[1]).any()
        assert torch.isfinite(gradient[0]).all()


def test_minus_infinity_is_a_class_that_cannot_be() -> None:
    logits = torch.tensor([[0.0, -math.inf, 0.0]])
    for loss, gradient, _ in both(logits, torch.tensor([0]), 0.0):
        assert loss == pytest.approx(math.log(2), rel=1e-6)
        assert gradient.tolist() == [[-1.5, 0.0, 1.5]]


def test_logits_that_lie_otherwise_in_memory_or_are_of_another_type() -> None:
    turned, labels = torch.randn(10, 7).T, torch.arange(7)
    assert not turned.is_contiguous()
    found = []
    for logits in (turned, turned.double(), turned.contiguous()):
        given = logits.detach().requires_grad_()
        loss, _ = cross_entropy(given, labels)
        (gradient,) = torch.autograd.grad(loss, given)
        assert loss.dtype is gradient.dtype is given.dtype
        found.append(gradient.float())
    for gradient in found[:2]:
        torch.testing.assert_close(gradient, found[2], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises((ValueError, IndexError)):
        cross_entropy(torch.zeros(1, 3), torch.tensor([label]))


# The update


@needs_native
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1,), (7,), (129,), (4, 3, 5, 5), (200, 300)], ids=str)
@pytest.mark.parametrize("nesterov", [False, True])
def test_descending_is_the_twins(shape: tuple[int, ...], nesterov: bool, variant: str) -> None:
    """For weights in rows, columns or channels last, with gradients laid out alike or not."""
    draw = torch.Generator().manual_seed(0)
    first = [torch.randn(shape, generator=draw) for _ in range(3)]
    layouts = [[tensor.clone() for tensor in first]]
    layouts.append([layouts[0][0].clone(), first[1].flip(0).contiguous().flip(0), first[2].clone()])
    if len(shape) == 4:
        layouts.append([tensor.clone(memory_format=torch.channels_last) for tensor in first])
        layouts.append([layouts[2][0].clone(), first[1].clone(), layouts[2][2].clone()])
    for weight, gradient, velocity in layouts:
        expected, moved = weight.clone(), velocity.clone()
        with without_native():
            sgd_step(expected, gradient, moved, 0.1, 0.9, 0.01, nesterov)
        kept = gradient.clone()
        for threads in (1, 3):
            one, other = weight.clone(), velocity.clone()
            with use_variant(variant), use_native_threads(threads):
                sgd_step(one, gradient, other, 0.1, 0.9, 0.01, nesterov)
            torch.testing.assert_close(one, expected, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(other, moved, rtol=1e-6, atol=1e-6)
            assert torch.equal(gradient, kept)


def test_one_step_by_hand() -> None:
    """g = 2 + 0.5 * 4 = 4; v = 0.5 * 6 + 4 = 7; w = 4 - 0.1 * 7, or with Nesterov 4 - 0.1 * (4 + 0.5 * 7)."""
    for nesterov, expected in ((False, 3.3), (True, 3.25)):
        weight, gradient, velocity = torch.tensor([4.0]), torch.tensor([2.0]), torch.tensor([6.0])
        sgd_step(weight, gradient, velocity, 0.1, 0.5, 0.5, nesterov)
        assert velocity.item() == 7.0
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_numbers_of_another_type_are_changed_too() -> None:
    weight, velocity = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    sgd_step(weight, torch.ones(3, dtype=torch.float64), velocity, 0.5, 0.9, 0.0, False)
    assert (weight.tolist(), velocity.tolist()) == ([-0.5] * 3, [1.0] * 3)


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
    ids=["int32", "too few", "two-dimensional", "no classes", "none", "elsewhere"],
)
def test_a_batch_that_the_kernel_must_not_read_is_torchs(
    logits: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.native, "cross_entropy", lambda *_: pytest.fail("the kernel was called"))
    with suppress(
        RuntimeError, ValueError, IndexError, NotImplementedError
    ):  # what torch makes of it is its own affair
        cross_entropy(logits, labels)


@needs_native
def test_labels_with_gaps_are_read_as_they_are() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 9, 1, 9, 2, 9, 0, 9, 1, 9])[::2]
    loss, right = cross_entropy(logits, labels)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, labels))
    assert right == int((logits.argmax(1) == labels).sum())


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
    ids=["long gradient", "long velocity", "other gradient", "other velocity", "velocity with gaps", "elsewhere"],
)
def test_what_is_not_alike_is_torchs_to_sgd_step(
    gradient: Tensor, velocity: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.native, "descend", lambda *_: pytest.fail("the kernel was called"))
    with suppress(RuntimeError, NotImplementedError):
        sgd_step(torch.ones(4), gradient, velocity, 0.1, 0.9, 0.0, False)
