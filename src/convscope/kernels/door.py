"""The door to convscope-native: whether its kernels are used, and how many threads they may take."""

from __future__ import annotations

import os
from types import ModuleType


def _load() -> tuple[ModuleType | None, str]:
    if os.environ.get("CONVSCOPE_NATIVE", "1") == "0":
        return None, "CONVSCOPE_NATIVE=0"
    try:
        from convscope_native import _kernels
    except ImportError as error:
        return None, f"convscope-native is not usable ({error})"
    return _kernels, ""


native, reason = _load()  # the extension module or None, and then why


def name() -> str:
    """Which kernels run: the instruction set of convscope-native's, or `torch` for the twins."""
    return f"native {native.variant()}" if native is not None else "torch"
