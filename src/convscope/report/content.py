"""The texts and numbers of a run, for its report and its model card."""

from __future__ import annotations

from collections.abc import Iterable

from convscope._text import duration, list_some, percent, pluralize
from convscope.data.audit.issue import Issue
from convscope.evaluation.metrics import Evaluation
from convscope.network.layers.base import shape_text
from convscope.report.html import Details, Figure, LayerRow, Report
from convscope.runs.config import RunConfig
from convscope.training.augmentation import describe_augmentation
from convscope.training.callbacks import TrainResult

MAX_CLASSES = 100  # that are named
OPTIMIZER_NAMES = {"sgd": "SGD", "muon": "Muon"}
REASON_TITLES = {
    "horizontal_flip": "Flips", "class_balance": "Class balance", "precision": "Precision", "target_accuracy": "Target",
    "budget": "Time", "image_size": "Input size", "init": "Start",
}  # fmt: skip


def make_report(
    config: RunConfig,
    evaluation: Evaluation,
    result: TrainResult,
    figures: Iterable[Figure],
    issues: tuple[Issue, ...] = (),
) -> Report:
    """Collect the contents of the report page.

    Args:
        config: Of the run.
        evaluation: On the test split.
        result: Of training.
        figures: Rendered.
        issues: Of the data set.
    """
    return Report(
        title=f"{config.model} on {config.dataset.name}",
        accuracy=evaluation.accuracy,
        interval=evaluation.interval,
        n=evaluation.n,
        top_k=evaluation.top_k,
        summary=(
            ("Test loss", f"{evaluation.loss:.4f}"),
            *((("With test-time augmentation", evaluation.tta.text),) if evaluation.tta else ()),
            *((name, f"{value:.4g}") for name, value in evaluation.metrics.items()),
            ("Parameters", f"{config.network.parameters:,}"),
            ("Training time", f"{duration(result.seconds)} for {pluralize(len(result.history), 'epoch')}"),
        ),
        notes=notes(config, result.epoch),
        per_class=evaluation.per_class,
        confidence=confidence_details(config, evaluation),
        answers=evaluation.answers,
        layers=tuple(
            LayerRow(layer.source, layer.output_shape, layer.parameters, layer.multiply_adds, layer.activation_bytes)
            for layer in config.network.layers
        ),
        dataset=dataset_details(config),
        preprocessing=preprocessing_details(config),
        recipe=(*backbone_details(config), *recipe_details(config)),
        machine=machine_details(config),
        figures=tuple(figures),
        issues=issues,
    )


def notes(config: RunConfig, selected_epoch: int) -> tuple[str, ...]:
    """How the accuracy was measured, and what selected the weights."""
    if config.recipe.validates_on_test:
        return (
            "As in the article, the validation curves show the test set. It did not influence the weights: they are "
            f"those of the last epoch, {selected_epoch}.",
        )
    if config.init and not selected_epoch:
        return (_frozen_note(config),)
    best = config.recipe.selection.weights == "best"
    reason = "which has the best validation accuracy" if best else "the last one"
    images = f"{config.dataset.validation_images:,} validation images"
    return (
        f"The weights are those of epoch {selected_epoch}, {reason}. The {images} are not part of the training set. "
        "The test set was used once, for the numbers on this page.",
    )


def _frozen_note(config: RunConfig) -> str:
    """Says that only the classifier was trained, or that training more did not help."""
    images = f"{config.dataset.validation_images:,} validation images"
    tried = config.init is not None and config.init.cut is not None
    first = (
        "that this training began with"
        if config.initial_epoch
        else "of the backbone, with a classifier fitted on its features"
    )
    reason = f", as training more layers was not clearly better on the {images}" if tried else ""
    return f"The weights are those {first}{reason}. The test set was used once, for the numbers on this page."


