"""Confidence intervals."""

from __future__ import annotations

from math import sqrt

NORMAL_975 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927), right also near 0 and 1.

    >>> [round(bound, 4) for bound in wilson(9_864, 10_000)]
    [0.9839, 0.9885]
    >>> [round(bound, 4) for bound in wilson(10, 10)]
    [0.7225, 1.0]
    """
    share, z2 = correct / n, NORMAL_975**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_975 * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, center - half), min(1.0, center + half)


def reaches(accuracy: float, images: int, target: float | None) -> bool:
    """Whether an accuracy on so many images is the target's or more even at the lower end of its 95 % interval.

    >>> reaches(0.98, 1000, 0.96), reaches(0.98, 1000, 0.97), reaches(1.0, 9, None)
    (True, False, False)
    """
    return target is not None and wilson(round(accuracy * images), images)[0] >= target
