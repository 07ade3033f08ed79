"""Whether a configuration is better than the defaults: against SciPy, and against trials without any difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]

from convscope.api.tuning.comparison import compare


def test_compare_p_value_is_that_of_the_exact_test() -> None:
    correct, defaults = np.repeat([True, False, True], [30, 12, 58]), np.repeat([False, True, True], [30, 12, 58])
    found = compare(correct, defaults, 1)
    assert (found.gained, found.lost, found.difference) == (30, 12, 0.18)
    assert found.p_value == pytest.approx(binomtest(30, 42, alternative="greater").pvalue)
    assert compare(correct, defaults, 3).p_value == pytest.approx(3 * found.p_value)


def test_compare_best_of_equal_ones_is_rarely_clear() -> None:
    """The best of eight configurations that are as good as the defaults is called better in under 5 % of searches."""
    random = np.random.default_rng(0)
    clear = 0
    for _ in range(400):
        defaults, *others = random.random((9, 300)) < 0.8
        best = max(others, key=np.sum)
        clear += compare(best, defaults, 8).is_clear
    assert clear / 400 < 0.05


def test_compare_verdict_says_when_it_may_be_chance() -> None:
    correct, defaults = np.array([True] * 52 + [False] * 48), np.array([True] * 50 + [False] * 50)
    assert compare(correct, defaults, 8).verdict.startswith("not clearly better than the defaults")
    assert compare(~defaults, defaults & False, 1).verdict.startswith("clearly better than the defaults: ")
