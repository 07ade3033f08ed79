"""The built extension by itself; its kernels are held against their twins in convscope's own tests."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.environ.get("CI") != "true":
    pytest.importorskip("convscope_native._kernels", reason="convscope-native is not installed")
from convscope_native import _kernels


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    variant, threads = _kernels.variant(), _kernels.threads()
    yield
    _kernels.use_variant(variant)
    _kernels.set_threads(threads)


def test_the_best_variant_is_chosen_and_any_can_be() -> None:
    names = _kernels.variants()
    assert names[0] == "plain"
    assert _kernels.variant() == names[-1]
    for name in names:
        _kernels.use_variant(name)
        assert _kernels.variant() == name
    with pytest.raises(ValueError, match="this processor or build has no kernels for 'mmx'"):
        _kernels.use_variant("mmx")


def test_as_many_threads_as_asked_for() -> None:
    _kernels.set_threads(3)
    assert (_kernels.threads(), _kernels.active_threads()) == (3, 3)
    assert _kernels.peak_gflops() > 0
    assert 1 <= _kernels.active_threads() <= 3  # fewer where other processes want the cores
    _kernels.set_threads(0)
    assert (_kernels.threads(), _kernels.active_threads()) == (1, 1)


def test_the_stub_names_what_is_there() -> None:
    stub = Path(__file__).parents[1] / "convscope_native" / "_kernels.pyi"
    named = {node.name for node in ast.parse(stub.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}
    assert named == {name for name in dir(_kernels) if not name.startswith("_")}


def test_it_brings_no_openmp_of_its_own() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc is Linux's")
    code = "import convscope_native._kernels; print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "_kernels" in maps
    assert not [word for word in ("libgomp", "libomp", "libiomp") if word in maps]
