"""Choice of the kernels: CONVSCOPE_NATIVE, missing or broken installations, and the messages about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convscope.backends.native import backend
from helpers.command import Command
from helpers.kernels import needs_native, without_native

PRINT_BACKEND = (
    "from convscope.backends.native import backend; print(backend.native is None, backend.backend_name(), sep='|')"
)


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.stdout.strip()


def test_backend_native_0_is_torch() -> None:
    assert run_python(PRINT_BACKEND, CONVSCOPE_NATIVE="0") == "True|torch, because CONVSCOPE_NATIVE=0"


@needs_native
def test_backend_default_is_native() -> None:
    is_none, name = run_python(PRINT_BACKEND, CONVSCOPE_NATIVE="1").split("|")
    assert is_none == "False"
    assert name.startswith("native ")
    assert name == backend.backend_name() == backend.variant()


def test_backend_not_installed_reason_says_so() -> None:
    code = f"import sys; sys.modules['convscope_native'] = None; {PRINT_BACKEND}"
    assert run_python(code, CONVSCOPE_NATIVE="1") == "True|torch, because convscope-native is not installed"


def test_backend_broken_reason_has_import_error(tmp_path: Path) -> None:
    (tmp_path / "convscope_native").mkdir()
    (tmp_path / "convscope_native" / "__init__.py").touch()
    (tmp_path / "convscope_native" / "_kernels.py").write_text("raise ImportError('GLIBC_2.99 not found')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {PRINT_BACKEND}"
    reason = "convscope-native is not usable (GLIBC_2.99 not found)"
    assert run_python(code, CONVSCOPE_NATIVE="1") == f"True|torch, because {reason}"


def test_train_without_native_reason_is_reported_first(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "reason", "convscope-native is not installed")
    with without_native():
        said = command(*["train", "digits", "--model", "flatten", "--epochs", "1", "--threads", "1", "--run", "run"])
    assert said.code == 0
    assert said.err.count("kernels: torch, because convscope-native is not installed") == 1
    assert said.err.index("kernels: torch") < said.err.index("epoch 1")
    config = json.loads(Path("run", "config.json").read_text("utf-8"))
    assert config["backend"] == "torch, because convscope-native is not installed"


TRAIN = """
import convscope.cli.main
from pathlib import Path
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
import numpy as np
split = Split(np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2)
plan = make_plan(Dataset("d", ("a", "b"), split, split, ""), TrainOptions(model="small", epochs=1, threads=2))
config = TrainConfig(plan.config.preprocessing, plan.config.recipe)
fit(build_model(plan.config.network, 0), plan.data.train, plan.data.validation, config)
maps = Path("/proc/self/maps").read_text().split()
print(*sorted({Path(word).name for word in maps if any(lib in word for lib in ("libgomp", "libomp", "libiomp"))}))
print(*{Path(word).name.split(".")[0] for word in maps if "convscope_native" in word})
"""


@pytest.mark.slow
@needs_native
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_training_process_has_one_openmp_runtime() -> None:
    """PyTorch's: the kernels have threads of their own."""
    runtimes, kernels = run_python(TRAIN, CONVSCOPE_NATIVE="1").splitlines()
    assert len(runtimes.split()) == 1
    assert kernels == "_kernels"
