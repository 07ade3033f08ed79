"""How a training starts: from scratch, from a backbone, or from whichever does better on the validation images."""

from __future__ import annotations

import time
from dataclasses import replace
from math import inf

from convscope._reporting import Reporter
from convscope._text import percent
from convscope.api.training.finetune import plan_finetuning
from convscope.api.training.frozen import FrozenStart, start_frozen
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan, make_plan
from convscope.api.training.sources import Sources
from convscope.backends.pytorch.models import build_model
from convscope.runs.config import Race
from convscope.training.config import TrainConfig
from convscope.training.finetuning.head import MIN_VALIDATION_IMAGES
from convscope.training.loop import fit
from convscope.training.probes.budget import MIN_TRAINING_SECONDS, Budget

RACE_FRACTION, FIRST_FRACTION = 0.25, 0.06  # of the time that is left: the race, and a first one that may decide it
GOOD, FAR_AHEAD = 0.85, 0.2  # accuracy of a backbone, and its lead after the first race, that decide


def plan_training(sources: Sources, options: TrainOptions, reporter: Reporter, started: float) -> Plan:
    """Decide everything that training needs; see `make_plan`.

    With a budget, the backbone and a training from scratch compete first; what is better on its validation images goes
    on with the time that is left.

    Args:
        sources: The images, and perhaps a backbone.
        options: See `TrainOptions`.
        reporter: Where messages and progress go.
        started: When the budget began, a moment of `time.monotonic()`.
    """
    dataset, pretraining, origin = sources.dataset, sources.pretraining, sources.origin
    if pretraining is None:
        assert dataset is not None
        return make_plan(dataset, options, origin, started)
    start = start_frozen(options, pretraining, origin, reporter)
    budget = Budget(options.budget_seconds or inf, started)
    if dataset is None:
        return plan_finetuning(start, options, origin, budget)
    scratch, planned = make_plan(dataset, options, origin, started), time.monotonic()
    race = _race(start, scratch, budget, reporter)
    if _is_better(race, start):
        scratch = _with_less_time(scratch, time.monotonic() - planned)
        reasons = scratch.config.reasons | {"init": _describe_race(start, race)}
        return replace(scratch, config=scratch.config.model_copy(update={"reasons": reasons}))
    reporter.message(_describe_race(start, race))
    return plan_finetuning(start, options, origin, budget, race)


def _is_better(race: Race, start: FrozenStart) -> bool:
    """Whether training from scratch goes on; fewer than `MIN_VALIDATION_IMAGES` must show it clearly."""
    images = len(start.data.validation)
    margin = 0.0 if images >= MIN_VALIDATION_IMAGES else 0.5 / images**0.5  # at least a standard error
    return race.accuracy - start.score.accuracy > margin


def _race(start: FrozenStart, scratch: Plan, budget: Budget, reporter: Reporter) -> Race:
    """Train from scratch for a while; not for long, if the backbone is good and far ahead."""
    fractions = (FIRST_FRACTION, RACE_FRACTION) if start.score.accuracy >= GOOD else (RACE_FRACTION,)
    for fraction in fractions:
        seconds = max(MIN_TRAINING_SECONDS, fraction * budget.left)
        reporter.message(f"training from scratch for {seconds:.0f} s, to compare it with {start.backbone.name}")
        race = _train_briefly(scratch, seconds)
        if start.score.accuracy - race.accuracy >= FAR_AHEAD:
            break
    return race


def _train_briefly(plan: Plan, seconds: float) -> Race:
    """Train from scratch for some seconds; the schedule follows the clock."""
    config = plan.config
    training = TrainConfig(config.preprocessing, config.recipe, config.seed, config.precision, time_limit=seconds)
    result = fit(build_model(config.network, config.seed), plan.data.train, plan.data.validation, training)
    return Race(accuracy=result.history[-1].validation_accuracy, seconds=result.seconds)


def _with_less_time(plan: Plan, seconds: float) -> Plan:
    """The plan, if some of its time has passed."""
    limit = plan.config.time_limit
    if limit is None:
        return plan
    left = max(MIN_TRAINING_SECONDS, limit - seconds)
    epochs = max(1, round(plan.config.epochs * left / limit))
    return replace(plan, config=plan.config.model_copy(update={"time_limit": left, "epochs": epochs}))


def _describe_race(start: FrozenStart, race: Race) -> str:
    best = "training from scratch" if _is_better(race, start) else start.backbone.name
    return (
        f"{start.backbone.name} with a new classifier: {percent(start.score.accuracy)} of the validation images after "
        f"{start.seconds:.0f} s; from scratch: {percent(race.accuracy)} after {race.seconds:.0f} s; {best} goes on"
    )
