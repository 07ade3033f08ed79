"""Whether the kernels of convscope-native are used, and on how many threads."""

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


native, reason = _load()  # the extension module; or None and why


def address(tensor: Tensor | None) -> int:
    """The address of a tensor's data, 0 for None. The tensor must outlive the kernel's call."""
    return 0 if tensor is None else tensor.data_ptr()


def variant() -> str:
    """The kernels in use: `native` and the instruction set, or `torch` for the reference implementations."""
    return f"native {native.variant()}" if native is not None else "torch"


def backend_name() -> str:
    """The kernels in use, and the reason if they are PyTorch's: `torch, because convscope-native is not installed`."""
    return f"{variant()}, because {reason}" if reason else variant()


def share_torch_threads(share: bool) -> None:
    """Run the kernels on PyTorch's threads instead of their own.

    Their own threads cope better with a busy machine, where OpenMP's wait for each other. But if PyTorch does much work
    between two kernels, two sets of threads would compete for the cores.
    """
    if native is not None:
        native.share_openmp(share)


def use_threads(threads: int, torch_works: bool = True) -> None:
    """Set the number of threads of the kernels and of PyTorch.

    Args:
        threads: Number of threads, at least 1.
        torch_works: Whether PyTorch does much work between the kernels; if not, it gets one thread.
    """
    import torch

    torch.set_num_threads(threads if torch_works else 1)
    if native is not None:
        native.set_threads(threads)
