"""The model card of a run, its README.md."""

from __future__ import annotations

import json

from convscope.evaluation.metrics import Evaluation
from convscope.report.content import backbone_details, dataset_details, machine_details, notes, recipe_details
from convscope.runs.config import RunConfig
from convscope.training.callbacks import TrainResult


def model_card(config: RunConfig, evaluation: Evaluation, result: TrainResult) -> str:
    """Write the model card in Markdown, with the front matter of Hugging Face.

    Args:
        config: Of the run.
        evaluation: On the test split.
        result: Of training.
    """
    details = "\n".join(
        f"- {term}: {value}"
        for term, value in (
            *dataset_details(config),
            *backbone_details(config),
            *recipe_details(config),
            *machine_details(config),
        )
    )
    tta = f"\nWith test-time augmentation: {evaluation.tta.text}." if evaluation.tta else ""
    remarks = "\n".join(notes(config, result.epoch))
    return f"""{_front_matter(config, evaluation)}
# {config.model} on {config.dataset.name}

Test accuracy {evaluation.accuracy_text}, test loss {evaluation.loss:.4f}.{tta}

{remarks}

    {config.architecture}

{details}

To classify an image: `convscope predict model.onnx IMAGE`. The file also runs in other ONNX runtimes.
The model is meant for images like those that it was trained on; on others its probabilities are meaningless.
"""


def _front_matter(config: RunConfig, evaluation: Evaluation) -> str:
    """What a hub needs to know, as YAML: https://huggingface.co/docs/hub/model-cards. JSON's strings are YAML's."""
    texts = f"{config.model} on {config.dataset.name}", config.dataset.name
    name, dataset = (json.dumps(text, ensure_ascii=False) for text in texts)
    return f"""---
library_name: onnx
pipeline_tag: image-classification
tags: [image-classification, onnx, convscope]
metrics: [accuracy]
model-index:
- name: {name}
  results:
  - task: {{type: image-classification}}
    dataset: {{name: {dataset}, type: {dataset}, split: test}}
    metrics:
    - {{type: accuracy, value: {evaluation.accuracy:.4f}}}
---
"""
