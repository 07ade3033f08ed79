"""What the extension holds; `convscope.kernels` says what they compute. Addresses are of tensors' numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Maps = Any  # an array or tensor (n, channels, h, w), float32 or bfloat16, channels last in memory

def variants() -> list[str]: ...
def variant() -> str: ...
def use_variant(name: str) -> None: ...
def set_threads(count: int) -> None: ...
def threads() -> int: ...
def active_threads() -> int: ...
def share_openmp(share: bool) -> bool: ...
def peak_gflops() -> float: ...
def first_stage_forward(
    x: Maps,
    weight: Maps,
    bias: Any | None,
    padding: Sequence[int],
    function: int,
    kind: int,
    size: int,
    y: Maps,
    winner: Maps | None,
) -> None: ...
def first_stage_backward(
    x: Maps,
    weight: Maps,
    bias: Any | None,
    padding: Sequence[int],
    function: int,
    kind: int,
    size: int,
    y: Maps | None,
    winner: Maps | None,
    dy: Maps,
    dweight: Maps,
    dbias: Any | None,
) -> None: ...
def chain_forward(*shape_then_addresses: float) -> None: ...
def chain_backward(*shape_then_addresses: int) -> None: ...
def dense_forward(*addresses_then_shape: int) -> None: ...
def dense_backward(*addresses_then_shape: int) -> None: ...
def cut_batch(
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    moves: NDArray[np.int64] | None,
    flips: NDArray[np.uint8] | None,
    table: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None: ...
def cross_entropy(logits: Any, labels: Any, smoothing: float, gradient: Any) -> tuple[float, int]: ...
def descend(
    weight: Any, gradient: Any, velocity: Any, rate: float, momentum: float, decay: float, nesterov: bool
) -> None: ...
