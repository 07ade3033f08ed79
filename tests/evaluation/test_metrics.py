"""Metrics against scikit-learn's, intervals against SciPy's."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest  # type: ignore[import-untyped]
from sklearn import metrics

from convscope._statistics import wilson
from convscope.errors import DataError
from convscope.evaluation.metrics import (
    ClassScore,
    Evaluation,
    Share,
    evaluate,
    losses,
    percent,
    share_percent,
    tta_logits,
)
from helpers.lines import many

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def scored(n: int, classes: int, seed: int, scale: float = 2.0) -> tuple[Floats, Labels, list[str]]:
    """Scores that are better than chance, with classes that are rare, never true or never predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, rng.integers(1, classes, endpoint=True), n)
    logits = rng.normal(size=(n, classes)).astype(np.float32) * np.float32(scale)
    logits[np.arange(n), labels] += np.float32(scale)
    return logits, labels, [f"class {i}" for i in range(classes)]


def softmax(logits: Floats) -> NDArray[np.float64]:
    shares = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    result: NDArray[np.float64] = shares / shares.sum(1, keepdims=True)
    return result


@many
@given(st.integers(1, 200), st.integers(2, 12), st.integers(0, 999))
def test_metrics_equal_scikit_learn_s(n: int, classes: int, seed: int) -> None:
    """To 1e-12; the loss to 1e-6, because scikit-learn clips probabilities."""
    logits, labels, names = scored(n, classes, seed)
    found, predicted, numbers = evaluate(logits, labels, names), logits.argmax(1), np.arange(classes)
    assert (found.n, found.classes) == (n, tuple(names))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted), abs=1e-12)
    assert found.loss == pytest.approx(metrics.log_loss(labels, softmax(logits), labels=numbers), abs=1e-6)
    matrix = metrics.confusion_matrix(labels, predicted, labels=numbers)
    np.testing.assert_array_equal(found.confusion, matrix)
    assert found.confusion.dtype == np.int64
    truth = metrics.precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)
    np.testing.assert_allclose([[s.precision, s.recall, s.f1, s.support] for s in found.per_class], np.transpose(truth))
    assert [score.name for score in found.per_class] == names
    assert list(found.top_k) == [k for k in (1, 2, 3, 5) if k < classes]
    for k, share in found.top_k.items():
        better = (logits > logits[np.arange(n), labels][:, None]).sum(1)  # no two scores are equal here
        assert share == pytest.approx((better < k).mean(), abs=1e-12)
        if classes > 2:
            expected = metrics.top_k_accuracy_score(labels, logits, k=k, labels=numbers)
            assert share == pytest.approx(expected, abs=1e-12)
    assert found.top_k[1] == found.accuracy
    assert found.interval == wilson(int(found.confusion.trace()), n)


@many
@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a14_the_interval_is_scipy_s_wilson_interval(counts: tuple[int, int]) -> None:
    correct, n = counts
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 10_000), (10_000, 10_000)])
def test_the_interval_stays_between_0_and_1(correct: int, n: int) -> None:
    low, high = wilson(correct, n)
    assert 0 <= low < high <= 1
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_small_example_worked_out_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32))
    found = evaluate(logits, np.array([0, 1, 1]), ["a", "b", "c"])
    assert found.accuracy == 2 / 3
    assert found.loss == pytest.approx(-(log(0.5) + log(0.25) + log(0.8)) / 3, abs=1e-6)
    assert found.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert found.per_class == (
        ClassScore("a", 0.5, 1.0, 2 / 3, 1),
        ClassScore("b", 1.0, 0.5, 2 / 3, 2),
        ClassScore("c", 0.0, 0.0, 0.0, 0),
    )
    assert found.top_k == {1: 2 / 3, 2: 1.0}


def test_equal_scores_count_for_the_first_class_in_accuracy_and_top_k_alike() -> None:
    found = evaluate(np.zeros((4, 4), np.float32), np.array([0, 1, 2, 3]), list("abcd"))
    assert found.accuracy == 0.25
    assert found.top_k == {1: 0.25, 2: 0.5, 3: 0.75}
    assert found.loss == pytest.approx(log(4))


def test_certain_wrong_answers_cost_a_finite_loss() -> None:
    logits = np.array([[0, 1000], [3e38, -3e38], [1000, 0]], np.float32)
    found = losses(logits, np.array([0, 0, 0]))
    assert found.dtype == np.float64
    assert found.tolist() == [1000, 0, 0]


