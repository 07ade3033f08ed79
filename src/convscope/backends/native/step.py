"""The parts of a training step outside its layers: gathering the batch, the loss, and the update of the weights."""

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
Floats = NDArray[np.float32]


def gather_batch(
    images: Pixels, index: Index, table: Floats, shifts: Index | None = None, flips: Mask | None = None
) -> Floats:
    """Gather images as the input of a network: table[pixel, channel].

    Args:
        images: uint8 (.., h, w, c).
        index: int64 (n,), the rows of `images`.
        table: float32 (256, c), the input value of each pixel value.
        shifts: int64 (n, 2), rows down and columns to the right to shift each image by; its edges are filled by
            reflection.
        flips: bool (n,), whether to flip each image left to right before the shift.

    Returns:
        float32 (n, h, w, c).
    """
    if backend.native is None or not images.flags.c_contiguous:
        return gather_batch_ref(images, index, table, shifts, flips)
    out = np.empty((len(index), *images.shape[1:]), np.float32)
    backend.native.gather_batch(images, index, table, shifts, None if flips is None else flips.view(np.uint8), out)
    return out


def gather_batch_ref(images: Pixels, index: Index, table: Floats, shifts: Index | None, flips: Mask | None) -> Floats:
    """`gather_batch` in NumPy."""
    pixels = images[index]
    if flips is not None:
        pixels = np.where(flips[:, None, None, None], pixels[:, :, ::-1], pixels)
    if shifts is not None:
        height, width = pixels.shape[1:3]
        rows = _reflect(np.arange(height) - shifts[:, :1], height)  # (n, h)
        columns = _reflect(np.arange(width) - shifts[:, 1:], width)  # (n, w)
        pixels = pixels[np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]]
    batch: Floats = table[pixels, np.arange(pixels.shape[3])]
    return batch


def _reflect(at: Index, size: int) -> Index:
    """Indices in [0, size) for positions `at`: reflected at the edges, whose pixels are not repeated."""
    at = np.abs(at)
    return np.maximum(np.where(at >= size, 2 * (size - 1) - at, at), 0)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> tuple[Tensor, int]:
    """Mean cross-entropy of softmax(logits) in nats, and the number of labels with the largest logit.

    Args:
        logits: (n, classes), float32 for the native kernel.
        labels: int64 (n,).
        smoothing: Part of each target that is distributed evenly over all classes (Szegedy et al., 2016), in [0, 1).

    Returns:
        The loss, a differentiable scalar, and the number of correct labels.
    """
    if backend.native is None or not _is_supported(logits, labels):
        return cross_entropy_ref(logits, labels, smoothing)
    correct: list[int] = []
    loss = _CrossEntropy.apply(logits.contiguous(), labels.contiguous(), smoothing, correct)  # type: ignore[no-untyped-call]
    return loss, correct[0]


def cross_entropy_ref(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, int]:
    """`cross_entropy` in PyTorch operations."""
    loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    return loss, int((logits.argmax(1) == labels).sum())


def _is_supported(logits: Tensor, labels: Tensor) -> bool:
    return (
        logits.dtype is torch.float32
        and labels.dtype is torch.int64
        and logits.is_cpu
        and labels.is_cpu
        and logits.ndim == 2
        and logits.numel() > 0
        and labels.shape == logits.shape[:1]
    )


class _CrossEntropy(torch.autograd.Function):
    """The loss; forward computes its gradient, too."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, correct: list[int]) -> Tensor:
        assert backend.native is not None
        gradient = torch.empty_like(logits)
        n, classes = logits.shape
        loss, count = backend.native.cross_entropy(
            logits.data_ptr(), labels.data_ptr(), n, classes, smoothing, gradient.data_ptr()
        )
        correct.append(count)
        ctx.save_for_backward(gradient)
        return torch.tensor(loss, dtype=logits.dtype)

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * dloss, None, None, None


def sgd_step(
    weight: Tensor, gradient: Tensor, velocity: Tensor, lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """Update weight and velocity in place by one step of stochastic gradient descent.

    g = gradient + weight_decay * weight; velocity = momentum * velocity + g; weight -= lr * velocity, or with Nesterov
    momentum (Sutskever et al., 2013) lr * (g + momentum * velocity).

    Args:
        weight: Any shape, float32 for the native kernel.
        gradient: Of the same shape.
        velocity: Of the same shape and strides.
        lr: Learning rate.
        momentum: In [0, 1).
        weight_decay: At least 0.
        nesterov: Use Nesterov momentum.
    """
    native = backend.native
    if native is None or not _are_supported(weight, gradient, velocity):
        sgd_step_ref(weight, gradient, velocity, lr, momentum, weight_decay, nesterov)
        return
    if gradient.stride() != weight.stride():
        gradient = torch.empty_like(weight).copy_(gradient)
    job = native.SgdStep()
    job.size, job.nesterov = weight.numel(), nesterov
    job.lr, job.momentum, job.weight_decay = lr, momentum, weight_decay
    job.weight, job.gradient, job.velocity = weight.data_ptr(), gradient.data_ptr(), velocity.data_ptr()
    native.sgd_step(job)


def sgd_step_ref(
    weight: Tensor, gradient: Tensor, velocity: Tensor, lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """`sgd_step` in PyTorch operations."""
    gradient = gradient.add(weight, alpha=weight_decay) if weight_decay else gradient
    velocity.mul_(momentum).add_(gradient)
    weight.sub_(gradient.add(velocity, alpha=momentum) if nesterov else velocity, alpha=lr)


def _are_supported(weight: Tensor, gradient: Tensor, velocity: Tensor) -> bool:
    return (
        weight.dtype is gradient.dtype is velocity.dtype is torch.float32
        and weight.shape == gradient.shape == velocity.shape
        and velocity.stride() == weight.stride()
        and weight.is_cpu
        and gradient.is_cpu
        and velocity.is_cpu
    )
