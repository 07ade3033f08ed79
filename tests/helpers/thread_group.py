"""A group of ranks that are threads of this process: what they compute is tested without starting processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope.backends.pytorch.group import Group

T = TypeVar("T")
PATIENCE_S = 60


class ThreadGroup(Group):
    """One rank; `slots` and `barrier` are those of all ranks."""

    def __init__(self, rank: int, slots: list[Any], barrier: Barrier) -> None:
        super().__init__(rank, len(slots))
        self.slots, self.barrier = slots, barrier

    def exchange(self, value: Any) -> list[Any]:
        self.slots[self.rank] = value
        self.barrier.wait(PATIENCE_S)
        values = list(self.slots)
        self.barrier.wait(PATIENCE_S)
        return values

    def sum(self, values: Tensor) -> Tensor:
        return torch.stack(self.exchange(values.detach().clone())).sum(0)

    def broadcast(self, values: Sequence[float]) -> list[float]:
        return list(map(float, self.exchange(list(values))[0]))

    def broadcast_bytes(self, content: bytes = b"") -> bytes:
        return bytes(self.exchange(content)[0])

    def gather(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate(self.exchange(values))

    def wait(self) -> None:
        self.exchange(None)


def in_ranks(size: int, work: Callable[[ThreadGroup], T]) -> list[T]:
    """Call `work` in every rank at the same time; return the results by rank."""
    slots: list[Any] = [None] * size
    barrier = Barrier(size)

    def run(rank: int) -> T:
        try:
            return work(ThreadGroup(rank, slots, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
