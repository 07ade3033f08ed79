"""The plan of a training: everything that is decided before step 0, and written to `config.json`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convscope._hardware import hardware_info, keep_freed_memory, max_threads
from convscope._reporting import Reporter
from convscope._statistics import images_to_show
from convscope._storage import is_address
from convscope.api.training.options import TrainOptions
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.data.dataset import LARGE_IMAGE_SIDE, Dataset
from convscope.data.load import load_data
from convscope.data.registry import NAMES, SETS
from convscope.errors import ArchitectureError, DataError, UsageError
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.cost import check_memory
from convscope.network.presets import resolve_architecture
from convscope.runs.config import DatasetInfo, RunConfig
from convscope.runs.folder import utc_now
from convscope.training.callbacks import Weights
from convscope.training.finetuning.tail import Tail
from convscope.training.probes.autotune import TuningProbe, autotune
from convscope.training.probes.budget import (
    AUTOTUNE_FRACTION,
    FLIP_PROBE_FRACTION,
    MAX_FLIP_PROBE_SECONDS,
    Budget,
    time_limit,
)
from convscope.training.recipe import Recipe
from convscope.training.recipes import recipe_for_budget
from convscope.training.resolve import Reasons, TrainData, resolve, train_val_split

if TYPE_CHECKING:
    from convscope.backends.pytorch.group import Group

STATISTICS_VALUES = 2**28  # pixel values that mean and standard deviation are measured on
FALLBACK_PRESET = "small"
ESTIMATE_MARGIN = 1.25  # of the time estimate, when epochs and a budget are both given


@dataclass(frozen=True)
class Plan:
    """A training that can start.

    data: the images. config: everything that was decided. initial_weights: None if they are random. tail: what the
    frozen layers have computed, if there are any. group: the processes that train together; None for this one alone.
    """

    data: TrainData
    config: RunConfig
    initial_weights: Weights | None = None
    tail: Tail | None = None
    group: Group | None = None


def make_plan(dataset: Dataset, options: TrainOptions, origin: str = "", started: float | None = None) -> Plan:
    """Decide everything that training needs, and check that data, network and recipe fit together.

    Args:
        dataset: the data.
        options: see `TrainOptions`.
        origin: name or path that the data set was loaded from, so that the run can find it again; "" if it is an
            object in memory.
        started: when the budget began, a moment of `time.monotonic()`; by default now.

    Raises:
        UsageError: an option is wrong, or a batch does not fit into memory.
        ArchitectureError: the architecture is wrong, or does not fit the images.
        DataError: no image can be held out for validation.
    """
    started = time.monotonic() if started is None else started
    budget = Budget(options.budget_seconds, started) if options.budget_seconds is not None else Budget()
    recipe = options.chosen_recipe(dataset.kind, _default_recipe(options, dataset))
    model = options.model or _fitting_preset(recipe.model, dataset)
    architecture = resolve_architecture(model)
    network = parse_network(architecture, dataset.shape, len(dataset.classes))
    check_memory(network, min(recipe.batch_size, len(dataset.train)))
    data = TrainData(dataset, *train_val_split(dataset, recipe, options.seed), flips_are_safe(origin))
    if options.max_error is not None and recipe.validates_on_test:
        raise UsageError(f"recipe {recipe.name} holds out no images, on which max_error could be kept: choose another")
    use_threads(options.threads or max_threads(), torch_works=False)
    recipe, reasons = resolve(recipe, data, network, budget.share(FLIP_PROBE_FRACTION, MAX_FLIP_PROBE_SECONDS))
    preprocessing = measure_preprocessing(data, recipe)
    keep_freed_memory()
    probe = TuningProbe(network, data.train, preprocessing, recipe, options.seed)
    tuning = autotune(probe, options.threads, budget.share(AUTOTUNE_FRACTION))
    machine, dataset_info = hardware_info(tuning.threads), describe_data(data, origin)
    limit = None
    if options.budget_seconds is not None:  # last, because it counts the seconds that are left
        counts = len(data.train), len(data.validation), len(dataset.test)
        limit = time_limit(budget, network, recipe, tuning.precision, counts)
        recipe = recipe.override(tta=limit.tta)
        reasons |= {"budget": limit.reason} if limit.reason else {}
        if options.epochs and limit.epochs >= ESTIMATE_MARGIN * options.epochs:
            limit = None  # the epochs fit
    epochs = limit.epochs if limit else recipe.planned_epochs(len(data.train))
    reasons |= _size_changes_recipe(options, dataset, recipe, model)
    reasons |= _target_out_of_reach(recipe, len(data.validation), None if limit else epochs)
    config = RunConfig(
        created=utc_now(),
        dataset=dataset_info,
        classes=dataset.classes,
        model=model if architecture != model else "custom",
        architecture=architecture,
        input_shape=dataset.shape,
        preprocessing=preprocessing,
        recipe=recipe,
        reasons=reasons | ({"precision": tuning.reason} if tuning.reason else {}),
        epochs=epochs,
        max_error=options.max_error,
        budget=options.budget_seconds,
        time_limit=limit.seconds if limit else None,
        seed=options.seed,
        precision=tuning.precision,
        backend=backend.backend_name(),
        machine=machine,
    )
    return Plan(data, config)


def recorded_plan(path: str | Path, config: RunConfig, data: Dataset | None, reporter: Reporter) -> Plan:
    """Return the plan of a run, with its data as it was; nothing is decided again.

    Args:
        path: the run folder, for messages.
        config: of the run.
        data: the data set, if the training had one in memory.
        reporter: where messages and progress go.

    Raises:
        UsageError: the training had data in memory, and they are missing.
        DataError: the data cannot be read, or have changed.
    """
    if data is None and not config.dataset.path:
        raise UsageError(f"{path} was trained on data in memory: pass it to resume_run or train_more as data")
    dataset = data or load_data(config.dataset.path, config.dataset.load_options, reporter)
    if dataset.fingerprint != config.dataset.fingerprint:
        raise DataError(
            f"{config.dataset.path or dataset.name} has changed since {path} was trained on it: "
            "restore it, or train again"
        )
    check_memory(config.network, min(config.recipe.batch_size, len(dataset.train)))
    keep_freed_memory()
    return Plan(TrainData(dataset, *train_val_split(dataset, config.recipe, config.seed)), config)


def _default_recipe(options: TrainOptions, dataset: Dataset) -> str:
    """Return the most accurate recipe that fits the budget, if there is one."""
    available = options.core_seconds
    if available is None:
        return "default"
    return recipe_for_budget(available, dataset.kind, dataset.train.store[0].size * len(dataset.train))


def _fitting_preset(preset: str, dataset: Dataset) -> str:
    """Return the preset, or a smaller one if the images are too small for it."""
    try:
        parse_network(resolve_architecture(preset), dataset.shape, len(dataset.classes))
    except ArchitectureError:
        return FALLBACK_PRESET
    return preset


def _size_changes_recipe(options: TrainOptions, dataset: Dataset, recipe: Recipe, model: str) -> Reasons:
    """Say so if the recipe is another one because the user chose the input size."""
    if not options.image_size or isinstance(options.recipe, Recipe):
        return {}
    if dataset.kind == "small images":
        network = "" if options.model else f", with the network {model}"
        return {"image_size": f"inputs below {LARGE_IMAGE_SIDE} pixels have a recipe of their own{network}"}
    if dataset.kind == "sized images" and (resizing := recipe.schedule.progressive_resizing):
        first = f"{100 * resizing[0][1]:g} %"
        reason = (
            f"the input size was chosen, so training uses more of it than by default: images begin at {first} of it"
        )
        return {"image_size": reason}
    return {}


def _target_out_of_reach(recipe: Recipe, validation_images: int, planned: int | None) -> Reasons:
    """Say so if not even a perfect score on the validation images can show the target accuracy."""
    target = recipe.stopping.target_accuracy
    needed = None if target in (None, 1) else images_to_show(target, planned)
    if target is None or (needed and needed <= validation_images):
        return {}
    takes = f"it takes {needed:,} or more" if needed else "no number is enough"
    reason = f"{validation_images:,} validation images cannot show a target accuracy of {100 * target:g} %: {takes}"
    return {"target_accuracy": reason}


def flips_are_safe(origin: str) -> bool | None:
    """Return whether horizontal flips keep the labels of a named data set; None if the data has no name."""
    return (origin in SETS and SETS[origin].symmetric) if origin in NAMES else None


def measure_preprocessing(data: TrainData, recipe: Recipe, values: int = STATISTICS_VALUES) -> Preprocessing:
    """Return the preprocessing: measured on the training images, geometry as the files were loaded."""
    measure = Preprocessing.standardized if recipe.standardize else Preprocessing.plain
    sample = data.train.subsample(values // data.train.store[0].size)
    preprocessing = measure(sample.images)
    if not data.dataset.preprocessing:
        return preprocessing
    loaded = data.dataset.preprocessing
    keeps_shape = loaded.fit != "stretch"
    return preprocessing.model_copy(
        update={
            "fit": loaded.fit,
            "fill": loaded.fill,
            "polarity": loaded.polarity,
            "uint16_range": loaded.uint16_range,
            "frame": preprocessing.frame if keeps_shape and preprocessing.polarity == loaded.polarity else None,
            "background": None,  # training saw files with their surroundings
        }
    )


def describe_data(data: TrainData, origin: str) -> DatasetInfo:
    """Describe the data for the run folder. Raises DataError if their path is no text."""
    dataset = data.dataset
    is_place = origin and origin not in NAMES and not is_address(origin)
    path = str(Path(origin).resolve()) if is_place else origin
    if any("\ud800" <= letter <= "\udfff" for letter in path):
        raise DataError(f"{path}: the run folder cannot record a path that is not UTF-8: rename it")
    return DatasetInfo(
        name=dataset.name,
        path=path,
        source=dataset.source,
        load_options=dataset.load_options,
        fingerprint=dataset.fingerprint,
        train_images=len(data.train),
        validation_images=0 if data.validation is dataset.test else len(data.validation),
        test_images=len(dataset.test),
    )
