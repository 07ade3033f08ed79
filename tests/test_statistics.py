"""Tests of proportions, and how often a training stops at a target accuracy that it does not have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom  # type: ignore[import-untyped]

from convscope._statistics import FALSE_STOP_RATE, binomial_tail, first_epoch_at_target, images_to_show

EPOCHS, TRAININGS = 50, 4000


@pytest.mark.parametrize("n", [1, 10, 200, 5000, 60_000])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9, 0.97, 0.999])
def test_binomial_tail_more_than_expected_equals_scipy(n: int, probability: float) -> None:
    for correct in {min(n, int(n * probability) + more) for more in (1, 2, 10, 100, n)}:
        assert binomial_tail(correct, n, probability) == pytest.approx(binom.sf(correct - 1, n, probability), rel=1e-7)


@pytest.mark.parametrize(("correct", "probability"), [(0, 0.5), (50, 0.5), (100, 1.0)])
def test_binomial_tail_no_more_than_expected_is_one(correct: int, probability: float) -> None:
    assert binomial_tail(correct, 100, probability) == 1


def accuracies(n: int, target: float, kept: float) -> NDArray[np.float64]:
    """Validation accuracies (trainings, epochs) of models whose true accuracy just misses the target.

    `kept` is the fraction of the images whose answer stays from one epoch to the next.
    """
    random = np.random.default_rng(0)
    correct = random.binomial(n, target, TRAININGS)
    result = np.empty((TRAININGS, EPOCHS))
    for epoch in range(EPOCHS):
        result[:, epoch] = correct / n
        right, wrong = random.binomial(correct, kept), random.binomial(n - correct, kept)
        correct = right + random.binomial(n - right - wrong, target)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0.0, 0.9])
@pytest.mark.parametrize(("n", "target"), [(200, 0.9), (1000, 0.97), (5000, 0.7), (5000, 0.99)])
@pytest.mark.parametrize("planned", [EPOCHS, None])
def test_first_epoch_at_target_just_missed_is_seldom_found(
    n: int, target: float, kept: float, planned: int | None
) -> None:
    """Tested once per epoch without a correction, 16 to 72 % of the trainings would stop."""
    found = accuracies(n, target, kept)
    highest = found.max(axis=1) if planned else np.zeros(0)
    if planned:  # the levels are equal: the best epoch decides
        stopped = [first_epoch_at_target([0.0] * 9 + [best], n, target, planned) is not None for best in highest]
    else:
        stopped = [first_epoch_at_target(row, n, target, None) is not None for row in found[:1000].tolist()]
    margin = 3 * (FALSE_STOP_RATE / len(stopped)) ** 0.5
    assert 0.002 < np.mean(stopped) < FALSE_STOP_RATE + margin


@pytest.mark.parametrize(
    ("found", "planned", "expected"),
    [([], 10, None), ([0.5, 0.98, 0.992], 10, 3), ([0.986], 1, 1), ([0.986], 50, None), ([0.986], None, None)],
)
def test_first_epoch_at_target_more_looks_ask_for_more(
    found: list[float], planned: int | None, expected: int | None
) -> None:
    assert first_epoch_at_target(found, 500, 0.97, planned) == expected


@pytest.mark.parametrize(("target", "planned"), [(0.5, 1), (0.97, 50), (0.999, 10), (0.9, None)])
def test_images_to_show_are_just_enough(target: float, planned: int | None) -> None:
    needed = images_to_show(target, planned)
    assert first_epoch_at_target([1.0], needed, target, planned) == 1
    assert first_epoch_at_target([1.0], needed - 1, target, planned) is None
