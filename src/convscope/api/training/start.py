"""How a training starts: from scratch, from a backbone, or from whichever does better on the validation images."""

from __future__ import annotations

from convscope._reporting import Reporter
from convscope._text import percent
from convscope.api.training.finetune import plan_finetuning
from convscope.api.training.frozen import FrozenStart, start_frozen
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan, default_recipe, fitting_preset, make_plan, measure_preprocessing
from convscope.api.training.sources import Sources
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset
from convscope.network.build import parse_network
from convscope.network.presets import resolve_architecture
from convscope.runs.config import Race
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
from convscope.training.probes.budget import Budget
from convscope.training.resolve import TrainData, train_val_split

MAX_RACE_FRACTION = 0.2  # of the time that is left


def plan_training(sources: Sources, options: TrainOptions, reporter: Reporter, started: float) -> Plan:
    """Decide everything that training needs; see `make_plan`.

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
    if dataset is None:
        return plan_finetuning(start, options, origin, Budget())
    budget = Budget(options.budget_seconds or 0, started)
    race = _train_briefly(dataset, options, min(start.seconds, MAX_RACE_FRACTION * budget.left))
    reporter.message(_describe_race(start, race))
    if race.accuracy > start.score.accuracy:
        return make_plan(dataset, options, origin, started)
    return plan_finetuning(start, options, origin, budget, race)


def _train_briefly(dataset: Dataset, options: TrainOptions, seconds: float) -> Race:
    """Train from scratch for some seconds, in float32 and without flips, which nothing is known about yet."""
    recipe = options.chosen_recipe(dataset.kind, default_recipe(options, dataset)).override(horizontal_flip="never")
    data = TrainData(dataset, *train_val_split(dataset, recipe, options.seed))
    architecture = resolve_architecture(fitting_preset(recipe.model, dataset))
    network = parse_network(architecture, dataset.shape, len(dataset.classes))
    preprocessing = measure_preprocessing(data, recipe)
    config = TrainConfig(preprocessing, recipe, options.seed, "float32", time_limit=seconds)
    result = fit(build_model(network, options.seed), data.train, data.validation, config)
    return Race(accuracy=result.history[-1].validation_accuracy, seconds=result.seconds)


def _describe_race(start: FrozenStart, race: Race) -> str:
    best = "training from scratch" if race.accuracy > start.score.accuracy else start.backbone.name
    return (
        f"{start.backbone.name} knows {percent(start.score.accuracy)} of the validation images after "
        f"{start.seconds:.0f} s, training from scratch {percent(race.accuracy)} after {race.seconds:.0f} s: {best} "
        "goes on"
    )
