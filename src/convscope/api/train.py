"""One call from a data set to a finished run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import nn

from convscope._files import lock_folder
from convscope._records import validate_options
from convscope.api.training.group import ShareState
from convscope.api.training.hooks import HookKeywords, Hooks, TrainKeywords
from convscope.api.training.keep import keep_if_better
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan
from convscope.api.training.results import write_results, write_weights
from convscope.api.training.sources import FROM_SCRATCH, load_sources
from convscope.api.training.start import plan_training
from convscope.backends.pytorch.models import build_model, set_weights
from convscope.data.load import DataSource
from convscope.errors import UsageError
from convscope.runs.checkpoints import Checkpoints, RestoreCheckpoint
from convscope.runs.config import INITIAL_WEIGHTS_FILE, TRAINING_IMAGES_FILE
from convscope.runs.folder import RUNS_FOLDER, Run, RunWriter, next_run_folder
from convscope.runs.metrics_log import MetricsLog
from convscope.runs.weights import save_hashes
from convscope.training.callbacks import Callback, Trainer, TrainResult, Weights, stop_on_signals
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
from convscope.training.recipe import Recipe

UNUSABLE_AUGMENT = (
    "has no effect on a training from a backbone, whose first layers see the images only once: leave it out, or train "
    'from scratch with init="none"'
)


def train_model(
    data: DataSource | None = None,
    model: str | None = None,
    recipe: Recipe | str | None = None,
    **options: Unpack[TrainKeywords],
) -> Run:
    """Train a classifier, evaluate it, and write its run folder with weights, model file, figures and report.

    The same seed, threads and versions give bit-identical weights.

    Args:
        data: a name, a path, a `Dataset`, or arrays: `(images, labels)`, or a dict of them by split, see `load_data`.
            None stands for MNIST if it can be had, else for scikit-learn's digits.
        model: a preset or an architecture; by default the recipe's preset.
        recipe: a name or a `Recipe`; by default `"default"`, or with a budget the most accurate one that fits.
        options: fields of `TrainOptions`, such as `init`, the backbone or run to start from, `epochs`, `budget="60s"`,
            `target_accuracy`, `image_size`, `seed`, `threads` and `run`, the folder to write; and fields of `Hooks`:
            `callbacks`, `metrics`, `augment` and `reporter`.

    Raises:
        UsageError: an option is wrong, or the backbone is not on this machine.
        ArchitectureError: the architecture is wrong, or does not fit the images.
        DataError: the data cannot be read, or do not suffice.
        ConvscopeError: training failed, for example because the loss became infinite.
    """
    given: dict[str, Any] = {"model": model, "recipe": recipe, **options}
    hooks = Hooks(**{name: given.pop(name) for name in HookKeywords.__annotations__ if name in given})
    checked = validate_options(TrainOptions, given)
    checked.chosen_recipe()  # a wrong option is reported before anything is loaded
    checked = _leave_room_for_augment(checked, hooks)
    started = time.monotonic()
    sources = load_sources(data, checked, hooks.reporter)
    return run_plan(plan_training(sources, checked, hooks.reporter, started), checked, hooks)


def run_plan(plan: Plan, options: TrainOptions, hooks: Hooks | None = None, *, resume: bool = False) -> Run:
    """Train as planned, and write the run folder `options.run`, by default the next free one.

    Ctrl-C, SIGTERM or SIGHUP (a closed terminal) ends training after the current batch and saves the weights, without
    evaluation and report. If it comes while those are written, they are completed. A second signal acts at once.

    Args:
        plan: see `make_plan`.
        options: the run's folder and the interval of checkpoints count here.
        hooks: callbacks, metrics and the rest.
        resume: continue from the last checkpoint in the folder.

    Raises:
        UsageError: the folder is not free, or another process trains in it.
    """
    hooks = hooks or Hooks()
    plan = _check_hooks(plan, hooks) if resume else _record_hooks(plan, hooks)
    config = plan.config
    folder = options.run or next_run_folder(RUNS_FOLDER, config.dataset.name, config.model)
    with stop_on_signals() as stop, lock_folder(folder):
        writer = RunWriter(folder, config, resume)
        writer.write(TRAINING_IMAGES_FILE, save_hashes(_hash_used_images(plan)))
        checkpoints = Checkpoints(folder, options.checkpoint_interval, hooks.reporter)
        first: list[Callback] = [RestoreCheckpoint(checkpoints)] if resume else []
        if plan.initial_weights is not None:
            writer.write(INITIAL_WEIGHTS_FILE, save(plan.initial_weights))
        with MetricsLog(writer) as metrics_log:
            # the caller's callbacks see restored weights, and what they stop is saved
            model, result = fit_plan(plan, hooks, [*first, *hooks.callbacks, stop, checkpoints, metrics_log])
        interrupted_by = stop.number  # a later signal does not stop the results from being written
        write_weights(writer, plan, result, hooks.reporter)
        if not interrupted_by:
            write_results(writer, plan, model, result, hooks)
        run = writer.finish(interrupted_by, result.epoch, result.seconds, result.select)
        if not interrupted_by:
            checkpoints.remove()
        return run


def fit_plan(plan: Plan, hooks: Hooks, callbacks: Sequence[Callback] = ()) -> tuple[nn.Sequential, TrainResult]:
    """Train as planned, and write nothing; return the model with the weights that the recipe selects, and the result.

    Args:
        plan: see `make_plan`.
        hooks: metrics and augmentation count here.
        callbacks: called in this order, after the initial weights have been set.
    """
    model = build_model(plan.config.network, plan.config.seed)
    initial = [] if plan.initial_weights is None else [InitialWeights(plan.initial_weights)]
    share = [] if plan.group is None else [ShareState(plan.group)]  # last: it shares what the others have restored
    training = _train_config(plan, hooks)
    result = fit(model, plan.data.train, plan.data.validation, training, [*initial, *callbacks, *share])
    result = keep_if_better(plan, result)
    set_weights(model, result.weights)
    return model, result


def follow_plan(plan: Plan, hooks: Hooks) -> None:
    """Train as planned in a process of a group that is not rank 0: write nothing, and stop when rank 0 does.

    Args:
        plan: that of rank 0.
        hooks: of these, only the augmentation counts.
    """
    with stop_on_signals():  # what stops a group reaches all its processes; rank 0 decides when
        fit_plan(plan, replace(hooks, metrics={}))


def _hash_used_images(plan: Plan) -> NDArray[np.uint64]:
    """The hashes of the images that training learns from or chooses by; not those of the test split."""
    data = plan.data
    splits = [data.train, *([data.validation] if data.validation is not data.dataset.test else [])]
    return np.concatenate([split.hashes() for split in splits])


class InitialWeights(Callback):
    """Starts training from given weights."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def on_train_begin(self, trainer: Trainer) -> None:
        """Load the weights."""
        set_weights(trainer.model, self.weights)


