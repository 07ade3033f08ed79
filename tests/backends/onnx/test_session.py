"""onnxruntime is loaded in one place, with its telemetry off: a prediction writes nothing to the user's home."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope.images.read import encode_png

PREDICT = "import sys, convscope; convscope.Predictor(sys.argv[1]).predict(sys.argv[2])"
PLAIN = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"


def files_written(home: Path, code: str, *words: object, **variables: str) -> set[str]:
    """The files in a new home after running some Python with only these environment variables."""
    home.mkdir()
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}
    environment |= {"HOME": str(home), "USERPROFILE": str(home), "XDG_CACHE_HOME": str(home / "cache"), **variables}
    command = [sys.executable, "-B", "-c", code, *map(str, words)]
    subprocess.run(command, env=environment, cwd=home, check=True, capture_output=True)
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(encode_png(np.zeros((8, 8, 1), np.uint8)))
    return path


def test_predict_in_new_home_writes_nothing(digits_run: convscope.Run, image: Path, tmp_path: Path) -> None:
    assert files_written(tmp_path / "home", PREDICT, digits_run.path, image) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere onnxruntime keeps its events in other places")
def test_onnxruntime_without_our_setting_writes_events(digits_run: convscope.Run, tmp_path: Path) -> None:
    """Shows that the test above can fail."""
    written = files_written(tmp_path / "home", PLAIN, digits_run.path / "model.onnx")
    assert any("onnxruntime" in name for name in written)


def test_session_keeps_the_users_setting(digits_run: convscope.Run, image: Path, tmp_path: Path) -> None:
    code = f"{PREDICT}; import os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    files_written(tmp_path / "home", code, digits_run.path, image, ORT_DISABLE_TELEMETRY="0")


def test_session_is_the_only_module_that_imports_onnxruntime() -> None:
    root = Path(convscope.__file__).parent
    importing = set()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in (node for node in ast.walk(tree) if not _only_for_types(node, tree)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "onnxruntime" for name in names):
                importing.add(path.relative_to(root).as_posix())
    assert importing == {"backends/onnx/session.py"}


def _only_for_types(node: ast.AST, tree: ast.Module) -> bool:
    blocks = (block for block in tree.body if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING")
    return any(node in block.body for block in blocks)
