"""After `pip install convscope` alone: what works without torch, and the one line that everything else prints.

`make test-core` runs this in a virtual environment that holds the wheel and its dependencies, and nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import convscope
from convscope.errors import MissingExtraError

FOLDER = Path(os.environ["CONVSCOPE_CORE_FOLDER"])  # written by prepare.py
TRAINING_PACKAGES = ("torch", "sklearn", "scipy", "matplotlib", "onnx", "tensorboardX", "pandas")


class Answer(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `convscope` with these words in an empty folder, with an empty home."""

    def call(*words: object) -> Answer:
        environment = {**os.environ, "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        environment.pop("CONVSCOPE_DATA", None)
        script = Path(sys.executable).with_name("convscope")
        done = subprocess.run(
            [script, *map(str, words)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


IMAGE = FOLDER / "images" / "0" / "0.png"
WORKING = [
    ("--version",),
    ("--help",),
    ("train", "--help"),
    ("explain", "--help"),
    ("bench", "--help"),
    ("data", "show", "--help"),
    ("predict", FOLDER / "run", IMAGE),
    ("predict", FOLDER / "run" / "model.onnx", IMAGE),
    ("verify", FOLDER / "run", "--no-http"),
    ("verify", FOLDER / "run" / "model.onnx"),
    ("export", FOLDER / "run"),
    ("evaluate", FOLDER / "run"),
    ("evaluate", FOLDER / "digits-run", FOLDER / "digits.npz"),
    ("filter", "11011/10101/11110/00110/11000", "--kernel", "101/010/110"),
    ("filter", IMAGE, "--kernel", "edge"),
    ("data", "show", FOLDER / "digits.npz"),
    ("data", "show", FOLDER / "images"),
    ("data", "check", FOLDER / "images"),
    ("backbones",),
    ("backbones", "add", FOLDER / "run", "--as", "mine"),
    ("models",),
    ("models", "article"),
    ("models", "conv 4 3, relu, flatten", "--data", FOLDER / "digits.npz"),
]
NEEDS_TRAINING = "needs the training extra: pip install 'convscope[train]'\n"
NEEDING_TRAINING = [
    ("train", ("train", FOLDER / "digits.npz")),
    ("train", ("train", "--resume", FOLDER / "run")),
    ("int8", ("export", FOLDER / "run", "--int8")),
    ("--golden", ("export", FOLDER / "run", "--golden", FOLDER / "images")),
    ("explain", ("explain", FOLDER / "run", IMAGE)),
    ("bench", ("bench",)),
    ("reading a .pth file", ("backbones", "add", IMAGE, "--network", "efficientnet-lite0")),
    ("digits", ("evaluate", FOLDER / "digits-run")),
    ("digits", ("data", "show", "digits")),
]


@pytest.mark.parametrize("package", TRAINING_PACKAGES)
def test_core_environment_has_no_package_of_the_training_extra(package: str) -> None:
    assert importlib.util.find_spec(package) is None


def message(words: tuple[object, ...]) -> str:
    """What a command that works prints to stderr: the part of its result that needs the training extra."""
    if words[0] == "models" and len(words) > 1:
        return f"the time estimate {NEEDS_TRAINING}"
    if words[:2] == ("data", "show") and words[2] != "--help":
        return f"{Path(str(words[2])).stem}-first-nine.png {NEEDS_TRAINING}"
    return ""


@pytest.mark.parametrize("words", WORKING, ids=lambda words: " ".join(Path(word).name for word in words))
def test_command_without_training_extra_works(run: Run, words: tuple[object, ...]) -> None:
    answer = run(*words)
    assert (answer.code, answer.err) == (0, message(words))
    assert answer.out


@pytest.mark.parametrize("words", [words for words in WORKING if not str(words[-1]).startswith("--")],
                         ids=lambda words: " ".join(Path(word).name for word in words))  # fmt: skip
def test_command_without_training_extra_prints_json(run: Run, words: tuple[object, ...]) -> None:
    answer = run(*words, "--json")
    assert (answer.code, answer.err) == (0, message(words))
    assert isinstance(json.loads(answer.out), dict)


@pytest.mark.parametrize(("feature", "words"), NEEDING_TRAINING, ids=lambda value: Path(str(value)).name)
def test_command_that_needs_training_extra_says_so_in_one_line(
    run: Run, feature: str, words: tuple[object, ...]
) -> None:
    answer = run(*words)
    assert answer == (2, "", f"convscope: {feature} {NEEDS_TRAINING}")


@pytest.mark.parametrize(
    ("feature", "words"),
    [("--ray", (IMAGE, "--ray", "local", "--out", "answers")), ("reading s3:// addresses", ("s3://bucket/1.png",))],
)
def test_predict_that_needs_cluster_extra_says_so_in_one_line(
    run: Run, feature: str, words: tuple[object, ...]
) -> None:
    answer = run("predict", FOLDER / "run", *words)
    assert answer == (2, "", f"convscope: {feature} needs the cluster extra: pip install 'convscope[cluster]'\n")


def test_python_without_training_extra_predicts_and_evaluates() -> None:
    trained = convscope.open_run(FOLDER / "run")
    evaluation = convscope.evaluate_run(trained)
    assert trained.evaluation is not None
    assert (evaluation.accuracy, evaluation.n) == (trained.evaluation.accuracy, trained.evaluation.n)
    assert evaluation.loss == pytest.approx(trained.evaluation.loss, rel=1e-4)  # onnxruntime's sums, not torch's
    assert convscope.Predictor(FOLDER / "run").predict(IMAGE)[0].label in trained.classes


@pytest.mark.parametrize("name", ["train_model", "build_model", "ConvClassifier", "explain_image"])
def test_python_name_that_needs_training_extra_says_so(name: str) -> None:
    with pytest.raises(MissingExtraError, match=f"^{name} needs the training extra: pip install"):
        getattr(convscope, name)


def test_wheel_contains_license_notice_and_types() -> None:
    files = {path.name for path in metadata.files("convscope") or ()}
    assert {"LICENSE", "NOTICE", "py.typed", "report.css", "report.html", "lab.css", "png.js"} <= files
    assert not any(path.parts[0] in ("tests", "native") for path in metadata.files("convscope") or ())


def test_wheel_metadata_names_extras_and_project_urls() -> None:
    found = metadata.metadata("convscope")
    assert found.get_all("Provides-Extra") == ["train", "pretrained", "parquet", "serve", "cluster", "mlflow", "dev"]
    assert found["License-Expression"] == "Apache-2.0"
    assert len(found.get_all("Project-URL") or ()) == 4
    assert len(found.get_all("Classifier") or ()) > 10
