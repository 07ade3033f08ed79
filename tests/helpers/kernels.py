"""Helpers for tests of kernels: other instruction sets, numbers of threads, or no convscope-native at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from convscope.backends.native import backend
from convscope.network.activations import ACTIVATIONS

needs_native = pytest.mark.skipif(
    backend.native is None and os.environ.get("CI") != "true", reason="convscope-native is not installed"
)
VARIANTS: list[str] = backend.native.variants() if backend.native is not None else ["none"]
FUSED_ACTIVATIONS = [
    name for name in ACTIVATIONS if backend.native is None or name in backend.native.ACTIVATIONS
]  # those with a kernel


@contextmanager
def without_native() -> Iterator[None]:
    """Run the reference implementations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "native", None)
        yield


@contextmanager
def use_variant(name: str) -> Iterator[None]:
    """Run the kernels of one instruction set."""
    assert backend.native is not None, "CI needs convscope-native"
    before = backend.native.variant()
    backend.native.use_variant(name)
    try:
        yield
    finally:
        backend.native.use_variant(before)


@contextmanager
def use_native_threads(count: int) -> Iterator[None]:
    """Run the kernels on a number of threads."""
    assert backend.native is not None, "CI needs convscope-native"
    before = backend.native.threads()
    backend.native.set_threads(count)
    try:
        yield
    finally:
        backend.native.set_threads(before)


class KernelRecorder:
    """convscope-native, recording the calls of its kernels."""

    def __init__(self, native: Any) -> None:
        self.native = native
        self.calls: list[tuple[str, Any]] = []  # the kernel, and its arguments or the fields of its job

    @property
    def names(self) -> list[str]:
        """The kernels in order of their calls."""
        return [name for name, _ in self.calls]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.native, name)
        if isinstance(value, type) or not callable(value):
            return value

        def call(*arguments: Any) -> Any:
            self.calls.append((name, [fields(argument) for argument in arguments]))
            return value(*arguments)

        return call


def fields(argument: Any) -> Any:
    """The fields of a job by name; other arguments unchanged."""
    if not type(argument).__module__.startswith("convscope_native"):
        return argument
    return {name: getattr(argument, name) for name in dir(argument) if not name.startswith("_")}


def record_kernels(monkeypatch: pytest.MonkeyPatch) -> KernelRecorder:
    """Record the kernels that are called until the end of the test."""
    recorder = KernelRecorder(backend.native)
    if backend.native is not None:
        monkeypatch.setattr(backend, "native", recorder)
    return recorder
