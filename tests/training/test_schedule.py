"""The schedule of learning rate and image size, as functions of the completed fraction of training."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from convscope.training.schedule import ScheduleConfig

RESIZING = ((0.3, 0.625), (0.6, 0.75))


@pytest.mark.parametrize("warmup", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("steps", [1, 7, 600])
def test_learning_rate_one_cycle_rises_linearly_and_falls_to_zero(steps: int, warmup: float) -> None:
    schedule = ScheduleConfig(name="one-cycle", warmup_fraction=warmup)
    middles = (np.arange(steps) + 0.5) / steps
    expected = np.interp(middles, [0, warmup, 1], [0, 0.3, 0])
    assert [schedule.learning_rate(0.3, middle) for middle in middles] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 7, 600])
def test_learning_rate_without_warmup_only_falls(steps: int) -> None:
    schedule = ScheduleConfig(name="one-cycle", warmup_fraction=0)
    rates = [schedule.learning_rate(0.3, (step + 0.5) / steps) for step in range(steps)]
    assert rates == pytest.approx(0.3 * (1 - (np.arange(steps) + 0.5) / steps), rel=1e-12)


def test_learning_rate_constant_stays() -> None:
    schedule = ScheduleConfig(name="constant")
    assert {schedule.learning_rate(0.1, step / 50) for step in range(50)} == {0.1}


@pytest.mark.parametrize(
    ("resizing", "epochs", "expected"),
    [
        ((), 3, [1, 1, 1]),
        (RESIZING, 10, [0.625] * 3 + [0.75] * 3 + [1] * 4),  # the next scale begins at the boundary
        (RESIZING, 5, [0.625] * 2 + [0.75] + [1] * 2),
        (RESIZING, 12, [0.625] * 4 + [0.75] * 4 + [1] * 4),
        (((0.1 + 0.2, 0.5),), 10, [0.5] * 3 + [1] * 7),  # not exactly 0.3, but meant as 0.3
        (((1, 0.5),), 4, [0.5] * 3 + [1]),  # the last epoch has full-size images
        (RESIZING, 1, [1]),
    ],
)
def test_image_scale_in_epoch_follows_progressive_resizing(
    resizing: tuple[tuple[float, float], ...], epochs: int, expected: list[float]
) -> None:
    schedule = ScheduleConfig(progressive_resizing=resizing)
    assert [schedule.image_scale_in_epoch(epoch, epochs) for epoch in range(1, epochs + 1)] == expected


@pytest.mark.parametrize(
    "resizing", [((0.6, 0.75), (0.3, 0.625)), ((0.5, 0.0),), ((-0.1, 0.5),), ((0.5, 1.5),), ((1.1, 0.5),)]
)
def test_schedule_config_unsorted_or_impossible_resizing_raises(resizing: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValidationError, match="progressive_resizing"):
        ScheduleConfig(progressive_resizing=resizing)
