"""One call from a data set to a finished run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import nn

from convscope._files import lock_folder
from convscope._hardware import hardware_info, keep_memory, max_threads
from convscope._reporting import Reporter
from convscope._text import list_some
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.backends.onnx.export import to_onnx
from convscope.backends.pytorch.models import build_model, set_weights
from convscope.data.audit.rules import IMBALANCE_RATIO
from convscope.data.dataset import Dataset, Split
from convscope.data.load import load_data
from convscope.data.options import LoadOptions
from convscope.data.registry import NAMES, SETS
from convscope.errors import ArchitectureError, DataError, UsageError
from convscope.evaluation.metrics import Evaluation, evaluate, tta_logits
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage
from convscope.network.build import parse_network
from convscope.network.presets import resolve_architecture
from convscope.report.content import model_card, report_of
from convscope.report.figures import dataset_figure, drawn, issue_figures, layer_figures, result_figures
from convscope.report.html import render
from convscope.report.plots import learning_curves
from convscope.report.render_pool import Draw, draw_here
from convscope.runs.checkpoints import EVERY, Checkpoints
from convscope.runs.config import (
    BEST_WEIGHTS_FILE,
    CARD_FILE,
    EVALUATION_FILE,
    INITIAL_WEIGHTS_FILE,
    LAST_WEIGHTS_FILE,
    MODEL_FILE,
    PLOT_FOLDER,
    REPORT_FILE,
    DatasetInfo,
    RunConfig,
)
from convscope.runs.folder import Run, RunWriter, next_run_folder, now
from convscope.runs.metrics_log import MetricsLog
from convscope.training.autotune import TuningProbe, autotune
from convscope.training.budget import Budget, share_of
from convscope.training.flip_probe import probe_flips
from convscope.training.loop import (
    Fitted,
    State,
    Weights,
    fit,
    fitting,
    history_rows,
    logits_of,
    parts,
    stop_signals,
)
from convscope.training.recipes import Recipe, recipe_named
from convscope.training.state import Epoch, Progress

RUNS = Path("runs")
MEASURED_PIXELS = 2**28  # values whose mean and deviation are measured: all of them in a set of MNIST's kind


@dataclass(frozen=True)
class Plan:
    """Everything that is settled before step 0; `start` are the weights to begin with, where they are not random."""

    dataset: Dataset
    training: Split
    validation: Split
    config: RunConfig
    start: Weights | None = None


def plan(
    data: Dataset | str | Path,
    model: str | None = None,
    recipe: Recipe | str = "default",
    *,
    seed: int = 0,
    threads: int | None = None,
    origin: str = "",
    budget: Budget | None = None,
) -> Plan:
    """Settle data, network, preprocessing and recipe, and check that they fit each other.

    `model` is a preset or an architecture line, by default the recipe's preset (see `Recipe`); `origin` is the name or
    path that a Dataset was loaded from, so that the run can find it again. With a `budget`, training ends with it
    instead of the recipe's epochs. Raises the errors of `load_data`, `parse_network`, `recipe_named` and `share_of`.
    """
    dataset, origin = (data, origin) if isinstance(data, Dataset) else (load_data(data), str(data))
    recipe = recipe if isinstance(recipe, Recipe) else recipe_named(recipe, dataset.kind)
    model = model or _preset_that_fits(recipe.model, dataset)
    line = resolve_architecture(model)
    network = parse_network(line, dataset.shape, len(dataset.classes))
    training, validation = parts(dataset, recipe, seed)
    recipe, symmetry = _mirrored(fitting(recipe, network), origin, training, len(dataset.classes), threads)
    recipe, balance = _balanced(recipe, training)
    preprocessing = _preprocessing(dataset, training, recipe)
    keep_memory()
    settings = autotune(TuningProbe(network, training, preprocessing, recipe, seed), threads)
    machine = hardware_info(settings.threads)
    counts = len(training), len(validation), len(dataset.test)
    share = share_of(budget, network, recipe, settings.precision, *counts) if budget else None
    config = RunConfig(
        created=now(),
        dataset=_facts(dataset, origin, training, validation, recipe),
        classes=dataset.classes,
        model=model if line != model else "custom",
        architecture=line,
        input_shape=dataset.shape,
        preprocessing=preprocessing,
        recipe=recipe,
        symmetry=symmetry,
        balance=balance,
        epochs=share.epochs if share else recipe.planned_epochs(len(training)),
        budget=budget.seconds if budget else None,
        training_seconds=share.seconds if share else None,
        seed=seed,
        precision=settings.precision,
        precision_why=settings.why,
        kernels=backend.backend_name(),
        machine=machine,
    )
    return Plan(dataset, training, validation, config)


def train_model(
    data: Dataset | str | Path,
    model: str | None = None,
    recipe: Recipe | str = "default",
    *,
    seed: int = 0,
    threads: int | None = None,
    run: str | Path | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
    checkpoint_every: float = EVERY,
) -> Run:
    """Train a classifier and return its run folder: weights, model file, evaluation, pictures and report.

    `data` is a name, a path or a Dataset; `run` the folder to write (by default the next free one below `runs`);
    `watch` is called after every batch; every so many seconds a checkpoint is written, from which `resume_run` goes on.
    The same seed, threads and versions give the same weights to the bit.
    Raises ConvscopeError for anything the caller can put right.
    """
    planned = plan(data, model, recipe, seed=seed, threads=threads)
    return run_plan(planned, run, watch, checkpoint_every=checkpoint_every)


def run_plan(
    plan: Plan,
    run: str | Path | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
    draw: Draw = draw_here,
    *,
    watch_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint_every: float = EVERY,
    resumed: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Train what was planned; `draw` makes the pictures.

    `watch` is called after every batch, `watch_epoch` after every epoch.

    Ctrl-C or SIGTERM ends the training; what was learned is saved, without evaluation and report. One that comes while
    these are written lets them be finished. A second one acts at once.

    Where it is `resumed`, training goes on from the last checkpoint in the folder `run`; the reporter is told where.
    Raises UsageError where another process trains in that folder.
    """
    config = plan.config
    folder = Path(run) if run else next_run_folder(RUNS, config.dataset.name, config.model)
    with stop_signals() as stop, lock_folder(folder):
        model = build_model(config.network, config.seed)
        writer = RunWriter(folder, config, resumed)
        if plan.start is not None:
            writer.write(INITIAL_WEIGHTS_FILE, save(plan.start))
        checkpoints = Checkpoints(folder, checkpoint_every, stop, (reporter or Reporter()).message)

        with MetricsLog(writer) as metrics:

            def start(state: State) -> None:
                if plan.start is not None:
                    set_weights(state.model, plan.start)
                if resumed:
                    checkpoints.restore(state)
                metrics.start(state.fitted.history)

            def epoch_done(history: list[Epoch]) -> None:
                watch_epoch(history[-1])
                metrics.add(history[-1])

            fitted = fit(
                model, plan.training, plan.validation, config.preprocessing, config.recipe, config.seed,
                precision=config.precision, limit=config.training_seconds, before=config.before,
                after_batch=watch, after_epoch=epoch_done,
                start=start, save=checkpoints.save, stop=stop,
            )  # fmt: skip
        _write_weights(writer, config, fitted)
        if not fitted.signal:
            _write_results(writer, plan, model, fitted, draw)
        done = writer.finish(stop.number, fitted.epoch, fitted.seconds)
        if not fitted.signal:
            checkpoints.remove()
        return done


