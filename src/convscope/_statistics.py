"""Confidence intervals of proportions."""

from __future__ import annotations

from math import sqrt

NORMAL_975 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson, 1927); it stays within 0..1 and is accurate near both ends.

    Args:
        correct: Number of successes, 0 to n.
        n: Number of trials, at least 1.

    Returns:
        Lower and upper bound, each 0..1.

    >>> [round(bound, 4) for bound in wilson(9_864, 10_000)]
    [0.9839, 0.9885]
    >>> [round(bound, 4) for bound in wilson(10, 10)]
    [0.7225, 1.0]
    """
    proportion, z2 = correct / n, NORMAL_975**2
    center = (proportion + z2 / (2 * n)) / (1 + z2 / n)
    half_width = NORMAL_975 * sqrt(proportion * (1 - proportion) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, center - half_width), min(1.0, center + half_width)


def lower_bound(accuracy: float, n: int) -> float:
    """Lower bound, 0..1, of the 95 % interval of an accuracy that was measured on `n` images.

    >>> round(lower_bound(0.98, 1000), 4)
    0.9693
    """
    return wilson(round(accuracy * n), n)[0]