def _leave_room_for_augment(options: TrainOptions, hooks: Hooks) -> TrainOptions:
    """Return the options; a backbone is not considered with an augmentation, which would change what is computed once.

    Raises:
        UsageError: the caller asked for both.
    """
    if hooks.augment is None:
        return options
    if options.init not in (None, FROM_SCRATCH):
        raise UsageError(f"augment={_name_of(hooks.augment)} {UNUSABLE_AUGMENT}")
    return options.model_copy(update={"init": FROM_SCRATCH})


def _record_hooks(plan: Plan, hooks: Hooks) -> Plan:
    """Return the plan with the names of the caller's own functions, which a resumed training needs again.

    Raises:
        UsageError: the augmentation cannot be used.
    """
    if hooks.augment is not None and plan.config.init is not None:
        raise UsageError(f"augment={_name_of(hooks.augment)} {UNUSABLE_AUGMENT}")
    update = {"augment": _name_of(hooks.augment), "metrics": tuple(hooks.metrics)}
    return replace(plan, config=plan.config.model_copy(update=update))


def _check_hooks(plan: Plan, hooks: Hooks) -> Plan:
    """Raise UsageError unless the caller's own functions have the names of those that training began with."""
    config = plan.config
    if config.augment != _name_of(hooks.augment):
        raise UsageError(
            f"training began with augment={config.augment or None}, not {_name_of(hooks.augment) or None}: "
            "resume it with the same function"
        )
    if config.metrics != tuple(hooks.metrics):
        names = ", ".join(config.metrics) or "none"
        raise UsageError(f"training began with these metrics of its own: {names}; resume it with the same ones")
    return plan


def _name_of(function: object) -> str:
    return "" if function is None else str(getattr(function, "__qualname__", type(function).__qualname__))


def _train_config(plan: Plan, hooks: Hooks) -> TrainConfig:
    config = plan.config
    return TrainConfig(
        preprocessing=config.preprocessing,
        recipe=config.recipe,
        seed=config.seed,
        precision=config.precision,
        time_limit=config.time_limit,
        initial_epoch=config.initial_epoch,
        metrics=hooks.metrics,
        augment=hooks.augment,
        tail=plan.tail,
        group=plan.group,
    )