def evaluate_run(
    run: Run,
    data: str | None = None,
    reporter: Reporter | None = None,
    tta: bool | None = None,
) -> Evaluation:
    """Measure a run's model file on the test split of its own data set, or of another with the same classes.

    `tta`: also with test-time augmentation; by default where the recipe does. Images of another size are brought
    to the network's as `predict` would. Raises DataError when the classes differ.
    """
    from convscope.deploy.predictor import Predictor  # here, for training does without ONNX Runtime

    config = run.config
    source = data or config.dataset.path
    if not source:
        raise UsageError(f"{run.path} was trained on data given in memory: name a data set to evaluate on")
    options = config.dataset.load_options if data is None else LoadOptions(preprocessing=config.preprocessing)
    dataset = load_data(source, options, reporter)
    if set(dataset.classes) != set(config.classes):
        raise DataError(
            f"{dataset.name} has the classes {list_some(dataset.classes, 10)}, but the network was trained on "
            f"{list_some(config.classes, 10)}: choose data with the same classes"
        )
    if data is None and dataset.fingerprint != config.dataset.fingerprint:
        (reporter or Reporter()).message(f"{source} is no longer the data that {run.path} was trained on")
    predictor = Predictor(run.path)
    record = config.preprocessing
    chunks = dataset.test.chunks()
    if dataset.test.shape != (record.height, record.width, record.channels):
        chunks = (np.stack([record.transform(DecodedImage(image))[0] for image in images]) for images in chunks)
    order = [config.classes.index(name) for name in dataset.classes]
    labels = np.array(order)[dataset.test.labels]
    recipe = config.recipe if tta is None else config.recipe.model_copy(update={"tta": tta})
    return _measured(predictor.predict_logits, chunks, labels, config.classes, recipe)[0]


def _write_weights(writer: RunWriter, config: RunConfig, fitted: Fitted) -> None:
    """The weights of the best and of the last epoch, and the model file with the selected ones."""
    selected, other = fitted.weights, fitted.beside or fitted.weights
    best, last = (selected, other) if config.recipe.select == "best" else (other, selected)
    writer.write(BEST_WEIGHTS_FILE, save(best))
    writer.write(LAST_WEIGHTS_FILE, save(last))
    writer.write(MODEL_FILE, to_onnx(config.network, fitted.weights, config.preprocessing, config.classes))


