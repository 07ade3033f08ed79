"""Text before and after training."""

from __future__ import annotations

import re

import pytest

from convscope import Evaluation, Run
from convscope._statistics import wilson
from convscope.backends.native import backend
from convscope.cli.format_training import plan_lines, run_lines
from convscope.evaluation.proportion import Proportion
from helpers.init_info import init_info


def test_plan_lines_have_data_network_recipe_machine_and_reasons(digits_run: Run) -> None:
    cores = digits_run.config.machine.cores
    reasons = {"precision": "for the test", "horizontal_flip": "images are flipped"}
    config = digits_run.config.model_copy(update={"precision": "float32", "reasons": reasons})
    assert plan_lines(config) == [
        "digits: 1,293 training, 145 validation, 359 test images, 8x8x1, 10 classes",
        "small: 7,722 parameters, 49.7 k multiply-adds per image",
        f"recipe default: 3 epochs, batch size 128, seed 0, on 1 of {cores} cores",
        f"in float32: for the test; kernels: {backend.backend_name()}",
        "images are flipped",
    ]


def test_run_lines_have_accuracy_and_paths(digits_run: Run) -> None:
    accuracy, _, calibration, answers, _, run, report, following = run_lines(digits_run)
    assert re.fullmatch(r"test accuracy  \d\d\.\d\d % \(95 % interval \d\d\.\d\d to \d\d\.\d\d, n = 359\)", accuracy)
    number = r"\d+\.\d\d"
    exact = rf"{number} % if the probabilities were exact"
    expected = rf"calibration    error {number} % \(95 % interval {number} to {number}; {exact}\)"
    assert re.fullmatch(expected, calibration)
    others = "0.0 % of noise, 0.0 % of one color, 0.0 % of own images, pixels shuffled"
    assert re.fullmatch(rf"answers        9\d\.\d % of test images, {others}(, [\d.]+ % of [\w-]+)*", answers)
    assert run.split() == ["run", str(digits_run.path)]
    assert report.split() == ["report", str(digits_run.path / "report.html")]
    assert following.split() == ["next", "convscope", "predict", str(digits_run.path), "IMAGE"]


def test_run_lines_have_test_time_augmentation_below_the_accuracy(
    digits_run: Run, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tta = evaluation.model_copy(update={"tta": Proportion(accuracy=0.625, interval=wilson(5, 8))})
    monkeypatch.setattr(digits_run, "evaluation", with_tta)
    first, second, *_ = run_lines(digits_run)
    assert first.split(maxsplit=2) == ["test", "accuracy", "62.50 % (95 % interval 30.57 to 86.32, n = 8)"]
    assert second.strip() == "62.50 % (30.57 to 86.32) with test-time augmentation"
    assert second.index("62.50") == first.index("62.50")


def test_plan_lines_from_a_backbone_name_it_and_its_first_score(digits_run: Run) -> None:
    config = digits_run.config.model_copy(update={"init": init_info(cut=3)})
    lines = plan_lines(config)
    assert lines[1] == "from tiny-net, trained on photos: with a classifier, 87.50 % of 145 validation images"
    assert lines[3].startswith("recipe default: 3 epochs, batch size 128")
    assert [*lines[:1], *lines[2:]] == plan_lines(digits_run.config)


def test_plan_lines_of_a_classifier_alone_name_no_epochs(digits_run: Run) -> None:
    config = digits_run.config.model_copy(update={"init": init_info(), "epochs": 0})
    assert plan_lines(config)[3].startswith("recipe default: the classifier alone, batch size 128")
