"""The built extension by itself; its kernels are held against their twins in convscope's own tests."""

from __future__ import annotations

import subprocess
import sys

from convscope_native import _kernels


def test_the_best_variant_is_chosen_and_any_can_be() -> None:
    names = _kernels.variants()
    assert names[0] == "plain"
    assert _kernels.variant() == names[-1]
    for name in names:
        _kernels.use_variant(name)
        assert _kernels.variant() == name


def test_threads_add_up() -> None:
    _kernels.set_threads(3)
    assert _kernels.threads() == 3
    assert _kernels.peak_gflops() > 1


def test_it_brings_no_openmp_of_its_own() -> None:
    code = "import convscope_native._kernels; print(open('/proc/self/maps').read())"
    if not sys.platform.startswith("linux"):
        return
    maps = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "_kernels" in maps
    assert not [word for word in ("libgomp", "libomp", "libiomp") if word in maps]
