"""Confidence intervals and tests of proportions."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, lgamma, log, sqrt

FALSE_STOP_RATE = 0.025  # at most, of trainings whose accuracy misses the target, that stop all the same
NORMAL_975 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
CLEAR = 1.64  # standard errors; where nothing has changed, 5 % of the differences are larger in one direction


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
    low, high = max(0.0, center - half_width), min(1.0, center + half_width)
    return (low if correct else 0.0), (high if correct < n else 1.0)  # exactly, despite rounding


def binomial_tail(correct: int, n: int, probability: float) -> float:
    """Probability of at least `correct` successes in `n` trials, for more successes than expected; 1 for fewer.

    Args:
        correct: Number of successes, 0 to n.
        n: Number of trials, at least 1.
        probability: Of a success, 0..1.

    >>> round(binomial_tail(9, 10, 0.5), 6), binomial_tail(5, 10, 0.5)
    (0.010742, 1.0)
    """
    if correct <= n * probability or probability == 1:
        return 1.0
    choices = lgamma(n + 1) - lgamma(correct + 1) - lgamma(n - correct + 1)
    failures = (n - correct) * log(1 - probability)
    term = total = exp(choices + correct * log(probability) + failures)
    for successes in range(correct, n):
        term *= (n - successes) / (successes + 1) * probability / (1 - probability)
        total += term
        if term < 1e-17 * total:
            break
    return total


def first_epoch_at_target(accuracies: Sequence[float], n: int, target: float, planned: int | None) -> int | None:
    """The first epoch, from 1, whose validation accuracy shows that the target is reached; None if there is none.

    Training looks after every epoch, and each look can be wrong. The looks share an error of 2.5 % (Bonferroni's union
    bound, which holds however strongly the epochs are correlated): of a training whose true accuracy never reaches
    the target, at most that fraction stops. Each look is an exact binomial test, the lower end of the interval of
    Clopper and Pearson (1934). Confidence sequences for means (Howard et al., 2021) would need new images at each look.

    Args:
        accuracies: Validation accuracy, 0..1, after each epoch.
        n: Number of validation images.
        target: Accuracy, 0..1.
        planned: Number of epochs, which get equal shares; None if it is unknown: epoch t then gets 1 / (t (t + 1)).

    >>> first_epoch_at_target([0.95, 0.99], 1000, target=0.97, planned=10)
    2
    """
    for epoch, accuracy in enumerate(accuracies, 1):
        level = FALSE_STOP_RATE / _looks(epoch, planned)
        if binomial_tail(round(accuracy * n), n, target) <= level:
            return epoch
    return None


def images_to_show(target: float, planned: int | None) -> int:
    """The number of validation images that can show a target below 1 in the first epoch, if all are recognized.

    Args:
        target: Accuracy, 0..1.
        planned: See `first_epoch_at_target`.

    >>> images_to_show(0.97, planned=10)
    197
    """
    return ceil(log(FALSE_STOP_RATE / _looks(1, planned)) / log(target))


def _looks(epoch: int, planned: int | None) -> int:
    return planned or epoch * (epoch + 1)
