"""`convscope evaluate` and `predict`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from convscope import Predictor, Run
from helpers.command import Command


def test_predict_good_image_between_bad_ones_is_classified(command: Command, workspace: Path) -> None:
    answer = command("predict", "run", "text.onnx", "big.png", "none.png", "--top", "1")
    assert answer.code == 3
    assert [line.split(":")[:2] for line in answer.err.splitlines()] == [
        ["convscope", " text.onnx"],
        ["convscope", " none.png"],
    ]
    name, done, classes = answer.out.splitlines()
    assert name.startswith("big.png: ")
    assert done.startswith("  resized 24x32 -> 6x8")
    assert re.fullmatch(r"  \d [\d.]+ %", classes)
    assert Predictor(workspace / "run").predict("big.png")[0].label == name[-1]


@pytest.mark.usefixtures("workspace")
def test_predict_model_file_without_run_folder_gives_the_same_answer(command: Command) -> None:
    shutil.copy("run/model.onnx", "model.onnx")
    assert command("predict", "model.onnx", "big.png").out == command("predict", "run", "big.png").out != ""


def test_evaluate_prints_the_accuracy_that_training_measured(command: Command, digits_run: Run) -> None:
    answer = command("evaluate", digits_run.path)
    assert digits_run.evaluation is not None
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"accuracy {100 * digits_run.evaluation.accuracy:.2f} % (95 % interval ")
    assert ", n = 359)\n" in answer.out
    assert answer.out.splitlines()[2].startswith("measured on the test split of digits: 359 of 1,797 images; ")
    table = answer.out.splitlines()[4:14]
    assert [line.split()[0] for line in table] == list("0123456789")