def _write_results(writer: RunWriter, plan: Plan, model: nn.Sequential, fitted: Fitted, draw: Draw) -> None:
    """Evaluation, pictures, report and model card of a training that ran to its end."""
    config, test = plan.config, plan.dataset.test
    model.eval()
    evaluation, logits = _measured(
        lambda some: logits_of(model, some, config.preprocessing),
        test.chunks(), test.labels, config.classes, config.recipe,
    )  # fmt: skip
    writer.write_record(EVALUATION_FILE, evaluation)
    right = np.flatnonzero(logits.argmax(1) == test.labels)
    chosen = int(right[0]) if len(right) else 0
    what = f"test image {chosen}, labeled {config.classes[test.labels[chosen]]}"
    curves = partial(learning_curves, history_rows(fitted.history), fitted.epoch, config.recipe.measured_on)
    sketches = chain(
        result_figures(plan.dataset, evaluation, logits, curves),
        layer_figures(config, model, test.image(chosen), what, every_layer=False),
        issue_figures(plan.dataset),
        [dataset_figure(plan.dataset)],
    )
    pictures = []
    for name, picture in drawn(sketches, draw):
        writer.write(f"{PLOT_FOLDER}/{name}.png", picture.png)
        pictures.append(picture)
    writer.write(REPORT_FILE, render(report_of(config, evaluation, fitted, pictures, plan.dataset.issues)))
    writer.write(CARD_FILE, model_card(config, evaluation, fitted))


def _mirrored(recipe: Recipe, origin: str, training: Split, classes: int, threads: int | None) -> tuple[Recipe, str]:
    """The recipe with `auto` flips settled, and why so: known of named data, measured on others."""
    if recipe.flip != "auto":
        return recipe, ""
    if origin in NAMES:
        flips, why = origin in SETS and SETS[origin].symmetric, ""
    else:
        use_threads(threads or max_threads(), torch_works=False)
        symmetry = probe_flips(training, classes)
        flips, why = symmetry.flips, symmetry.words
    return recipe.model_copy(update={"flip": "always" if flips else "never"}), why


def _balanced(recipe: Recipe, training: Split) -> tuple[Recipe, str]:
    """The recipe, drawing rare classes more often only where classes are unequal, and why so."""
    counts = np.bincount(training.labels)
    least, most = int(counts[counts > 0].min()), int(counts.max())
    if not recipe.balance:
        return recipe, ""
    if most <= IMBALANCE_RATIO * least:
        return recipe.model_copy(update={"balance": 0}), ""
    times = (most / least) ** recipe.balance
    return recipe, f"classes of {least:,} to {most:,} images: those of the rarest are drawn {times:.1f} times as often"


def _preprocessing(dataset: Dataset, training: Split, recipe: Recipe) -> Preprocessing:
    """Mean and deviation of the training images where the recipe wants them; files are arranged as they were."""
    measure = Preprocessing.standardized if recipe.standardize else Preprocessing.plain
    preprocessing = measure(training.subsample(MEASURED_PIXELS // training.store[0].size).images)
    if not dataset.preprocessing:
        return preprocessing
    return preprocessing.model_copy(update=dataset.preprocessing.model_dump(include={"fit", "fill", "polarity"}))


def _preset_that_fits(preset: str, dataset: Dataset) -> str:
    """The preset, or `small` where the images are too small for it."""
    try:
        parse_network(resolve_architecture(preset), dataset.shape, len(dataset.classes))
    except ArchitectureError:
        return "small"
    return preset


def _measured(
    scores: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    chunks: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    recipe: Recipe,
) -> tuple[Evaluation, NDArray[np.float32]]:
    """The evaluation, and the scores of one forward pass per image."""
    plain, augmented = [], []
    for images in chunks:
        plain.append(scores(images))
        if recipe.tta:
            augmented.append(tta_logits(scores, images, recipe.flip == "always"))
    logits = np.concatenate(plain)
    return evaluate(logits, labels, classes, np.concatenate(augmented) if augmented else None), logits


def _facts(dataset: Dataset, origin: str, training: Split, validation: Split, recipe: Recipe) -> DatasetInfo:
    path = origin if origin in NAMES or not origin else str(Path(origin).resolve())
    return DatasetInfo(
        name=dataset.name,
        path=path,
        source=dataset.source,
        load_options=dataset.load_options,
        fingerprint=dataset.fingerprint,
        train_images=len(training),
        validation_images=0 if recipe.validates_on_test else len(validation),
        test_images=len(dataset.test),
    )
