"""The backend to convscope-native: whether its kernels are used, and how many threads they may take."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


Precision = Literal["float32", "bf16"]


def _load() -> tuple[ModuleType | None, str]:
    if os.environ.get("CONVSCOPE_NATIVE", "1") == "0":
        return None, "CONVSCOPE_NATIVE=0"
    try:
        from convscope_native import _kernels
    except ModuleNotFoundError:
        return None, "convscope-native is not installed"
    except ImportError as error:
        return None, f"convscope-native is not usable ({error})"
    return _kernels, ""


native, reason = _load()  # the extension module or None, and then why


def address(tensor: Tensor | None) -> int:
    """Where a tensor's numbers lie, 0 for none; it has to live as long as the kernel works."""
    return 0 if tensor is None else tensor.data_ptr()


def variant() -> str:
    """Which kernels run: the instruction set of convscope-native's, or `torch` for the twins."""
    return f"native {native.variant()}" if native is not None else "torch"


def backend_name() -> str:
    """The same, and why they are torch's where they are: `torch, because convscope-native is not installed`."""
    return f"{variant()}, because {reason}" if reason else variant()


def share_torch_threads(share: bool) -> None:
    """Let the kernels work on torch's own threads, or on theirs.

    Theirs give way on a busy machine, whose OpenMP threads wait for each other; but two sets of threads would fight
    for the cores where torch works hard between two kernels.
    """
    if native is not None:
        native.share_openmp(share)


def use_threads(threads: int, torch_works: bool = True) -> None:
    """So many threads for the kernels, and for torch: one, where it only adds small things up between them."""
    import torch

    torch.set_num_threads(threads if torch_works else 1)
    if native is not None:
        native.set_threads(threads)
