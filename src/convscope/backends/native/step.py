"""What a training step needs beside its layers: a batch cut out of the data set, the loss, and the weights' update."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from convscope.backends.native import backend

Pixels = NDArray[np.uint8]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


def gather_batch(
    images: Pixels, index: Index, table: NDArray[np.float32], moves: Index | None = None, flips: Mask | None = None
) -> NDArray[np.float32]:
    """The images at `index` as a network's input: float32 (n, h, w, c) = table[pixel, channel].

    images: uint8 (.., h, w, c); table: float32 (256, c), what each pixel value becomes. moves: int64 (n, 2), how many
    rows down and columns to the right each image is moved; what comes in at the edge is the image reflected there.
    flips: bool (n,), whether it is flipped left to right before that.
    """
    if backend.native is None or not images.flags.c_contiguous:
        return _gather_batch_ref(images, index, table, moves, flips)
    out = np.empty((len(index), *images.shape[1:]), np.float32)
    backend.native.cut_batch(images, index, moves, None if flips is None else flips.view(np.uint8), table, out)
    return out


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> tuple[Tensor, int]:
    """Mean cross-entropy in nats of softmax(logits), and how many labels have the largest logit.

    logits: float32 (n, classes); labels: int64 (n,). The target is 1 - smoothing for the label, and `smoothing` is
    spread over all classes (Szegedy et al., 2016).
    """
    if backend.native is None or not _is_batch(logits, labels):
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        return loss, int((logits.argmax(1) == labels).sum())
    right: list[int] = []
    loss = _CrossEntropy.apply(logits.contiguous(), labels.contiguous(), smoothing, right)  # type: ignore[no-untyped-call]
    return loss, right[0]


def sgd_step(
    weight: Tensor, gradient: Tensor, velocity: Tensor, rate: float, momentum: float, decay: float, nesterov: bool
) -> None:
    """One step of stochastic gradient descent, in place, for float32 tensors laid out alike.

    g = gradient + decay * weight; velocity = momentum * velocity + g; weight -= rate * velocity, or with Nesterov's
    momentum (Sutskever et al., 2013) rate * (g + momentum * velocity).
    """
    if backend.native is not None and _are_alike(weight, gradient, velocity):
        if gradient.stride() != weight.stride():
            gradient = torch.empty_like(weight).copy_(gradient)
        backend.native.descend(
            weight.data_ptr(), gradient.data_ptr(), velocity.data_ptr(), weight.numel(), rate, momentum, decay, nesterov
        )
        return
    gradient = gradient.add(weight, alpha=decay) if decay else gradient
    velocity.mul_(momentum).add_(gradient)
    weight.sub_(gradient.add(velocity, alpha=momentum) if nesterov else velocity, alpha=rate)


def _is_batch(logits: Tensor, labels: Tensor) -> bool:
    return (
        logits.dtype is torch.float32
        and labels.dtype is torch.int64
        and logits.is_cpu
        and labels.is_cpu
        and logits.ndim == 2
        and logits.numel() > 0
        and labels.shape == logits.shape[:1]
    )


def _are_alike(weight: Tensor, gradient: Tensor, velocity: Tensor) -> bool:
    return (
        weight.dtype is gradient.dtype is velocity.dtype is torch.float32
        and weight.shape == gradient.shape == velocity.shape
        and velocity.stride() == weight.stride()
        and weight.is_cpu
        and gradient.is_cpu
        and velocity.is_cpu
    )


class _CrossEntropy(torch.autograd.Function):
    """The loss; its gradient is worked out with it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, right: list[int]) -> Tensor:
        assert backend.native is not None
        gradient = torch.empty_like(logits)
        loss, count = backend.native.cross_entropy(
            logits.data_ptr(), labels.data_ptr(), *logits.shape, smoothing, gradient.data_ptr()
        )
        right.append(count)
        ctx.save_for_backward(gradient)
        return torch.tensor(loss, dtype=logits.dtype)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None, None


def _gather_batch_ref(
    images: Pixels, index: Index, table: NDArray[np.float32], moves: Index | None, flips: Mask | None
) -> NDArray[np.float32]:
    pixels = images[index]
    if flips is not None:
        pixels = np.where(flips[:, None, None, None], pixels[:, :, ::-1], pixels)
    if moves is not None:
        height, width = pixels.shape[1:3]
        rows = _reflected(np.arange(height) - moves[:, :1], height)  # (n, h)
        columns = _reflected(np.arange(width) - moves[:, 1:], width)  # (n, w)
        pixels = pixels[np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]]
    cut: NDArray[np.float32] = table[pixels, np.arange(pixels.shape[3])]
    return cut


def _reflected(at: Index, size: int) -> Index:
    """Where position `at` of a line of `size` pixels is read: reflected at the edges, which are not repeated."""
    at = np.abs(at)
    return np.maximum(np.where(at >= size, 2 * (size - 1) - at, at), 0)
