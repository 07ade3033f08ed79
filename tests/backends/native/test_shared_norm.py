"""Batch norm of a batch shared out among ranks: values, gradients and running statistics of the whole batch."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from convscope.backends.native import backend
from convscope.backends.native.norm_act_pool import norm_act_pool
from convscope.backends.native.reference_ops import Pooling
from convscope.backends.pytorch.shared_batch import BatchNorm1d, BatchNorm2d
from helpers.thread_group import ThreadGroup, in_ranks

SHAPE = (7, 5, 4, 4)  # of the whole batch
LAYERS: list[tuple[str, Pooling | None, bool]] = [
    ("none", None, False), ("relu", None, False), ("relu", ("max", 2), False), ("gelu", ("average", 2), False),
    ("gelu", ("max", 2), True),
]  # fmt: skip


class Step(NamedTuple):
    """What a forward and a backward pass give: y, dx, dweight, dbias, running mean and variance."""

    y: Tensor
    dx: Tensor
    dweight: Tensor
    dbias: Tensor
    mean: Tensor
    variance: Tensor


def step(
    norm: BatchNorm2d | BatchNorm1d, x: Tensor, upstream: Tensor, layers: tuple[str, Pooling | None, bool]
) -> Step:
    activation, pool, pool_first = layers
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = norm_act_pool(x, norm, activation, pool, pool_first)
    (y * upstream[:, :, : y.shape[2], : y.shape[3]]).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and norm.weight.grad is not None and norm.bias.grad is not None
    assert norm.running_mean is not None and norm.running_var is not None
    return Step(y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)


def new_norm(kind: type[nn.Module] = BatchNorm2d) -> BatchNorm2d:
    norm = kind(SHAPE[1], 1e-3)
    assert isinstance(norm, BatchNorm1d | BatchNorm2d)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, SHAPE[1]))
        norm.bias.copy_(torch.linspace(-1, 1, SHAPE[1]))
    return norm  # type: ignore[return-value]


@pytest.fixture(params=["native", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(backend, "native", None)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_norm_act_pool_of_shared_batch_equals_that_of_whole_batch(
    size: int, layers: tuple[str, Pooling | None, bool]
) -> None:
    torch.manual_seed(1)
    x, upstream = 3 * torch.randn(SHAPE) + 5, torch.randn(SHAPE)
    whole = step(new_norm(), x.clone(), upstream, layers)

    def work(group: ThreadGroup) -> Step:
        own = group.begin_batch(len(x))
        norm = new_norm()
        group.share_batches(norm)
        return step(norm, x[own].clone(), upstream[own], layers)

    parts = in_ranks(size, work)
    torch.testing.assert_close(torch.cat([part.y for part in parts]), whole.y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([part.dx for part in parts]), whole.dx, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sum(part.dweight for part in parts), whole.dweight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sum(part.dbias for part in parts), whole.dbias, rtol=1e-4, atol=1e-4)
    for part in parts:
        torch.testing.assert_close(part.mean, whole.mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(part.variance, whole.variance, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("kernels")
def test_norm_act_pool_of_batch_smaller_than_group_equals_that_of_whole_batch() -> None:
    torch.manual_seed(2)
    x, upstream = torch.randn(2, *SHAPE[1:]), torch.randn(2, *SHAPE[1:])
    whole = step(new_norm(), x.clone(), upstream, LAYERS[1])

    def work(group: ThreadGroup) -> Step:
        assert group.begin_batch(2).tolist() == [0, 1]
        norm = new_norm()
        group.share_batches(norm)
        return step(norm, x.clone(), upstream * group.weight, LAYERS[1])  # as the weighted losses of three ranks

    parts = in_ranks(3, work)
    for part in parts:
        torch.testing.assert_close(part.y, whole.y, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.variance, whole.variance, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sum(part.dx for part in parts), whole.dx, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sum(part.dweight for part in parts), whole.dweight, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("kernels")
def test_norm_of_vectors_of_shared_batch_equals_that_of_whole_batch() -> None:
    torch.manual_seed(3)
    x = torch.randn(7, SHAPE[1])
    expected = new_norm(BatchNorm1d)(x)

    def work(group: ThreadGroup) -> Tensor:
        own = group.begin_batch(len(x))
        norm = new_norm(BatchNorm1d)
        group.share_batches(norm)
        return norm_act_pool(x[own][:, :, None, None], norm).flatten(1).detach()

    torch.testing.assert_close(torch.cat(in_ranks(3, work)), expected, rtol=1e-4, atol=1e-5)


def test_shared_norm_in_evaluation_needs_no_other_rank() -> None:
    norm = new_norm().eval()
    x = torch.randn(SHAPE)
    expected = norm_act_pool(x, norm)
    ThreadGroup(0, [None, None], None).share_batches(norm)  # type: ignore[arg-type]
    assert torch.equal(norm_act_pool(x, norm), expected)
