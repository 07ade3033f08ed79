"""The compiled module alone; convscope's own tests compare its kernels with their references."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if os.environ.get("CI") != "true":
    pytest.importorskip("convscope_native._kernels", reason="convscope-native is not installed")
from convscope_native import _kernels

STUB = ast.parse((Path(__file__).parents[1] / "convscope_native" / "_kernels.pyi").read_text("utf-8"))
JOBS = [node for node in STUB.body if isinstance(node, ast.ClassDef)]
JOB_IDS = [job.name for job in JOBS]


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    variant, threads = _kernels.variant(), _kernels.threads()
    yield
    _kernels.use_variant(variant)
    _kernels.set_threads(threads)


def test_variant_fastest_is_default_any_can_be_used() -> None:
    names = _kernels.variants()
    assert names[0] == "plain"
    assert _kernels.variant() == names[-1]
    for name in names:
        _kernels.use_variant(name)
        assert _kernels.variant() == name
    with pytest.raises(ValueError, match=r"no kernels for 'mmx' in this build or for this processor; see variants\(\)"):
        _kernels.use_variant("mmx")


def test_threads_count_is_used_and_at_least_one() -> None:
    _kernels.set_threads(3)
    assert (_kernels.threads(), _kernels.active_threads()) == (3, 3)
    assert _kernels.peak_gflops() > 0
    assert 1 <= _kernels.active_threads() <= 3  # fewer while other processes need the cores
    _kernels.set_threads(0)
    assert (_kernels.threads(), _kernels.active_threads()) == (1, 1)


def public_names(owner: object) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


def fields(body: list[ast.stmt]) -> set[str]:
    targets = [node.target for node in body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def stub_names(body: list[ast.stmt]) -> set[str]:
    return fields(body) | {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_stub_names_equal_module_names() -> None:
    assert stub_names(STUB.body) == public_names(_kernels)


@pytest.mark.parametrize("job", JOBS, ids=JOB_IDS)
def test_stub_fields_equal_job_fields(job: ast.ClassDef) -> None:
    assert stub_names(job.body) == public_names(getattr(_kernels, job.name))


@pytest.mark.parametrize("job", JOBS, ids=JOB_IDS)
def test_job_fields_are_zero_then_what_was_set(job: ast.ClassDef) -> None:
    made = getattr(_kernels, job.name)()
    for field in fields(job.body):
        zero = getattr(made, field)
        value: object = [4, 3, 2, 1] if isinstance(zero, list) else type(zero)(1)
        assert zero in (0, [0] * 4)
        setattr(made, field, value)
        assert getattr(made, field) == value


@pytest.mark.parametrize("job", JOBS, ids=JOB_IDS)
def test_job_unknown_field_raises(job: ast.ClassDef) -> None:
    with pytest.raises(AttributeError):
        getattr(_kernels, job.name)().no_such_field = 1


def test_numbers_of_activations_and_pools_are_consecutive() -> None:
    for numbers in (_kernels.ACTIVATIONS, _kernels.POOLS):
        assert list(numbers.values()) == list(range(len(numbers)))
        assert next(iter(numbers)) == "none"


def conv_act_pool(**values: int) -> None:
    job = _kernels.ConvActPool()
    job.n = job.h = job.w = job.c = job.filters = job.kernel_size = job.pool_size = 1
    for name, value in values.items():
        setattr(job, name, value)
    _kernels.conv_act_pool_forward(job)


def norm_act_pool(**values: int) -> None:
    job = _kernels.NormActPool()
    job.n = job.h = job.w = job.c = 1
    for name, value in values.items():
        setattr(job, name, value)
    _kernels.norm_act_pool_forward(job)


def dense(**values: int) -> None:
    job = _kernels.Dense()
    job.n = job.inputs = job.units = 1
    for name, value in values.items():
        setattr(job, name, value)
    _kernels.dense_backward(job)


@pytest.mark.parametrize(
    ("call", "field", "value", "message"),
    [
        (conv_act_pool, "n", 0, "expected images of at least one pixel"),
        (conv_act_pool, "c", 5, "expected 1 to 4 channels"),
        (conv_act_pool, "filters", 0, "expected at least one filter of at least one pixel"),
        (conv_act_pool, "left", -1, "expected padding of at least 0"),
        (conv_act_pool, "activation", 99, "unknown activation"),
        (conv_act_pool, "pool", -1, "unknown pool"),
        (conv_act_pool, "pool_size", 5, "expected a pool size of 1 to 4"),
        (conv_act_pool, "pool_size", 2, "expected images that hold one pooling window of the convolution"),
        (conv_act_pool, "bf16", True, "expected addresses of x and weight"),
        (norm_act_pool, "c", 0, "expected a feature map of at least one number"),
        (norm_act_pool, "activation", -1, "unknown activation"),
        (norm_act_pool, "pool", 4, "unknown pool"),
        (norm_act_pool, "pool", 1, "expected a pool size of 1 to 15"),
        (norm_act_pool, "batch_statistics", True, "batch statistics need a norm"),
        (norm_act_pool, "norm", True, "expected the address of statistics"),
        (norm_act_pool, "bf16", True, "expected addresses of x and y"),
        (dense, "units", 0, "expected at least one row, input and unit"),
        (dense, "relu", True, "expected the address of weight"),
    ],
)
def test_job_bad_field_raises(call: Callable[..., None], field: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(**{field: value})


def test_module_loads_no_openmp() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc")
    code = "import convscope_native._kernels; print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "_kernels" in maps
    assert not [word for word in ("libgomp", "libomp", "libiomp") if word in maps]
