"""Rungs of a search: their sizes, their time, and who goes on."""

from __future__ import annotations

from math import ceil, inf

import pytest

from convscope.api.tuning.halving import MIN_TRIAL_S, Schedule, plan_rungs, promote


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sizes", [(9, 4, 2), (4, 2), (5,)])
def test_schedule_shares_use_up_the_time(sizes: tuple[int, ...], workers: int) -> None:
    """The trainings of all rungs, and the last one of the chosen configuration, take exactly what there is."""
    schedule, left = Schedule(sizes, workers), 600.0
    for rung, size in enumerate(sizes):
        seconds = left * schedule.share(rung)
        left -= ceil(size / workers) * seconds
    assert seconds == pytest.approx(left)


def test_schedule_rungs_take_three_times_as_long_each() -> None:
    schedule = Schedule((9, 4, 2))
    assert [schedule.fraction(rung) for rung in range(3)] == pytest.approx([1 / 9, 1 / 3, 1])


@pytest.mark.parametrize(("count", "seconds", "sizes"), [(9, inf, (9, 4, 2)), (2, inf, (2,)), (27, 40, (27, 10))])
def test_plan_rungs_first_trainings_are_long_enough(count: int, seconds: float, sizes: tuple[int, ...]) -> None:
    schedule = plan_rungs(count, lambda _: seconds)
    assert schedule.sizes == sizes
    assert seconds * schedule.fraction(0) >= MIN_TRIAL_S


def test_plan_rungs_without_time_has_one() -> None:
    assert plan_rungs(9, lambda _: 1.0).sizes == (9,)


def test_promote_always_keeps_the_defaults() -> None:
    assert promote([3, 1, 2, 0], 3) == [3, 1, 0]
    assert promote([0, 3, 1, 2], 3) == [0, 3, 1]
