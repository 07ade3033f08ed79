"""Temperature, calibration error and the limit for answers, against what simulated models are known to have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.evaluation.calibration import find_min_probability, fit_calibration, measure_calibration, softmax

CLASSES = 5


def simulate(
    n: int, temperature: float, exponent: float = 1, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose probabilities are exact after this calibration, and labels drawn from those."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3 * temperature, (n, CLASSES)).astype(np.float32)
    probabilities = softmax(logits, TemperatureScaling(temperature=temperature, exponent=exponent))
    labels = (probabilities.cumsum(1) > random.random((n, 1))).argmax(1)
    return logits, labels.astype(np.int64)


def test_scale_softens_small_distances_and_sharpens_large_ones() -> None:
    scaled = TemperatureScaling(temperature=2, exponent=2).scale(np.array([[3.0, 7.0, 6.0]], np.float32))
    assert scaled.tolist() == [[-8.0, 0.0, -0.5]]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_fit_calibration_finds_a_known_temperature(temperature: float) -> None:
    found = fit_calibration(*simulate(20_000, temperature))
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.exponent == 1


@pytest.mark.parametrize("exponent", [0.6, 1.5])
def test_fit_calibration_finds_a_known_exponent(exponent: float) -> None:
    logits, labels = simulate(20_000, 2, exponent)
    found = fit_calibration(logits, labels)
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert found.exponent == pytest.approx(exponent, rel=0.1)
    fitted = measure_calibration(softmax(logits, found), labels)
    assert fitted.ece < 1.3 * fitted.noise
    assert measure_calibration(softmax(logits, TemperatureScaling(temperature=found.temperature)), labels).ece > 0.03


def test_fit_calibration_is_not_misled_by_a_few_wrong_labels() -> None:
    """They are impossible for images of which the network is sure: the lowest cross-entropy has an error of 2.8 %."""
    random = np.random.default_rng(1)
    logits, labels = simulate(20_000, 2, 1.5)
    labels = np.where(random.random(20_000) < 0.01, random.integers(0, CLASSES, 20_000), labels)
    fitted = measure_calibration(softmax(logits, fit_calibration(logits, labels)), labels)
    assert fitted.ece < 1.3 * fitted.noise


def test_fit_calibration_without_a_need_for_an_exponent_rarely_fits_one() -> None:
    fitted = sum(fit_calibration(*simulate(300, 1, seed=seed)).exponent != 1 for seed in range(100))
    assert fitted <= 5  # expected: 1


def test_fit_calibration_of_few_images_all_recognized_stays_moderate() -> None:
    logits = np.eye(CLASSES, dtype=np.float32)[[0, 1, 2, 3, 4] * 4] * 3
    labels = logits.argmax(1)
    confidence = softmax(logits, fit_calibration(logits, labels)).max()
    assert confidence == pytest.approx(20.5 / 21, abs=1e-3)  # 20 of 20 are not proof of 100 %


def test_fit_calibration_of_few_images_and_many_classes_is_not_too_modest() -> None:
    """Doubt that is spread over all classes costs most where nearly all of them are out of the question."""
    rows, labels = np.arange(80), np.arange(80) % 40
    logits = np.random.default_rng(0).normal(0, 1, (80, 40)).astype(np.float32)
    logits[rows, labels] += 12
    logits[rows, (labels + 1) % 40] += 6  # the only class that they could be taken for
    confidence = softmax(logits, fit_calibration(logits, labels)).max(1).mean()
    assert confidence == pytest.approx(80.5 / 81, abs=0.003)


def test_measure_calibration_of_exact_probabilities_is_noise() -> None:
    logits, labels = simulate(20_000, 1)
    found = measure_calibration(softmax(logits), labels)
    assert found.ece < 0.01
    assert found.ece == pytest.approx(found.noise, rel=0.6)
    assert found.interval[0] < found.interval[1]
    assert [one.n for one in found.bins] == pytest.approx([20_000 / 15] * 15, abs=1)
    assert [one.confidence for one in found.bins] == sorted(one.confidence for one in found.bins)


def test_measure_calibration_of_a_model_that_is_too_sure_shows_by_how_much() -> None:
    labels = np.zeros(1000, np.int64)
    labels[:400] = 1
    probabilities = np.tile([0.9, 0.1], (1000, 1))  # 90 % sure, 60 % right
    found = measure_calibration(probabilities, labels)
    assert found.mean_confidence == pytest.approx(0.9)
    assert found.ece == pytest.approx(0.3, abs=0.15)
    assert found.interval[0] > 0.15
    assert sum(one.n * one.accuracy for one in found.bins) == pytest.approx(600)


def test_measure_calibration_of_one_image_has_one_bin() -> None:
    found = measure_calibration(np.array([[0.75, 0.25]]), np.array([0]))
    assert (found.ece, len(found.bins)) == (0.25, 1)


def test_find_min_probability_keeps_the_error_rate_in_95_of_100_cases() -> None:
    broken, answered = 0, []
    for seed in range(200):
        logits, labels = simulate(2_000, 1, seed=seed)
        limit = find_min_probability(softmax(logits), labels, 0.1)
        assert limit is not None
        unseen = softmax(simulate(20_000, 1, seed=1000 + seed)[0])
        given = unseen.max(1) >= limit
        broken += (1 - unseen.max(1)[given]).mean() > 0.1  # the true error rate: probabilities are exact
        answered.append(given.mean())
    assert broken <= 0.05 * 200 + 2 * np.sqrt(200 * 0.05 * 0.95)
    assert np.mean(answered) > 0.3  # answering nothing would keep it, too


@pytest.mark.parametrize(("n", "max_error"), [(20, 0.01), (1000, 0.0001)])
def test_find_min_probability_with_too_few_images_to_show_it_is_none(n: int, max_error: float) -> None:
    logits = np.eye(CLASSES, dtype=np.float32)[np.arange(n) % CLASSES] * 9
    assert find_min_probability(softmax(logits), logits.argmax(1), max_error) is None
