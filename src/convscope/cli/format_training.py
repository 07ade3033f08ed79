"""Text for `convscope train`: the plan before training, the result after it."""

from __future__ import annotations

from convscope._text import duration, percent, pluralize
from convscope.cli.console import aligned, short_number
from convscope.network.layers.base import shape_text
from convscope.runs.config import REPORT_FILE, RunConfig
from convscope.runs.folder import Run


def plan_lines(config: RunConfig) -> list[str]:
    """What is about to be trained: data, network, recipe, machine, and what was decided for them."""
    network, recipe = config.network, config.recipe
    reasons = dict(config.reasons)
    why = f": {reasons.pop('precision')}" if "precision" in reasons else ""
    return [
        f"{config.dataset.name}: {config.dataset.split_sizes}, {shape_text(config.input_shape)}, "
        f"{len(config.classes)} classes",
        *_backbone(config),
        f"{config.model}: {network.parameters:,} parameters, "
        f"{short_number(network.multiply_adds)} multiply-adds per image",
        f"recipe {recipe.name}: {_epochs(config)}, "
        f"batch size {recipe.batch_size}, seed {config.seed}, "
        f"on {config.machine.threads} of {config.machine.cores} cores",
        f"in {config.precision}{why}; kernels: {config.backend}",
        *reasons.values(),
    ]


def run_lines(run: Run) -> list[str]:
    """The result of a finished training, and where it is."""
    evaluation = run.evaluation
    assert evaluation is not None
    pairs = {"test accuracy": evaluation.accuracy_text}
    if evaluation.tta:
        pairs[""] = f"{evaluation.tta.text} with test-time augmentation"
    pairs |= _stopping(run)
    pairs["test loss"] = f"{evaluation.loss:.4f}"
    if evaluation.calibration:
        pairs["calibration"] = f"error {evaluation.calibration.text}"
    if evaluation.answers:
        pairs["answers"] = ", ".join(f"{percent(one.answered, 1)} of {one.images}" for one in evaluation.answers)
    pairs |= {
        "training": f"{duration(run.manifest.train_seconds)} on {run.config.machine.summary}",
        "run": str(run.path),
        "report": str(run.path / REPORT_FILE),
        "next": f"convscope predict {run.path} IMAGE",
    }
    return aligned(pairs)


def _backbone(config: RunConfig) -> list[str]:
    init = config.init
    if init is None:
        return []
    known = f"{percent(init.score.accuracy)} of {config.dataset.validation_images:,} validation images"
    return [
        f"from {init.backbone.name}, trained on {init.backbone.provenance.training_data}: with a classifier, {known}"
    ]


def _epochs(config: RunConfig) -> str:
    if config.init and not config.epochs:
        return "the classifier alone"
    epochs = pluralize(config.epochs, "epoch")
    return f"about {epochs}, done within {duration(config.budget)}" if config.budget else epochs


def _stopping(run: Run) -> dict[str, str]:
    """Whether and when a target or the patience ended training."""
    stopping = run.config.recipe.stopping
    if stopping.target_accuracy is not None:
        outcome = (
            f"not reached in {pluralize(len(run.history), 'epoch')}"
            if run.missed_target
            else f"reached in {len(run.history)} of {pluralize(run.config.epochs, 'epoch')}"
        )
        return {"target": f"{100 * stopping.target_accuracy:g} % {outcome}"}
    if stopping.patience is not None:
        return {"epochs": f"{len(run.history)} of {run.config.epochs}; epoch {_best_epoch(run)} was best"}
    return {}


def _best_epoch(run: Run) -> int:
    """The epoch with the best validation accuracy; the latest of equals."""
    best = max(run.history, key=lambda row: (row["validation_accuracy"], row["epoch"]))
    return int(best["epoch"])
