"""`convscope train`: what it prints, the recipe it takes, and the folders it leaves alone."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from convscope import Run, open_run
from convscope._hardware import usable_cores
from convscope.data import named
from convscope.errors import DataError
from convscope.training.recipes import RECIPES, VARIANTS
from helpers.command import Command
from helpers.process import start_command

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("interruptible")]


QUICK = ("--model", "flatten", "--epochs", "1", "--threads", "1")  # the shortest complete run


def test_train_prints_accuracy_with_interval_and_paths(command: Command, workspace: Path) -> None:
    answer = command("train", "digits", *QUICK, "--batch-size", "100", "--learning-rate", "0.05", "--seed", "7")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert re.fullmatch(r"test accuracy  [\d.]+ % \(95 % interval [\d.]+ to [\d.]+, n = 359\)", lines[0])
    assert [line.split()[0] for line in lines[1:5]] == ["test", "calibration", "answers", "training"]
    assert [line.split()[:2] for line in lines[5:]] == [
        ["run", "runs/digits-custom-1"],
        ["report", "runs/digits-custom-1/report.html"],
        ["next", "convscope"],
    ]
    assert answer.err.splitlines()[:3] == [
        "digits: 1,293 training, 145 validation, 359 test images, 8x8x1, 10 classes",
        "custom: 650 parameters, 640 multiply-adds per image",
        f"recipe default: 1 epoch, batch size 100, seed 7, on 1 of {usable_cores()} cores",
    ]
    assert re.search(
        r"^epoch 1/1  loss [\d.]+  accuracy [\d.]+ %  validation [\d.]+ %  [\d,]+ images/s  0.0 s left$",
        answer.err,
        re.M,
    )
    run = open_run(workspace / "runs" / "digits-custom-1")
    evaluation, recipe = run.evaluation, run.config.recipe
    assert evaluation is not None
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.learning_rate) == (1, 100, 0.05)
    assert f" {100 * evaluation.accuracy:.2f} % " in lines[0]
    assert Path("runs/digits-custom-1/report.html").is_file()


@pytest.mark.parametrize("channels", [1, 3])
def test_train_recipe_variant_follows_from_the_images(command: Command, workspace: Path, channels: int) -> None:
    """And tells of test-time augmentation where that recipe measures with it."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, channels), np.uint8)
    np.savez(workspace / "set.npz", x_train=images, y_train=np.arange(60) % 2, x_test=images, y_test=np.arange(60) % 2)
    answer = command("train", "set.npz", *QUICK, "--recipe", "best", "--batch-size", "7", "--run", "colored")
    assert answer.code == 0
    recipe, evaluation = open_run(workspace / "colored").config.recipe, open_run(workspace / "colored").evaluation
    expected = VARIANTS["color"]["best"] if channels == 3 else RECIPES["best"]
    assert (recipe.name, recipe.optimizer.momentum) == (expected.name, expected.optimizer.momentum)
    assert (recipe.epochs, recipe.batch_size, recipe.min_steps) == (1, 7, 0)
    assert evaluation is not None
    assert (evaluation.tta is not None) is expected.tta
    assert answer.out.count("with test-time augmentation") == expected.tta


@pytest.mark.usefixtures("workspace")
def test_train_without_data_and_without_mnist_uses_digits(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: object) -> dict[str, bytes]:
        raise DataError("no mirror delivered it")

    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(named, "fetch", unreachable)
    answer = command("train", "--json", *QUICK)
    first, second = answer.err.splitlines()[:2]
    assert first == "No data set given, and MNIST cannot be loaded (`convscope data show mnist` says why): using digits"
    assert second.startswith("digits: 1,293 training")
    assert json.loads(answer.out)["config"]["dataset"]["path"] == "digits"
    assert command("evaluate", "runs/digits-custom-1", "--json").code == 0


@pytest.mark.parametrize(
    ("run_path", "code", "message"),
    [
        ("full", 2, "^convscope: full exists already: choose another --run, or move it away$"),
        ("full/mine.txt", 2, "^convscope: full/mine.txt exists already"),
        ("full/mine.txt/run", 1, "^convscope: cannot write full/mine.txt/run/config.json: Not a directory; free some"),
    ],
)
def test_train_run_folder_that_exists_is_left_unchanged(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_path: str, code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    answer = command("train", "digits", *QUICK, "--run", run_path)
    assert (answer.code, answer.out) == (code, "")
    assert re.search(message, answer.err.splitlines()[-1])
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_train_in_another_process_weights_are_identical(digits_run: Run, tmp_path: Path) -> None:
    """What the command trains equals what `train_model` trained in this process."""
    process = start_command(tmp_path, *shlex.split("train digits --epochs 3 --threads 1 --run again --json"))
    out, err = process.communicate()
    assert process.returncode == 0, err
    for name in ("best.safetensors", "last.safetensors", "model.onnx"):
        assert (tmp_path / "again" / name).read_bytes() == (digits_run.path / name).read_bytes()
    assert json.loads(out) == open_run(tmp_path / "again").summary().model_dump(mode="json") | {"run": "again"}
    assert "\x1b" not in out + err


@pytest.mark.parametrize(
    ("target", "code", "line"),
    [
        ("20%", 0, "target         20 % reached in 1 of 3 epochs"),
        ("1", 5, "target         100 % not reached in 3 epochs"),
    ],
)
def test_train_target_accuracy_ends_training_or_exits_with_5(
    command: Command, workspace: Path, target: str, code: int, line: str
) -> None:
    answer = command(
        "train", "digits", "--model", "flatten", "--epochs", "3", "--threads", "1", "--target-accuracy", target
    )
    assert answer.code == code
    assert line in answer.out.splitlines()
    run = open_run(workspace / "runs" / "digits-custom-1")
    assert run.manifest.status == "complete"
    assert len(run.history) == (1 if code == 0 else 3)
