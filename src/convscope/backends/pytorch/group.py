"""The processes that train one model together, by torch.distributed with gloo, on CPUs.

Every process, a rank, computes its rows of each batch. What they compute together equals what one process would compute
from the whole batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope.backends.pytorch.shared_batch import BatchNorm1d, BatchNorm2d, Dropout
from convscope.errors import PeerError

EXCHANGE_LIMIT = timedelta(minutes=10)  # between processes that have begun to train; who ends is noticed at once
WAIT_LIMIT = timedelta(days=1)  # for a process that decodes images, or measures


class Group:
    """This process and the others of torch's default process group; rank 0 decides, writes and talks.

    Args:
        rank: the number of this process, from 0.
        size: number of processes.

    Attributes:
        images: number of images of the present batch, in all processes.
        first: position of this rank's first image in the batch.
        last: position after its last one.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.images = self.first = self.last = 0

    @property
    def is_repeated(self) -> bool:
        """Whether every rank computes the whole batch, because it has fewer images than there are ranks."""
        return self.images < self.size

    @property
    def counted(self) -> int:
        """Number of images that all ranks compute."""
        return self.images * (self.size if self.is_repeated else 1)

    @property
    def weight(self) -> float:
        """The fraction of the batch's mean loss that this rank's mean loss is."""
        return (self.last - self.first) / self.counted

    def begin_batch(self, images: int) -> NDArray[np.int64]:
        """Return the positions of this rank's images in a batch of `images`: consecutive, almost as many as others."""
        self.images = images
        self.first, self.last = 0, images
        if not self.is_repeated:
            self.first, self.last = (images * rank // self.size for rank in (self.rank, self.rank + 1))
        return np.arange(self.first, self.last)

    def share_batches(self, model: nn.Module) -> None:
        """Let the model's batch normalization and dropout see the whole batch."""
        for module in model.modules():
            if isinstance(module, BatchNorm1d | BatchNorm2d | Dropout):
                module.shared = self

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of the tensors of all ranks."""
        total = values.detach().clone()
        with peer_errors():
            dist.all_reduce(total)
        return total

    def combine(self, weights: Sequence[Tensor], loss: Tensor, correct: int) -> tuple[float, int, int]:
        """Sum the gradients, in place and in one message; return loss, correct images and images of the whole batch.

        Args:
            weights: their gradients are those of the mean loss times `weight`.
            loss: this rank's mean loss.
            correct: number of this rank's images whose label had the highest logit.
        """
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        counts = torch.tensor([loss.item() * self.weight, correct])
        parts = self.sum(torch.cat([counts, *(gradient.flatten() for gradient in gradients)]))
        position = len(counts)
        for gradient in gradients:
            gradient.copy_(parts[position : position + gradient.numel()].view(gradient.shape))
            position += gradient.numel()
        return parts[0].item(), round(parts[1].item() * self.images / self.counted), self.images

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """Return the numbers of rank 0; all ranks pass as many."""
        numbers = torch.tensor(values, dtype=torch.float64)
        with peer_errors():
            dist.broadcast(numbers, 0)
        return [float(number) for number in numbers]

    def broadcast_bytes(self, content: bytes = b"") -> bytes:
        """Return the bytes of rank 0."""
        (length,) = self.broadcast([len(content)])
        buffer = np.zeros(int(length), np.uint8)
        if self.rank == 0:
            buffer[:] = np.frombuffer(content, np.uint8)
        with peer_errors():
            dist.broadcast(torch.from_numpy(buffer), 0)
        return buffer.tobytes()

    def gather(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the arrays of all ranks, of equal shapes, one after the other; rank 0 alone gets those of others."""
        own = torch.from_numpy(np.ascontiguousarray(values))
        parts = [torch.empty_like(own) for _ in range(self.size)] if self.rank == 0 else None
        with peer_errors():
            dist.gather(own, parts)
        return values if parts is None else torch.cat(parts).numpy()

    def wait(self) -> None:
        """Wait until all ranks have come here, however long one of them works before."""
        with peer_errors():
            dist.monitored_barrier(timeout=WAIT_LIMIT)


@contextmanager
def peer_errors() -> Iterator[None]:
    """Raise PeerError for what gloo and torch's stores report about other processes."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise PeerError(
            f"another process of this training has ended, or cannot be reached ({reason}): "
            "start all of them again, to continue from the last checkpoint"
        ) from error
