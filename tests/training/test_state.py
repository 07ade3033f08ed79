"""The state of training: counters, clock, progress and metrics."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from convscope.errors import ConvscopeError
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES
from convscope.training.state import TrainerState

BATCH_SIZE = 10
ONE_CYCLE = RECIPES["default"].override(learning_rate=0.4, warmup_fraction=0.2, batch_size=BATCH_SIZE)
RESIZING = ONE_CYCLE.override(progressive_resizing=((0.3, 0.5), (0.6, 0.75)))


class Clock:
    """A clock that stands still until a test sets it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def state_of(recipe: Recipe, epochs: int, batches: int, **options: Any) -> TrainerState:
    """Return the state of a training of that many epochs and batches per epoch."""
    return TrainerState(recipe.override(epochs=epochs), batches * BATCH_SIZE, **options)


def add_batches(state: TrainerState, batches: int) -> TrainerState:
    for _ in range(batches):
        state.add_batch(0.5, 8, BATCH_SIZE)
    return state


def test_trainer_state_finishes_after_its_epochs(clock: Clock) -> None:
    state = state_of(ONE_CYCLE, 2, 3)
    for epoch in (1, 2):
        assert (state.epoch, state.finished) == (epoch, False)
        for batch in (1, 2, 3):
            clock.now += 1000
            add_batches(state, 1)
            assert (state.batch, state.out_of_time, state.finished) == (batch, False, False)
        state.begin_epoch(epoch + 1)
    assert state.finished


def test_trainer_state_time_limit_ends_training_in_the_middle_of_an_epoch(clock: Clock) -> None:
    state = state_of(ONE_CYCLE, 2, 3, time_limit=50)
    for second in range(0, 50, 10):
        assert not state.out_of_time
        assert not state.finished
        clock.now = 100 + second
        add_batches(state, 1)
        if state.batch == 3:
            state.begin_epoch(2)
    clock.now = 150
    assert state.out_of_time
    assert not state.finished  # its last epoch has not been validated
    state.begin_epoch(3)
    assert state.finished


def test_trainer_state_time_limit_already_over_trains_one_batch(clock: Clock) -> None:
    state = state_of(ONE_CYCLE, 1, 3, time_limit=1)
    clock.now += 60
    assert not state.finished
    assert not state.out_of_time
    add_batches(state, 1)
    assert state.out_of_time


@pytest.mark.parametrize("seconds", [0, 5, 10, 25, 49.9, 50, 1000])
def test_done_at_time_limit_learning_rate_follows_the_clock(clock: Clock, seconds: float) -> None:
    state = state_of(ONE_CYCLE, 7, 3, time_limit=50)
    clock.now += seconds
    expected = np.interp(seconds, [0, 10, 50], [0, 0.4, 0])
    assert ONE_CYCLE.learning_rate_at(state.done_at(state.step)) == pytest.approx(expected)


@pytest.mark.parametrize(("seconds", "scale"), [(0, 0.5), (14.9, 0.5), (15, 0.75), (29.9, 0.75), (30, 1), (50, 1)])
def test_image_scale_time_limit_follows_the_clock(clock: Clock, seconds: float, scale: float) -> None:
    state = state_of(RESIZING, 3, 3, time_limit=50)
    clock.now += seconds
    assert state.image_scale() == scale


@pytest.mark.parametrize("limit", [None, 50])
def test_progress_counts_steps_and_estimates_the_time_left(clock: Clock, limit: float | None) -> None:
    state = add_batches(state_of(ONE_CYCLE, 4, 3, time_limit=limit), 2)
    clock.now += 10
    now = state.progress()
    assert now.seconds_left == pytest.approx(50 if limit is None else 40)
    assert (now.epoch, now.epochs, now.step, now.steps) == (1, 4, 2, 12 if limit is None else 10)
    assert (now.loss, now.accuracy, now.images_per_second) == (0.5, 0.8, 2.0)


def test_progress_time_left_accounts_for_smaller_images(clock: Clock) -> None:
    """A step of 3 epochs at half size costs 1/4 of one of the 4 at full size; at 3/4 it costs 9/16."""
    state = add_batches(state_of(RESIZING, 10, 5), 5)
    clock.now += 10
    state.begin_epoch(2)
    add_batches(state, 1)
    clock.now += 2
    work = 3 * 0.25 + 3 * 0.5625 + 4
    assert state.progress().seconds_left == pytest.approx(12 * (work / (0.25 * 1.2) - 1))


