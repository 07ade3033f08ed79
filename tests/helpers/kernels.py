"""What tests of kernels share: running without convscope-native, and with other threads or instruction sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from convscope.backends.native import backend

needs_native = pytest.mark.skipif(
    backend.native is None and os.environ.get("CI") != "true", reason="convscope-native is not installed"
)
VARIANTS = backend.native.variants() if backend.native is not None else ["plain"]


@contextmanager
def without_native() -> Iterator[None]:
    """Everything runs as its twin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "native", None)
        yield


@contextmanager
def use_variant(name: str) -> Iterator[None]:
    assert backend.native is not None, "CI runs with convscope-native"
    before = backend.native.variant()
    backend.native.use_variant(name)
    try:
        yield
    finally:
        backend.native.use_variant(before)


@contextmanager
def use_native_threads(count: int) -> Iterator[None]:
    assert backend.native is not None, "CI runs with convscope-native"
    before = backend.native.threads()
    backend.native.set_threads(count)
    try:
        yield
    finally:
        backend.native.set_threads(before)