def backbone_details(config: RunConfig) -> Details:
    """The backbone of a run, its license and training data, and how it did on the validation images."""
    init = config.init
    if init is None:
        return ()
    origin, images = init.backbone.provenance, f"{config.dataset.validation_images:,} validation images"
    trained = "the classifier alone"
    if init.cut == 0:
        trained = "all layers"
    elif init.cut:
        trained = f"the classifier, and the layers behind {config.network.layers[init.cut - 1].name}"
    race: Details = ()
    if init.race:
        scratch = f"{percent(init.race.accuracy)} after {duration(init.race.seconds)}"
        race = (("From scratch", f"{scratch}, in a race on the validation images"),)
    return (
        ("Backbone", f"{init.backbone.name}, trained on {origin.training_data}"),
        ("Weights from", f"{origin.source}; license {origin.license or 'unknown'}; SHA-256 {origin.sha256}"),
        ("Trained here", trained),
        ("Features as published", f"{percent(init.score.accuracy)} of {images} with a new classifier"),
        *race,
        ("Views of each image", str(init.views)),
    )


def confidence_details(config: RunConfig, evaluation: Evaluation) -> Details:
    """Calibration error, and how it was measured."""
    calibration = evaluation.calibration
    if calibration is None:
        return ()
    fitted = "no images were held out to calibrate on: probabilities are those of the network"
    if config.dataset.validation_images:
        images = f"{config.dataset.validation_images:,} validation images"
        fitted = f"calibrated on {images}, by temperature scaling (Guo et al., 2017)"
    return (
        ("Mean confidence", percent(calibration.mean_confidence)),
        ("Expected calibration error", calibration.text),
        ("Probabilities", fitted),
    )


def dataset_details(config: RunConfig) -> Details:
    """Name, origin, sizes and fingerprint of the data."""
    data = config.dataset
    return (
        ("Data set", data.name),
        ("Source", data.source),
        ("Images", data.split_sizes),
        ("Classes", f"{len(config.classes)}: {list_some(config.classes, MAX_CLASSES)}"),
        ("Image shape", f"{shape_text(config.input_shape)} (height, width, channels)"),
        ("Fingerprint", data.fingerprint),
    )


def preprocessing_details(config: RunConfig) -> Details:
    """Size and scale of the network's input."""
    record, frame = config.preprocessing, config.preprocessing.frame
    framed = (("Frame", f"ink of {frame.side} pixels, centered by mass"),) if frame else ()
    return (
        ("Size", f"{record.height}x{record.width}, {record.fit}"),
        ("Background", record.polarity),
        *framed,
        ("Scale", ", ".join(f"{value:.6g}" for value in record.scale)),
        ("Mean", ", ".join(f"{value:.6g}" for value in record.mean)),
    )


def recipe_details(config: RunConfig) -> Details:
    """Optimizer, augmentation and epochs, and the reasons for automatic choices."""
    recipe, optimizer = config.recipe, config.recipe.optimizer
    momentum = f"{'Nesterov ' if optimizer.nesterov else ''}momentum {optimizer.momentum:g}"
    rate = f"learning rate {optimizer.learning_rate:g} ({recipe.schedule.name})"
    budget = (("Budget", f"{duration(config.budget)} for the whole command"),) if config.budget else ()
    prefix = {"precision": f"{config.precision}: "}
    reasons = ((REASON_TITLES[field], prefix.get(field, "") + reason) for field, reason in config.reasons.items())
    own = [f"{config.augment} (the user's own)"] if config.augment else []
    return (
        ("Recipe", recipe.name),
        ("Optimizer", f"{OPTIMIZER_NAMES[optimizer.name]}, {rate}, {momentum}"),
        ("Weight decay", f"{optimizer.weight_decay:g}"),
        ("Label smoothing", f"{recipe.label_smoothing:g}"),
        ("Batch size", str(recipe.batch_size)),
        ("Epochs", str(config.epochs)),
        ("Augmentation", ", ".join([*describe_augmentation(recipe), *own]) or "none"),
        *budget,
        *reasons,
        ("Seed", str(config.seed)),
    )


def machine_details(config: RunConfig) -> Details:
    """Hardware, versions and date."""
    machine = config.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        ("Processor", machine.summary),
        ("System", f"{machine.system}, Python {machine.python}"),
        ("Versions", versions),
        ("Trained", f"{config.created:%Y-%m-%d %H:%M} UTC"),
    )
