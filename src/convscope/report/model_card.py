"""The model card of a run, its README.md."""

from __future__ import annotations

from convscope.evaluation.metrics import Evaluation
from convscope.report.content import dataset_details, machine_details, notes, recipe_details
from convscope.runs.config import RunConfig
from convscope.training.callbacks import TrainResult


def model_card(config: RunConfig, evaluation: Evaluation, result: TrainResult) -> str:
    """Write the model card in Markdown.

    Args:
        config: Of the run.
        evaluation: On the test split.
        result: Of training.
    """
    details = "\n".join(
        f"- {term}: {value}"
        for term, value in (*dataset_details(config), *recipe_details(config), *machine_details(config))
    )
    tta = f"\nWith test-time augmentation: {evaluation.tta.text}." if evaluation.tta else ""
    remarks = "\n".join(notes(config, result.epoch))
    return f"""# {config.model} on {config.dataset.name}

Test accuracy {evaluation.accuracy_text}, test loss {evaluation.loss:.4f}.{tta}

{remarks}

    {config.architecture}

{details}

To classify an image: `convscope predict FOLDER IMAGE`, where FOLDER is this folder. `model.onnx` alone is sufficient.
The model is meant for images like those that it was trained on; on others its probabilities are meaningless.
"""
