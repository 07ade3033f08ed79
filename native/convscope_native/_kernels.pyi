"""The compiled kernels; `convscope.backends.native` documents what they compute.

A job holds the shape and options of one call, filled by name, and the addresses of its tensors' data, 0 for none. The
caller checks types and layouts, and keeps the tensors alive. A new job is zero in every field.
"""

import numpy as np
from numpy.typing import NDArray

Strides = tuple[int, ...]

ACTIVATIONS: dict[str, int]  # numbers for `activation`
POOLS: dict[str, int]  # numbers for `pool`
STEM_MAX_CHANNELS: int
STEM_MAX_POOL_SIZE: int
MAX_POOL_SIZE: int

class ConvActPool:
    n: int
    h: int
    w: int
    c: int
    filters: int
    kernel_size: int
    top: int
    bottom: int
    left: int
    right: int
    activation: int
    pool: int
    pool_size: int
    bf16: bool
    weight_strides: Strides
    dweight_strides: Strides
    x: int
    weight: int
    bias: int
    y: int
    argmax: int
    dy: int
    dweight: int
    dbias: int
    @property
    def oh(self) -> int: ...
    @property
    def ow(self) -> int: ...
    @property
    def has_argmax(self) -> bool: ...
    @property
    def reads_output(self) -> bool: ...

class NormActPool:
    n: int
    h: int
    w: int
    c: int
    activation: int
    pool: int
    pool_size: int
    pool_first: bool
    bf16: bool
    norm: bool
    batch_statistics: bool
    momentum: float
    eps: float
    x: int
    pooled: int
    y: int
    argmax: int
    weight: int
    bias: int
    statistics: int
    running_mean: int
    running_var: int
    dy: int
    dx: int
    dweight: int
    dbias: int
    @property
    def has_argmax(self) -> bool: ...
    @property
    def saved_for_backward(self) -> str: ...

class Dense:
    n: int
    inputs: int
    units: int
    relu: bool
    bf16: bool
    x_is_bf16: bool
    x: int
    weight: int
    bias: int
    y: int
    dy: int
    dx: int
    dweight: int
    dbias: int

class SgdStep:
    size: int
    lr: float
    momentum: float
    weight_decay: float
    nesterov: bool
    weight: int
    gradient: int
    velocity: int

def variants() -> list[str]: ...
def variant() -> str: ...
def use_variant(name: str) -> None: ...
def set_threads(count: int) -> None: ...
def threads() -> int: ...
def active_threads() -> int: ...
def share_openmp(share: bool) -> bool: ...
def peak_gflops() -> float: ...
def conv_act_pool_forward(job: ConvActPool) -> None: ...
def conv_act_pool_backward(job: ConvActPool) -> None: ...
def norm_act_pool_forward(job: NormActPool) -> None: ...
def norm_act_pool_backward(job: NormActPool) -> None: ...
def dense_forward(job: Dense) -> None: ...
def dense_backward(job: Dense) -> None: ...
def gather_batch(
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    table: NDArray[np.float32],
    shifts: NDArray[np.int64] | None,
    flips: NDArray[np.uint8] | None,
    out: NDArray[np.float32],
) -> None: ...
def cross_entropy(
    logits: int, labels: int, n: int, classes: int, smoothing: float, gradient: int
) -> tuple[float, int]: ...
def sgd_step(job: SgdStep) -> None: ...
