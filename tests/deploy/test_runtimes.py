"""The lines in docs/runtimes.md: a model file gives the same answers in other runtimes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import convscope
from convscope.backends.onnx.read import read_model_file
from convscope.deploy.int8 import to_int8

ROOT = Path(__file__).parents[2]
WEB = ROOT / "build" / "web"  # npm install --prefix build/web onnxruntime-web
TEXT = (ROOT / "docs" / "runtimes.md").read_text("utf-8")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return convscope.load_data("digits").test.images[:200]


@pytest.fixture(params=["float32", "int8"])
def folder(
    request: pytest.FixtureRequest, digits_run: convscope.Run, images: NDArray[np.uint8], tmp_path: Path
) -> Path:
    """A folder with model.onnx and the images."""
    content = digits_run.model_file.read_bytes()
    if request.param == "int8":
        train = convscope.load_data("digits").train
        content = to_int8(read_model_file(digits_run.model_file), train.subsample(300).images)
    (tmp_path / "model.onnx").write_bytes(content)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "images.bin").write_bytes(images.tobytes())
    return tmp_path


def code(title: str) -> str:
    """The lines of a section."""
    section = TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]
    (lines,) = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
    return str(lines)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def differences(folder: Path, images: NDArray[np.uint8], found: NDArray[np.float32]) -> tuple[float, float]:
    """The largest difference to `Predictor`, and the fraction of other labels."""
    expected = convscope.Predictor(folder / "model.onnx").predict_proba(images)
    return float(np.abs(found - expected).max()), float((found.argmax(1) != expected.argmax(1)).mean())


@pytest.mark.parametrize("title", ["ONNX Runtime, in Python", "OpenVINO, in Python"])
def test_model_file_in_another_runtime_for_python_answers_alike(
    title: str, folder: Path, images: NDArray[np.uint8], request: pytest.FixtureRequest
) -> None:
    script = f"{code(title)}\nnp.save('found.npy', probabilities)\n"
    run([sys.executable, "-c", script], folder)
    difference, flips = differences(folder, images, np.load(folder / "found.npy"))
    if "OpenVINO" in title and "int8" in request.node.name:  # which rounds elsewhere
        assert difference < 0.1
        assert flips <= 0.02
    else:
        assert difference < 1e-6
        assert flips == 0


def test_model_file_in_a_browser_runtime_answers_alike(folder: Path, images: NDArray[np.uint8]) -> None:
    node = shutil.which("node")
    if node is None or not (WEB / "node_modules" / "onnxruntime-web").is_dir():
        reason = "needs node, and: npm install --prefix build/web onnxruntime-web"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    shape = dict(zip(("n", "height", "width", "channels"), images.shape, strict=True))
    sizes = ", ".join(f"{name} = {size}" for name, size in shape.items())
    before, *rest = code("ONNX Runtime Web, in JavaScript").split("\n\n")
    script = [before, f"const {sizes};", *rest]
    script += ['import { writeFileSync } from "node:fs"; writeFileSync("found.bin", probabilities.data);']
    (folder / "script.mjs").write_text("\n".join(script))
    (folder / "node_modules").symlink_to(WEB / "node_modules")
    run([str(node), "script.mjs"], folder)
    found = np.fromfile(folder / "found.bin", np.float32).reshape(len(images), -1)
    difference, flips = differences(folder, images, found)
    assert difference < 1e-6
    assert flips == 0