def test_load_state_dict_continues_and_skips_the_time_in_between(clock: Clock) -> None:
    first = add_batches(state_of(ONE_CYCLE, 4, 3, time_limit=50), 2)
    clock.now += 20
    saved = first.state_dict()
    clock.now += 1000  # nothing was trained
    second = state_of(ONE_CYCLE, 4, 3, time_limit=50)
    second.load_state_dict(saved)
    assert saved == {
        "step": 2, "epoch": 1, "loss_sum": 10.0, "correct": 16, "seen": 20, "unmixed": 20,
        "seconds": 20.0, "epoch_seconds": 20.0,
    }  # fmt: skip
    assert second.state_dict() == {**saved, "seconds": pytest.approx(20), "epoch_seconds": pytest.approx(20)}
    assert second.done_at(second.step) == pytest.approx(0.4)


def test_add_batch_loss_not_finite_raises() -> None:
    state = add_batches(state_of(ONE_CYCLE, 2, 3), 1)
    message = "^the loss became nan in epoch 1, step 2: lower --learning-rate, for example to a tenth$"
    with pytest.raises(ConvscopeError, match=message):
        state.add_batch(float("nan"), 0, BATCH_SIZE)


def test_trainer_state_initial_epoch_continues_the_schedule_of_all_epochs() -> None:
    """One more epoch after nine is the last of ten."""
    whole, more = state_of(RESIZING, 10, 5), state_of(RESIZING, 4, 5, initial_epoch=6)
    for epoch in range(1, 5):
        whole.begin_epoch(6 + epoch)
        more.begin_epoch(epoch)
        assert more.image_scale() == whole.image_scale()
        for batch in range(5):
            whole.step, more.step = (5 + epoch) * 5 + batch, (epoch - 1) * 5 + batch
            assert more.batch == whole.batch == batch
            assert more.done_at(more.step) == pytest.approx(whole.done_at(whole.step))


def test_end_epoch_returns_means_and_the_users_metrics(clock: Clock) -> None:
    state = state_of(ONE_CYCLE, 2, 2)
    state.add_batch(1.0, 2, 10)
    state.add_batch(0.4, 4, 5)
    clock.now += 9
    metrics = state.end_epoch((0.7, 0.6, {"f1": 0.25}), seconds=3.0)
    assert metrics.to_row() == {
        "epoch": 1,
        "train_loss": pytest.approx((10 + 2) / 15),
        "train_accuracy": 6 / 15,
        "validation_loss": 0.7,
        "validation_accuracy": 0.6,
        "learning_rate": ONE_CYCLE.learning_rate_at(1.5 / 4),
        "images_per_second": 5.0,
        "seconds": 3.0,
        "validation_f1": 0.25,
    }
    assert list(metrics.to_row())[-1] == "validation_f1"


def test_end_epoch_validation_loss_not_finite_raises() -> None:
    state = add_batches(state_of(ONE_CYCLE, 2, 1), 1)
    with pytest.raises(ConvscopeError, match=r"^the validation loss became inf in epoch 1, step 1: lower --learn"):
        state.end_epoch((float("inf"), 0.5, {}), 1.0)


def test_end_epoch_accuracy_leaves_out_mixed_batches(clock: Clock) -> None:
    state = state_of(ONE_CYCLE, 2, 3)
    state.add_batch(2.0, 0, 10, mixed=True)
    clock.now += 1
    assert state.progress().accuracy is None
    state.add_batch(1.0, 6, 10)
    state.add_batch(3.0, 1, 20, mixed=True)
    metrics = state.end_epoch((0.7, 0.6, {}), seconds=3.0)
    assert (metrics.train_loss, metrics.train_accuracy) == ((20 + 10 + 60) / 40, 0.6)


def test_end_epoch_all_batches_mixed_has_no_accuracy() -> None:
    state = state_of(ONE_CYCLE, 2, 1)
    state.add_batch(2.0, 3, 10, mixed=True)
    assert state.end_epoch((0.7, 0.6, {}), seconds=3.0).to_row()["train_accuracy"] is None


def test_trainer_state_without_epochs_is_finished_at_once(clock: Clock) -> None:
    state = state_of(ONE_CYCLE.override(min_steps=0), 0, 3)
    assert state.finished
    assert (state.epochs, state.steps, state.image_scales) == (0, 0, [])
    assert clock.now == 100
