"""The model card of a run, its README.md."""

from __future__ import annotations

import json
from pathlib import PurePosixPath, PureWindowsPath

from convscope._text import percent
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
            *dataset_details(_without_path(config)),
            *backbone_details(config),
            *recipe_details(config),
            *machine_details(config),
        )
    )
    tta = f"\nWith test-time augmentation: {evaluation.tta.text}." if evaluation.tta else ""
    remarks = "\n".join((*notes(config, result.epoch), *_confidence(evaluation)))
    return f"""{_front_matter(config, evaluation)}
# {config.model} on {config.dataset.name}

Test accuracy {evaluation.accuracy_text}, test loss {evaluation.loss:.4f}.{tta}

{remarks}

    {config.architecture}

{details}

To classify an image: `convscope predict model.onnx IMAGE`, or in Python

    from convscope import Predictor

    (prediction,) = Predictor("model.onnx").predict("image.png")
    print(prediction.label, prediction.probability, prediction.status)

The file also runs in other ONNX runtimes. The model is meant for images like those that it was trained on. It refuses
many others, whose `status` is "unlike"; where it does not, its probabilities mean nothing.
"""


def _without_path(config: RunConfig) -> RunConfig:
    """The record with only the last part of a path that the data came from: a card is published."""
    path, *rest = config.dataset.source.split("; ")
    if any(kind(path).is_absolute() for kind in (PurePosixPath, PureWindowsPath)):
        path = (PureWindowsPath if "\\" in path else PurePosixPath)(path).name
    dataset = config.dataset.model_copy(update={"source": "; ".join((path, *rest))})
    return config.model_copy(update={"dataset": dataset})


def _confidence(evaluation: Evaluation) -> list[str]:
    """How far probabilities can be trusted, and how often the model answers."""
    lines = []
    if evaluation.calibration:
        lines.append(f"Expected calibration error {evaluation.calibration.text}.")
    for own in evaluation.answers[:1]:
        doubts = f'{percent(own.unsure)} are "unsure", {percent(own.unlike)} "unlike" the training images'
        lines.append(f"It answers {percent(own.answered)} of the test images; {doubts}.")
    return lines


def _front_matter(config: RunConfig, evaluation: Evaluation) -> str:
    """What a hub needs to know, as YAML: https://huggingface.co/docs/hub/model-cards. JSON's strings are YAML's."""
    texts = f"{config.model} on {config.dataset.name}", config.dataset.name
    name, dataset = (json.dumps(text, ensure_ascii=False) for text in texts)
    return f"""---
library_name: onnx
pipeline_tag: image-classification
# license: choose the one under which you publish the model, such as mit
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
