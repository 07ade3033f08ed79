"""How often does a training stop at a target accuracy that its model just misses?

    bench_false_stops.py [--epochs 50] [--trainings 20000]

Simulates the validation accuracies of models whose true accuracy is the target, the worst case.
From one epoch to the next, either all answers are drawn again, or 90 % of the images keep theirs. Prints a Markdown
table: the fraction of trainings that stop when each epoch is tested alone (the lower end of its 95 % Wilson interval
reaches the target), and when the looks share the error as `first_epoch_at_target` does.
"""

from __future__ import annotations

import argparse
from bisect import bisect_left
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from convscope._statistics import first_epoch_at_target, wilson

SETTINGS = ((200, 0.9), (1000, 0.7), (1000, 0.9), (1000, 0.97), (5000, 0.97), (5000, 0.99))


def least(n: int, stops: Callable[[int], bool]) -> int:
    """The smallest number of recognized images, 0 to n, that stops a training; n + 1 if none does."""
    return bisect_left(range(n + 1), True, key=stops)


def limits_alone(n: int, target: float) -> NDArray[np.int64]:
    """The least numbers of images that stop a training if each epoch is tested alone: int64 (1,)."""
    return np.array([least(n, lambda correct: wilson(correct, n)[0] >= target)])


def limits_shared(n: int, target: float, epochs: int, planned: int | None) -> NDArray[np.int64]:
    """The least numbers of images that stop a training after each epoch: int64 (epochs,)."""

    def stops(epoch: int, correct: int) -> bool:
        return first_epoch_at_target([0.0] * epoch + [correct / n], n, target, planned) is not None

    return np.array([least(n, partial(stops, epoch)) for epoch in range(epochs)])


def recognized(n: int, target: float, kept: float, trainings: int, epochs: int) -> NDArray[np.int64]:
    """Numbers of recognized images (trainings, epochs), if the fraction `kept` keep their answer in each epoch."""
    random = np.random.default_rng(0)
    columns = [random.binomial(n, target, trainings)]
    for _ in range(epochs - 1):
        right, wrong = random.binomial(columns[-1], kept), random.binomial(n - columns[-1], kept)
        columns.append(right + random.binomial(n - right - wrong, target))
    return np.stack(columns, axis=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--trainings", type=int, default=20_000)
    options = parser.parse_args()
    epochs: int = options.epochs
    print("| images | target | answers kept | each epoch alone | shared, planned epochs | shared, by the clock |")
    print("|---|---|---|---|---|---|")
    for n, target in SETTINGS:
        for kept in (0.0, 0.9):
            found = recognized(n, target, kept, options.trainings, epochs)
            limits = [limits_alone(n, target), *(limits_shared(n, target, epochs, plan) for plan in (epochs, None))]
            rates = [(found >= enough).any(axis=1).mean() for enough in limits]
            print(f"| {n:,} | {100 * target:g} % | {100 * kept:g} % |", *(f"{100 * rate:.1f} % |" for rate in rates))


if __name__ == "__main__":
    main()
