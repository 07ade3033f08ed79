"""Cross-validation: every image is classified once, by a training that has not seen it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from convscope import Recipe, SelectionConfig, cross_validate
from convscope._reporting import SilentReporter
from convscope.data.dataset import Dataset, Split
from convscope.data.load import load_data
from convscope.errors import UsageError

QUICK = {"model": "flatten", "epochs": 2, "threads": 1, "folds": 3}


@pytest.mark.slow
def test_cross_validate_digits_agrees_with_its_table(tmp_path: Path) -> None:
    train, out = load_data("digits").train, tmp_path / "probabilities.parquet"
    found = cross_validate("digits", out=out, reporter=SilentReporter(), **QUICK)  # type: ignore[arg-type]
    table = pq.read_table(out).to_pydict()
    probabilities = np.stack([table[f"probability_{digit}"] for digit in range(10)], 1)
    assert table["image"] == list(range(len(train)))
    assert table["label"] == [str(label) for label in train.labels]
    assert (probabilities == found.probabilities).all()
    assert np.allclose(probabilities.sum(1), 1)
    hits = probabilities.argmax(1) == train.labels
    assert hits.mean() == found.summary.accuracy > 0.5
    for fold in found.summary.folds:
        assert fold.accuracy == hits[np.array(table["fold"]) == fold.fold].mean()
    assert [fold.fold for fold in found.summary.folds] == [0, 1, 2]
    assert found.summary.interval[0] < found.summary.accuracy < found.summary.interval[1]
    calibration = found.summary.calibration
    assert calibration.mean_confidence == pytest.approx(probabilities.max(1).mean())
    assert sum(part.n * part.accuracy for part in calibration.bins) == pytest.approx(hits.sum())


@pytest.mark.slow
def test_cross_validate_does_not_train_on_what_it_measures() -> None:
    """Labels are random here: a network that knows them was trained on them."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (200, 8, 8), np.uint8)
    train = Split(images, random.integers(0, 2, 200))
    dataset = Dataset("noise", ("a", "b"), train, train, "arrays")
    recipe = Recipe(epochs=40, selection=SelectionConfig(weights="last"))
    options = {"model": "flatten, dense 64, relu", "recipe": recipe, "threads": 1, "folds": 2}
    found = cross_validate(dataset, reporter=SilentReporter(), **options)  # type: ignore[arg-type]
    assert found.summary.accuracy < 0.65  # of a training that has seen them: above 0.9


@pytest.mark.parametrize(("recipe", "calibrated"), [("default", True), ("article", False)])
def test_cross_validate_says_whether_probabilities_are_calibrated(recipe: str, calibrated: bool) -> None:
    """The article's recipe holds no images out that they could be calibrated on."""
    train = load_data("digits").train.take(np.arange(60))
    options = {"model": "flatten", "recipe": recipe, "epochs": 1, "threads": 1, "folds": 2}
    dataset = Dataset("digits", tuple("0123456789"), train, train, "scikit-learn")
    calibration = cross_validate(dataset, reporter=SilentReporter(), **options).summary.calibration  # type: ignore[arg-type]
    assert calibration.fitted == calibrated
    assert ("uncalibrated" in calibration.text) != calibrated


def test_cross_validate_out_of_another_kind_raises() -> None:
    with pytest.raises(UsageError, match=r"^--out answers.csv: expected a name that ends in \.parquet$"):
        cross_validate("digits", out="answers.csv")


def test_cross_validate_run_folder_is_no_option() -> None:
    with pytest.raises(UsageError, match="run='runs/x': input should be None"):
        cross_validate("digits", run="runs/x")  # type: ignore[call-arg]
