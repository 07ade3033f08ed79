"""How far a training has come."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from convscope.errors import ConvscopeError
from convscope.training.recipes import RECIPES
from convscope.training.state import Course

ONE_CYCLE = RECIPES["default"].model_copy(update={"learning_rate": 0.4, "warmup_share": 0.2})
GROWING = ONE_CYCLE.model_copy(update={"growth": ((0.3, 0.5), (0.6, 0.75))})


class Clock:
    """Stands where it is put."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def at(course: Course, batch: int) -> Course:
    for _ in range(batch):
        course.add(0.5, 8, 10)
    return course


def test_epochs_end_a_training(clock: Clock) -> None:
    course = Course(ONE_CYCLE, 2, 3)
    for epoch in (1, 2):
        assert (course.epoch, course.over) == (epoch, False)
        for batch in (1, 2, 3):
            clock.now += 1000
            at(course, 1)
            assert (course.batch, course.out_of_time, course.over) == (batch, False, False)
        course.new_epoch(epoch + 1)
    assert course.over


def test_a_limit_ends_a_training_in_the_middle_of_an_epoch(clock: Clock) -> None:
    course = Course(ONE_CYCLE, 2, 3, limit=50)
    for second in range(0, 50, 10):
        assert not course.out_of_time
        assert not course.over
        clock.now = 100 + second
        at(course, 1)
        if course.batch == 3:
            course.new_epoch(2)
    clock.now = 150
    assert course.out_of_time
    assert not course.over  # its last epoch is still to be measured
    course.new_epoch(3)
    assert course.over


def test_one_batch_is_always_trained_on(clock: Clock) -> None:
    course = Course(ONE_CYCLE, 1, 3, limit=1)
    clock.now += 60
    assert not course.over
    assert not course.out_of_time
    at(course, 1)
    assert course.out_of_time


@pytest.mark.parametrize("seconds", [0, 5, 10, 25, 49.9, 50, 1000])
def test_the_learning_rate_follows_the_clock(clock: Clock, seconds: float) -> None:
    course = Course(ONE_CYCLE, 7, 3, limit=50)
    clock.now += seconds
    expected = np.interp(seconds, [0, 10, 50], [0, 0.4, 0])
    assert ONE_CYCLE.learning_rate_at(course.done_at(course.step)) == pytest.approx(expected)


@pytest.mark.parametrize(("seconds", "share"), [(0, 0.5), (14.9, 0.5), (15, 0.75), (29.9, 0.75), (30, 1), (50, 1)])
def test_images_grow_with_the_clock(clock: Clock, seconds: float, share: float) -> None:
    course = Course(GROWING, 3, 3, limit=50)
    clock.now += seconds
    assert course.image_share() == share


@pytest.mark.parametrize("limit", [None, 50])
def test_what_is_left(clock: Clock, limit: float | None) -> None:
    course = at(Course(ONE_CYCLE, 4, 3, limit), 2)
    clock.now += 10
    now = course.progress()
    assert now.seconds_left == pytest.approx(50 if limit is None else 40)
    assert (now.epoch, now.epochs, now.step, now.steps) == (1, 4, 2, 12 if limit is None else 10)
    assert (now.loss, now.accuracy, now.images_per_second) == (0.5, 0.8, 2.0)


def test_time_left_knows_that_small_images_are_quick(clock: Clock) -> None:
    """A step of 3 epochs at half size is a quarter of one of the 4 at the whole size, at 3/4 it is 9/16."""
    course = at(Course(GROWING, 10, 5), 5)
    clock.now += 10
    course.new_epoch(2)
    at(course, 1)
    clock.now += 2
    work = 3 * 0.25 + 3 * 0.5625 + 4
    assert course.progress().seconds_left == pytest.approx(12 * (work / (0.25 * 1.2) - 1))


def test_a_course_goes_on_where_another_stood(clock: Clock) -> None:
    first = at(Course(ONE_CYCLE, 4, 3, limit=50), 2)
    clock.now += 20
    then = first.standing()
    clock.now += 1000  # nobody trained
    second = Course(ONE_CYCLE, 4, 3, limit=50)
    second.go_on(then)
    assert second.standing() == replace(then, seconds=pytest.approx(20), epoch_seconds=pytest.approx(20))  # type: ignore[arg-type]
    assert second.done_at(second.step) == pytest.approx(0.4)


def test_a_loss_that_is_no_number_ends_it() -> None:
    course = at(Course(ONE_CYCLE, 2, 3), 1)
    with pytest.raises(ConvscopeError, match="the loss became nan in epoch 1, step 2: lower --learning-rate"):
        course.add(float("nan"), 0, 10)