@many
@given(st.integers(1, 50), st.integers(2, 12), st.integers(0, 99), st.booleans())
def test_an_evaluation_survives_json(n: int, classes: int, seed: int, augmented: bool) -> None:
    found = evaluate(*scored(n, classes, seed))
    if augmented:
        found = replace(found, augmented=Share(0.25, wilson(1, 4)))
    written = found.to_dict()
    assert written["augmented"] == ({"accuracy": 0.25, "interval": list(wilson(1, 4))} if augmented else None)
    again = Evaluation.from_dict(json.loads(json.dumps(written)))
    assert again.confusion.dtype == np.int64
    np.testing.assert_array_equal(again.confusion, found.confusion)
    assert {**vars(again), "confusion": None} == {**vars(found), "confusion": None}


def test_an_evaluation_that_was_written_before_there_was_augmentation_is_read() -> None:
    written = evaluate(*scored(9, 3, seed=0)).to_dict()
    del written["augmented"]
    assert Evaluation.from_dict(written).augmented is None


@many
@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 99))
def test_augmented_scores_give_a_share_and_an_interval_and_change_nothing_else(n: int, classes: int, seed: int) -> None:
    logits, labels, names = scored(n, classes, seed)
    other = np.random.default_rng(seed + 1).normal(size=(n, classes)).astype(np.float32)
    found, plain = evaluate(logits, labels, names, other), evaluate(logits, labels, names)
    assert found.augmented is not None
    assert found.augmented.accuracy == pytest.approx(metrics.accuracy_score(labels, other.argmax(1)), abs=1e-12)
    correct = metrics.accuracy_score(labels, other.argmax(1), normalize=False)
    expected = binomtest(int(correct), n).proportion_ci(0.95, method="wilson")
    assert found.augmented.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert {**found.to_dict(), "augmented": None} == plain.to_dict()


# Test-time augmentation


def reflected(place: int, length: int) -> int:
    """The pixel that is met where a walk along a row of so many turns round at its ends."""
    if length == 1:
        return 0
    return -place if place < 0 else 2 * (length - 1) - place if place >= length else place


def copy_of(image: NDArray[np.uint8], down: int, right: int, mirror: bool) -> NDArray[np.uint8]:
    """The image moved, and then mirrored, pixel by pixel."""
    height, width, _ = image.shape
    made = np.empty_like(image)
    for row in range(height):
        for column in range(width):
            pixel = image[reflected(row - down, height), reflected(column - right, width)]
            made[row, width - 1 - column if mirror else column] = pixel
    return made


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", [(5, 7, 3), (4, 4, 1), (2, 3, 4), (1, 1, 3), (1, 6, 1)])
def test_augmented_scores_are_the_weighted_mean_over_copies_made_by_hand(
    shape: tuple[int, int, int], mirror: bool
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, *shape), np.uint8)
    weights = rng.normal(size=(np.prod(shape), 4))
    asked: list[int] = []

    def scores(some: NDArray[np.uint8]) -> Floats:
        """Not linear, and no two pixels count alike."""
        assert some.dtype == np.uint8
        assert some.flags.c_contiguous
        asked.append(len(some))
        logits: Floats = np.tanh(some.reshape(len(some), -1) / 255.0 @ weights).astype(np.float32)
        return logits

    before = images.copy()
    found = tta_logits(scores, images, mirror)
    assert asked == [6] * (6 if mirror else 3)
    np.testing.assert_array_equal(images, before)
    assert found.dtype == np.float32
    for image, row in zip(images, found, strict=True):
        expected = np.zeros(4)
        for share, distance in ((0.5, 0), (0.25, -1), (0.25, 1)):
            for mirrored in (False, True) if mirror else (False,):
                copied = copy_of(image, distance, distance, mirrored)
                expected += share / (2 if mirror else 1) * scores(copied[None])[0]
        assert row == pytest.approx(expected, abs=1e-6)


def test_what_augmentation_makes_of_it_is_told_beside_the_accuracy() -> None:
    share = Share(0.9402, wilson(9_402, 10_000))
    assert share_percent(share) == "94.02 % (93.54 to 94.47)"


def test_percent_gives_accuracy_interval_and_n() -> None:
    logits = np.eye(2, dtype=np.float32)[np.zeros(10_000, int)]
    labels = np.array([0] * 9_864 + [1] * 136)
    assert percent(evaluate(logits, labels, ["a", "b"])) == "98.64 % (95 % interval 98.39 to 98.85, n = 10,000)"


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(DataError, match="expected at least one image to evaluate on, got none: choose"):
        evaluate(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), ["a", "b", "c"])
