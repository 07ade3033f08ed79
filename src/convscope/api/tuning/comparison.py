"""Whether one classifier is better than another on the same images, or may be so by chance."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from convscope._records import Record
from convscope._statistics import NORMAL_975, binomial_tail
from convscope._text import pluralize

SIGNIFICANCE = 0.05


class Comparison(Record):
    """A configuration, compared with the defaults on the same images.

    Attributes:
        n: Number of images.
        gained: Images that only the configuration classifies correctly.
        lost: Images that only the defaults classify correctly.
        difference: Of the accuracies, -1..1.
        interval: 95 % interval of that.
        p_value: Probability of as many gains if both were equally good: exact one-sided test of McNemar (1947), times
            the number of configurations that were compared (Bonferroni), at most 1.
        tried: That number.
    """

    n: int
    gained: int
    lost: int
    difference: float
    interval: tuple[float, float]
    p_value: float
    tried: int

    @property
    def is_clear(self) -> bool:
        """Whether chance is an unlikely explanation."""
        return self.p_value <= SIGNIFICANCE

    @property
    def verdict(self) -> str:
        """One sentence that says how sure it is."""
        low, high = (100 * bound for bound in self.interval)
        images = f"{pluralize(self.n, 'image')} that no trial was trained on"
        difference = f"{100 * self.difference:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})"
        numbers = f"accuracy {difference} on {images}, p = {self.p_value:.2g} for the best of {self.tried}"
        if self.is_clear:
            return f"clearly better than the defaults: {numbers}"
        return f"not clearly better than the defaults, chance can explain it: {numbers}"


def compare(correct: NDArray[np.bool_], defaults: NDArray[np.bool_], tried: int) -> Comparison:
    """Compare which images a configuration and the defaults classify correctly, bool (n,) each.

    Args:
        correct: Of the configuration.
        defaults: Of the defaults.
        tried: Number of configurations that it was chosen from.

    >>> compare(np.array([True] * 90 + [False] * 10), np.array([True] * 80 + [False] * 20), 1).is_clear
    True
    >>> compare(np.array([True] * 90 + [False] * 10), np.array([True] * 80 + [False] * 20), 60).is_clear
    False
    """
    n, gained, lost = len(correct), int((correct & ~defaults).sum()), int((~correct & defaults).sum())
    difference = (gained - lost) / n
    half_width = NORMAL_975 * sqrt(max(0.0, gained + lost - (gained - lost) ** 2 / n)) / n
    chance = binomial_tail(gained, gained + lost, 0.5) if gained + lost else 1.0
    return Comparison(
        n=n,
        gained=gained,
        lost=lost,
        difference=difference,
        interval=(difference - half_width, difference + half_width),
        p_value=min(1.0, tried * chance),
        tried=tried,
    )
