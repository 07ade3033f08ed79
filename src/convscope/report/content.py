"""A run in words: the facts of its report and of its model card."""

from __future__ import annotations

from collections.abc import Iterable

from convscope._text import duration, pluralize
from convscope.data.audit.issue import Issue
from convscope.evaluation.metrics import Evaluation
from convscope.network.layers.base import shape_text
from convscope.report.html import LayerRow, Picture, Report
from convscope.runs.config import RunConfig
from convscope.training.augmentation import describe
from convscope.training.callbacks import TrainResult

Facts = tuple[tuple[str, str], ...]


def report_of(
    config: RunConfig,
    evaluation: Evaluation,
    result: TrainResult,
    pictures: Iterable[Picture],
    issues: tuple[Issue, ...] = (),
) -> Report:
    """All that the report page says about a finished run."""
    return Report(
        title=f"{config.model} on {config.dataset.name}",
        accuracy=evaluation.accuracy,
        interval=evaluation.interval,
        n=evaluation.n,
        top_k=evaluation.top_k,
        summary=(
            ("Test loss", f"{evaluation.loss:.4f}"),
            *((("With test-time augmentation", evaluation.tta.text),) if evaluation.tta else ()),
            ("Parameters", f"{config.network.parameters:,}"),
            ("Training time", f"{result.seconds:.1f} s for {pluralize(len(result.history), 'epoch')}"),
        ),
        notes=notes(config, result.epoch),
        per_class=evaluation.per_class,
        layers=tuple(
            LayerRow(layer.source, layer.output_shape, layer.parameters, layer.multiply_adds, layer.activation_bytes)
            for layer in config.network.layers
        ),
        dataset=_dataset(config),
        preprocessing=_preprocessing(config),
        recipe=_recipe(config),
        machine=_machine(config),
        pictures=tuple(pictures),
        issues=issues,
    )


def notes(config: RunConfig, selected_epoch: int) -> tuple[str, ...]:
    """What a reader must know to trust the number."""
    if config.recipe.validates_on_test:
        return (
            "As in the article, the curves called validation are drawn on the test set; nothing was selected with "
            f"them: the weights are those of the last epoch, number {selected_epoch}.",
        )
    chosen = "with the best validation accuracy" if config.recipe.selection.weights == "best" else "that came last"
    return (
        f"The weights are those of epoch {selected_epoch}, the one {chosen}. The "
        f"{config.dataset.validation_images:,} validation images were held out of the training set; the test set was "
        "used once, for the numbers on this page.",
    )


def model_card(config: RunConfig, evaluation: Evaluation, result: TrainResult) -> str:
    """The run's README.md."""
    facts = (*_dataset(config), *_recipe(config), *_machine(config))
    listed = "\n".join(f"- {term}: {value}" for term, value in facts)
    augmented = f"\nBeside it: {evaluation.tta.text} with test-time augmentation." if evaluation.tta else ""
    remarks = "\n".join(notes(config, result.epoch))
    return f"""# {config.model} on {config.dataset.name}

Test accuracy {evaluation.accuracy_text}, test loss {evaluation.loss:.4f}.{augmented}

{remarks}

    {config.architecture}

{listed}

Use it: `convscope predict FOLDER PICTURE`, where FOLDER is this folder. `model.onnx` alone is enough for that.
Meant for pictures like those it was trained on; on anything else its probabilities mean nothing.
"""


def _dataset(config: RunConfig) -> Facts:
    data = config.dataset
    return (
        ("Data set", data.name),
        ("Read from", data.source),
        ("Images", data.counts),
        ("Classes", str(len(config.classes))),
        ("Image shape", f"{shape_text(config.input_shape)} (height, width, channels)"),
        ("Fingerprint", data.fingerprint),
    )


def _preprocessing(config: RunConfig) -> Facts:
    record = config.preprocessing
    return (
        ("Size", f"{record.height}x{record.width}, {record.fit}"),
        ("Background", record.polarity),
        ("Scale", ", ".join(f"{value:.6g}" for value in record.scale)),
        ("Mean", ", ".join(f"{value:.6g}" for value in record.mean)),
    )


def _recipe(config: RunConfig) -> Facts:
    recipe, optimizer = config.recipe, config.recipe.optimizer
    name = {"sgd": "SGD", "muon": "Muon"}[optimizer.name]
    momentum = f"{'Nesterov ' if optimizer.nesterov else ''}momentum {optimizer.momentum:g}"
    budget = (("Budget", f"{duration(config.budget)} for the whole command"),) if config.budget else ()
    titles = {"horizontal_flip": "Flips", "class_balance": "Class balance", "precision": "Precision"}
    prefix = {"precision": f"{config.precision}: "}
    reasons = ((titles[field], prefix.get(field, "") + reason) for field, reason in config.reasons.items())
    return (
        ("Recipe", recipe.name),
        ("Optimizer", f"{name}, learning rate {optimizer.learning_rate:g} ({recipe.schedule.name}), {momentum}"),
        ("Weight decay", f"{optimizer.weight_decay:g}"),
        ("Label smoothing", f"{recipe.label_smoothing:g}"),
        ("Batch size", str(recipe.batch_size)),
        ("Epochs", str(config.epochs)),
        ("Augmentation", ", ".join(describe(recipe)) or "none"),
        *budget,
        *reasons,
        ("Seed", str(config.seed)),
    )


def _machine(config: RunConfig) -> Facts:
    machine = config.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        ("HardwareInfo", machine.summary),
        ("System", f"{machine.system}, Python {machine.python}"),
        ("Versions", versions),
        ("Trained", f"{config.created:%Y-%m-%d %H:%M} UTC"),
    )
