"""The pictures of a run and of one image's way through it, each with the sentence that explains it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from convscope import plots
from convscope.data import Dataset
from convscope.evaluate import Evaluation
from convscope.explain import Step, attribution, trace
from convscope.layers import Activation, Conv, Dropout, Flatten, shape_text
from convscope.report import Picture, Section
from convscope.runs import Config

Named = tuple[str, Picture]  # the file name without its ending, and the picture


def data_picture(dataset: Dataset) -> Named:
    """The first nine training images (A10)."""
    return "first-nine", Picture(
        Section.HOW_MADE,
        "The first nine training images",
        "What the network is given to learn from, with the class each image belongs to.",
        f"Nine training images of {dataset.name} with their class names",
        plots.png(plots.first_nine(dataset.train.images, dataset.train.labels, dataset.classes)),
    )


def result_pictures(
    dataset: Dataset, evaluation: Evaluation, logits: NDArray[np.float32], learning: Figure
) -> Iterator[Named]:
    """How good the classifier is, where it fails, and how it learned; `learning` are its learning curves."""
    yield (
        "confusion-matrix",
        Picture(
            Section.WHERE_IT_FAILS,
            "Confusion matrix",
            "Each row is a true class and each column what the network said; everything off the diagonal is a mistake.",
            "Matrix of true against predicted classes",
            plots.png(plots.confusion_matrix(evaluation.confusion, dataset.classes)),
        ),
    )
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    test = dataset.test
    yield (
        "worst-mistakes",
        Picture(
            Section.WHERE_IT_FAILS,
            "Worst mistakes",
            "The test images whose true class seemed least likely to the network; some would puzzle a person too.",
            "Wrongly classified test images with their true and predicted classes",
            plots.png(plots.worst_mistakes(test.images, test.labels, probabilities, dataset.classes)),
        ),
    )
    yield (
        "learning-curves",
        Picture(
            Section.HOW_IT_LEARNED,
            "Learning curves",
            "Loss should fall and accuracy rise; where only the training curve improves, the network learns by heart.",
            "Loss and accuracy after every epoch",
            plots.png(learning),
        ),
    )


def inside_pictures(
    config: Config, model: nn.Sequential, pixels: NDArray[np.uint8], what: str, *, every_layer: bool
) -> Iterator[Named]:
    """What the network's layers make of one image, uint8 (h, w, c), called `what` in the texts.

    With `every_layer` False, the layers whose output is a mere reordering or copy are left out.
    """
    image = config.preprocessing.normalise(pixels[None])[0]
    steps = trace(model, config.network, image)
    probabilities = steps["softmax"].output
    first = next((step for step in steps.values() if isinstance(step.layer, Conv)), None)
    if first is not None:
        yield "filters", _filters(first)
    yield "attribution", _attribution(config, model, image, pixels, int(probabilities.argmax()), what)
    for step in steps.values():
        if isinstance(step.layer, Activation) and step.layer.function == "relu" and step.output.ndim == 3:
            yield "relu", _relu(step)
            break
    for number, (name, step) in enumerate(steps.items(), 1):
        if name == "softmax":
            break
        if every_layer or not isinstance(step.layer, Flatten | Dropout):
            yield f"layer-{number:02d}-{name.replace('.', '-')}", _maps(name, step, what)
        if isinstance(step.layer, Flatten):
            yield "flatten", _flatten(step)
    yield (
        "probabilities",
        Picture(
            Section.WHAT_IT_SEES,
            "Softmax: the probabilities",
            f"The last layer turns scores into probabilities that sum to one: the answer for {what}.",
            "Bars of the most probable classes",
            plots.png(plots.class_probabilities(probabilities, config.classes)),
        ),
    )


def _filters(step: Step) -> Picture:
    kernels = step.weights["weight"].transpose(2, 3, 1, 0)
    return Picture(
        Section.WHAT_IT_SEES,
        "The filters of the first layer",
        "Each small square is one feature detector that training found; it answers where the image looks like it.",
        f"{kernels.shape[-1]} learned kernels of {kernels.shape[0]}x{kernels.shape[1]}",
        plots.png(plots.filters(kernels)),
    )


def _attribution(
    config: Config, model: nn.Sequential, image: NDArray[np.float32], pixels: NDArray[np.uint8], target: int, what: str
) -> Picture:
    return Picture(
        Section.WHAT_IT_SEES,
        f"Which pixels spoke for {config.classes[target]}",
        "Integrated gradients (Sundararajan et al., 2017): one colour for pixels that spoke for the answer, "
        "the other for those that spoke against it.",
        f"{what} beside a heat map of the pixels that mattered",
        plots.png(plots.attribution(pixels, attribution(model, image, target))),
    )


def _relu(step: Step) -> Picture:
    channel = int(np.ptp(step.input, axis=(0, 1)).argmax())
    return Picture(
        Section.WHAT_IT_SEES,
        "Before and after ReLU",
        "ReLU keeps what is positive and sets the rest to zero; without it, layers in a row would be one linear layer.",
        "One feature map before and after ReLU",
        plots.png(
            plots.before_after(
                step.input[:, :, channel], step.output[:, :, channel], (f"channel {channel} before", "after ReLU")
            )
        ),
    )


def _maps(name: str, step: Step, what: str) -> Picture:
    shape = shape_text(step.output.shape)
    return Picture(
        Section.WHAT_IT_SEES,
        f"{name}: {step.layer.words}",
        f"What this layer makes of {what}: {shape} numbers.",
        f"Feature maps of layer {name}, {shape}",
        plots.png(plots.feature_maps(f"{name}: {step.layer.words}", step.output)),
    )


def _flatten(step: Step) -> Picture:
    return Picture(
        Section.WHAT_IT_SEES,
        "Flatten: maps become one vector",
        "Row by row, column by column, the values of all channels at one place follow each other.",
        "Cells of the feature maps and the entries of the vector they become",
        plots.png(plots.flatten_view(step.input)),
    )
