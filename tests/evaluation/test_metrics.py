"""Metrics are compared with scikit-learn, intervals with SciPy."""

from __future__ import annotations

import json
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import binomtest  # type: ignore[import-untyped]
from sklearn import metrics

from convscope._statistics import wilson
from convscope.errors import ConvscopeError, DataError
from convscope.evaluation.metrics import (
    ClassScore,
    Evaluation,
    evaluate,
    losses,
    tta_logits,
)
from convscope.evaluation.proportion import Proportion
from helpers.networks import many_examples

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def random_case(n: int, classes: int, seed: int, scale: float = 2.0) -> tuple[Floats, Labels, list[str]]:
    """Logits better than chance: some classes are rare, some never true, some never predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, rng.integers(1, classes, endpoint=True), n)
    logits = rng.normal(size=(n, classes)).astype(np.float32) * np.float32(scale)
    logits[np.arange(n), labels] += np.float32(scale)
    return logits, labels, [f"class {i}" for i in range(classes)]


def softmax(logits: Floats) -> NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    result: NDArray[np.float64] = exponentials / exponentials.sum(1, keepdims=True)
    return result


@pytest.mark.slow
@many_examples
@given(st.integers(1, 200), st.integers(2, 12), st.integers(0, 999))
def test_evaluate_random_logits_equals_scikit_learn(n: int, classes: int, seed: int) -> None:
    """Within 1e-12; the loss within 1e-6, because scikit-learn clips probabilities."""
    logits, labels, names = random_case(n, classes, seed)
    found, predicted, numbers = evaluate(logits, labels, names), logits.argmax(1), np.arange(classes)
    assert (found.n, found.classes) == (n, tuple(names))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted), abs=1e-12)
    assert found.loss == pytest.approx(metrics.log_loss(labels, softmax(logits), labels=numbers), abs=1e-6)
    matrix = metrics.confusion_matrix(labels, predicted, labels=numbers)
    np.testing.assert_array_equal(found.confusion, matrix)
    assert found.confusion.dtype == np.int64
    truth = metrics.precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)
    for score, expected in zip(found.per_class, np.transpose(truth), strict=True):
        values = [score.precision, score.recall, score.f1]
        assert [value is None for value in values] == [
            not score.support or score.name not in {names[i] for i in predicted}, not score.support, not score.support,
        ]  # fmt: skip
        np.testing.assert_allclose([*(value or 0 for value in values), score.support], expected)
    assert [score.name for score in found.per_class] == names
    assert list(found.top_k) == [k for k in (1, 2, 3, 5) if k < classes]
    for k, accuracy in found.top_k.items():
        better = (logits > logits[np.arange(n), labels][:, None]).sum(1)  # there are no ties
        assert accuracy == pytest.approx((better < k).mean(), abs=1e-12)
        if classes > 2:
            expected = metrics.top_k_accuracy_score(labels, logits, k=k, labels=numbers)
            assert accuracy == pytest.approx(expected, abs=1e-12)
    assert found.top_k[1] == found.accuracy
    assert found.interval == wilson(int(found.confusion.trace()), n)


@many_examples
@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_any_count_equals_scipy(counts: tuple[int, int]) -> None:
    correct, n = counts
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 10_000), (10_000, 10_000)])
def test_wilson_extreme_counts_stays_in_unit_interval(correct: int, n: int) -> None:
    low, high = wilson(correct, n)
    assert 0 <= low < high <= 1
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_evaluate_three_images_equals_hand_computation() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32))
    found = evaluate(logits, np.array([0, 1, 1]), ["a", "b", "c"])
    assert found.accuracy == 2 / 3
    assert found.loss == pytest.approx(-(log(0.5) + log(0.25) + log(0.8)) / 3, abs=1e-6)
    assert found.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert found.per_class == (
        ClassScore(name="a", precision=0.5, recall=1.0, f1=2 / 3, support=1),
        ClassScore(name="b", precision=1.0, recall=0.5, f1=2 / 3, support=2),
        ClassScore(name="c", precision=None, recall=None, f1=None, support=0),
    )
    assert found.top_k == {1: 2 / 3, 2: 1.0}


def test_evaluate_ties_count_for_first_class_in_accuracy_and_top_k() -> None:
    found = evaluate(np.zeros((4, 4), np.float32), np.array([0, 1, 2, 3]), list("abcd"))
    assert found.accuracy == 0.25
    assert found.top_k == {1: 0.25, 2: 0.5, 3: 0.75}
    assert found.loss == pytest.approx(log(4))


def test_losses_confident_wrong_predictions_are_finite() -> None:
    logits = np.array([[0, 1000], [3e38, -3e38], [1000, 0]], np.float32)
    found = losses(logits, np.array([0, 0, 0]))
    assert found.dtype == np.float64
    assert found.tolist() == [1000, 0, 0]


@many_examples
@given(st.integers(1, 50), st.integers(2, 12), st.integers(0, 99), st.booleans())
def test_evaluation_json_round_trip_is_equal(n: int, classes: int, seed: int, tta: bool) -> None:
    found = evaluate(*random_case(n, classes, seed))
    if tta:
        found = found.model_copy(update={"tta": Proportion(accuracy=0.25, interval=wilson(1, 4))})
    written = found.model_dump_json()
    assert json.loads(written)["tta"] == ({"accuracy": 0.25, "interval": list(wilson(1, 4))} if tta else None)
    read = Evaluation.model_validate_json(written)
    assert read.confusion.dtype == np.int64
    np.testing.assert_array_equal(read.confusion, found.confusion)
    assert read == found
    assert read != found.model_copy(update={"confusion": found.confusion + 1})


@many_examples
@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 99))
def test_evaluate_with_tta_adds_proportion_and_changes_nothing_else(n: int, classes: int, seed: int) -> None:
    logits, labels, names = random_case(n, classes, seed)
    other = np.random.default_rng(seed + 1).normal(size=(n, classes)).astype(np.float32)
    found, plain = evaluate(logits, labels, names, other), evaluate(logits, labels, names)
    assert found.tta is not None
    assert found.tta.accuracy == pytest.approx(metrics.accuracy_score(labels, other.argmax(1)), abs=1e-12)
    correct = metrics.accuracy_score(labels, other.argmax(1), normalize=False)
    expected = binomtest(int(correct), n).proportion_ci(0.95, method="wilson")
    assert found.tta.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.model_copy(update={"tta": None}) == plain


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_evaluate_non_finite_logits_raises(value: float) -> None:
    logits = np.array([[0, 1], [value, 0]], np.float32)
    with pytest.raises(ConvscopeError, match="the network's outputs are not all finite: train again"):
        evaluate(logits, np.array([0, 0]), ["a", "b"])


# Test-time augmentation


def reflected(place: int, length: int) -> int:
    """Index of the pixel at `place` in a row of `length` pixels that is reflected at its ends."""
    if length == 1:
        return 0
    return -place if place < 0 else 2 * (length - 1) - place if place >= length else place


def copy_of(image: NDArray[np.uint8], down: int, right: int, mirror: bool) -> NDArray[np.uint8]:
    """The image, shifted and then mirrored, pixel by pixel."""
    height, width, _ = image.shape
    made = np.empty_like(image)
    for row in range(height):
        for column in range(width):
            pixel = image[reflected(row - down, height), reflected(column - right, width)]
            made[row, width - 1 - column if mirror else column] = pixel
    return made


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", [(5, 7, 3), (4, 4, 1), (2, 3, 4), (1, 1, 3), (1, 6, 1)])
def test_tta_logits_equals_weighted_mean_over_hand_made_copies(shape: tuple[int, int, int], mirror: bool) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, *shape), np.uint8)
    weights = rng.normal(size=(np.prod(shape), 4))
    batch_sizes: list[int] = []

    def predict(some: NDArray[np.uint8]) -> Floats:
        """Nonlinear, with a different weight for each pixel."""
        assert some.dtype == np.uint8
        assert some.flags.c_contiguous
        batch_sizes.append(len(some))
        logits: Floats = np.tanh(some.reshape(len(some), -1) / 255.0 @ weights).astype(np.float32)
        return logits

    before = images.copy()
    found = tta_logits(predict, images, mirror)
    assert batch_sizes == [6] * (6 if mirror else 3)
    np.testing.assert_array_equal(images, before)
    assert found.dtype == np.float32
    for image, row in zip(images, found, strict=True):
        expected = np.zeros(4)
        for weight, distance in ((0.5, 0), (0.25, -1), (0.25, 1)):
            for mirrored in (False, True) if mirror else (False,):
                copied = copy_of(image, distance, distance, mirrored)
                expected += weight / (2 if mirror else 1) * predict(copied[None])[0]
        assert row == pytest.approx(expected, abs=1e-6)


def test_proportion_text_shows_accuracy_and_interval() -> None:
    proportion = Proportion(accuracy=0.9402, interval=wilson(9_402, 10_000))
    assert proportion.text == "94.02 % (93.54 to 94.47)"


def test_accuracy_text_shows_accuracy_interval_and_n() -> None:
    logits = np.eye(2, dtype=np.float32)[np.zeros(10_000, int)]
    labels = np.array([0] * 9_864 + [1] * 136)
    assert evaluate(logits, labels, ["a", "b"]).accuracy_text == "98.64 % (95 % interval 98.39 to 98.85, n = 10,000)"


def test_evaluate_without_images_raises() -> None:
    with pytest.raises(DataError, match="expected at least one image to evaluate on, got none: choose"):
        evaluate(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), ["a", "b", "c"])


@pytest.mark.parametrize(
    "matrix", [None, True, 1e308, 7, [1, 2], [[1, 2], [3]], [[1, -2], [3, 4]], [[1.5, 2], [3, 4]], [[2**70, 2], [3, 4]]]
)
def test_evaluation_with_another_matrix_is_rejected(matrix: object) -> None:
    values = evaluate(np.eye(2, dtype=np.float32), np.array([0, 1]), ["a", "b"]).model_dump(mode="json")
    assert Evaluation.model_validate_json(json.dumps(values)).confusion.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValidationError, match=r"confusion\n"):
        Evaluation.model_validate_json(json.dumps(values | {"confusion": matrix}))


@pytest.mark.parametrize("values", [{"confusion": [[1]]}, {"classes": ["a"]}, {"per_class": []}])
def test_evaluation_of_another_number_of_classes_is_rejected(values: dict[str, object]) -> None:
    whole = evaluate(np.eye(2, dtype=np.float32), np.array([0, 1]), ["a", "b"]).model_dump(mode="json")
    with pytest.raises(ValidationError, match="expected a row and a column of confusion, and one entry of per_class"):
        Evaluation.model_validate_json(json.dumps(whole | values))
