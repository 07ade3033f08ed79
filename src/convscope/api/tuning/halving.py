"""Successive halving (Jamieson and Talwalkar, 2016): many short trainings, and longer ones of those that did best.

Each rung gives a third of the configurations three times as much time. Every rung trains from the initial
weights, because a schedule of learning rates fits one length only. The defaults stay in all rungs, to be compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

FACTOR = 3
DEFAULT_TRIALS, MIN_TRIALS = 9, 2
MIN_TRIAL_S = 10.0  # of less, most is preparation
FINAL_TRAININGS = 1  # of the chosen configuration, as long as those of the last rung


@dataclass(frozen=True)
class Schedule:
    """How many configurations each rung has, first to last.

    Attributes:
        sizes: At most, per rung.
        workers: Trainings that run at the same time.
    """

    sizes: tuple[int, ...]
    workers: int = 1

    def fraction(self, rung: int) -> float:
        """The time of a training in a rung, relative to one in the last."""
        return float(FACTOR ** (rung - len(self.sizes) + 1))

    def share(self, rung: int) -> float:
        """The fraction of the time that is left, when a rung begins, which one of its trainings gets."""
        rounds = (ceil(self.sizes[i] / self.workers) * self.fraction(i) for i in range(rung, len(self.sizes)))
        return self.fraction(rung) / (sum(rounds) + FINAL_TRAININGS)


def plan_rungs(count: int, seconds: Callable[[Schedule], float], workers: int = 1) -> Schedule:
    """The schedule with the most rungs whose first trainings are long enough to tell something.

    Args:
        count: Number of configurations.
        seconds: The time of a training in the last rung of a schedule.
        workers: Trainings that run at the same time.

    >>> plan_rungs(9, lambda schedule: 90).sizes, plan_rungs(9, lambda schedule: 20).sizes
    ((9, 4, 2), (9,))
    """
    rungs = 1
    while FACTOR**rungs <= count:
        rungs += 1
    for tried in range(rungs, 0, -1):
        # one more than a third: the defaults may not be among the best
        sizes = (count, *(count // FACTOR**rung + 1 for rung in range(1, tried)))
        schedule = Schedule(sizes, workers)
        if seconds(schedule) * schedule.fraction(0) >= MIN_TRIAL_S:
            return schedule
    return Schedule((count,), workers)


def most_trials(seconds: float, workers: int = 1) -> int:
    """How many configurations a search tries if nothing else is asked for: fewer than usual if there is little time.

    Args:
        seconds: For all trials and the last training.
        workers: Trainings that run at the same time.

    >>> most_trials(600), most_trials(60), most_trials(60, workers=2), most_trials(5)
    (9, 5, 9, 2)
    """
    rounds = seconds / MIN_TRIAL_S - FINAL_TRAININGS
    return int(max(MIN_TRIALS, min(DEFAULT_TRIALS, rounds * workers)))


def promote(ranked: Sequence[int], size: int) -> list[int]:
    """The numbers of the configurations that go on, 0 (the defaults) among them.

    Args:
        ranked: All of a rung, best first.
        size: How many go on, at most.

    >>> promote([4, 2, 0, 1], 2), promote([4, 0, 2, 1], 3)
    ([4, 0], [4, 0, 2])
    """
    best = list(ranked[:size])
    return best if 0 in best else [*best[:-1], 0]
