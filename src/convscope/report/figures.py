"""The pictures of a run and of one image's way through it, each with the sentence that explains it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from convscope.data.dataset import Dataset
from convscope.evaluation.explain import LayerTrace, integrated_gradients, trace
from convscope.evaluation.metrics import Evaluation
from convscope.network.layers.base import shape_text
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Flatten
from convscope.network.layers.elementwise import Activation, Dropout
from convscope.reference import softmax
from convscope.report import plots
from convscope.report.html import Picture, Section
from convscope.report.render_pool import Draw, Drawing, draw_here
from convscope.runs.config import RunConfig

MISTAKES = 16  # that are shown
FOUND = 16  # pictures of a issue


class Sketch(NamedTuple):
    """A picture that is not drawn yet; `name` is its file name without the ending, the texts are those of `Picture`."""

    name: str
    section: Section
    heading: str
    explanation: str
    alt: str
    drawing: Drawing


def drawn(sketches: Iterable[Sketch], draw: Draw = draw_here) -> Iterator[tuple[str, Picture]]:
    """The pictures with their names; helpers draw while later sketches are made and earlier pictures are used."""
    made: deque[Sketch] = deque()

    def drawings() -> Iterator[Drawing]:
        for sketch in sketches:
            made.append(sketch)
            yield sketch.drawing

    for png in draw(drawings()):
        name, section, heading, explanation, alt, _ = made.popleft()
        yield name, Picture(section, heading, explanation, alt, png)


def dataset_figure(dataset: Dataset) -> Sketch:
    """The first nine training images (A10); nine from all over, where a set is sorted by class."""
    first = dataset.train.take(np.arange(min(9, len(dataset.train))))
    nine = dataset.train.subsample(9) if dataset.preprocessing else first
    return Sketch(
        "first-nine",
        Section.HOW_MADE,
        "Nine training images, as the network sees them" if dataset.preprocessing else "The first nine training images",
        "What the network is given to learn from, with the class each image belongs to.",
        f"Nine training images of {dataset.name} with their class names",
        partial(plots.first_nine, nine.images, nine.labels, dataset.classes),
    )


def issue_figures(dataset: Dataset) -> Iterator[Sketch]:
    """The pictures that the check warns of, and those that are nearly the same."""
    for issue in dataset.issues:
        numbers = list(chain.from_iterable(issue.rows))[:FOUND]
        if not numbers or (issue.level == "note" and issue.kind != "near-duplicate"):
            continue
        names = list(chain.from_iterable(issue.files))[:FOUND]
        more = sum(map(len, issue.rows)) - len(numbers)
        done = f"{issue.action[:1].upper()}{issue.action[1:]}"
        yield Sketch(
            f"found-{issue.kind}",
            Section.IN_THE_DATA,
            issue.text,
            f"{done}{f'; {more:,} more are not shown' if more else ''}.",
            f"{len(numbers)} pictures with their file names",
            partial(plots.issue_images, issue.text, dataset.train.store[numbers], names),
        )


def result_figures(
    dataset: Dataset, evaluation: Evaluation, logits: NDArray[np.float32], learning: Drawing
) -> Iterator[Sketch]:
    """How good the classifier is, where it fails, and how it learned; `learning` are its learning curves."""
    yield Sketch(
        "confusion-matrix",
        Section.WHERE_IT_FAILS,
        "Confusion matrix",
        "Each row is a true class and each column what the network said; everything off the diagonal is a mistake.",
        "Matrix of true against predicted classes",
        partial(plots.confusion_matrix, evaluation.confusion, dataset.classes),
    )
    yield Sketch(
        "worst-mistakes",
        Section.WHERE_IT_FAILS,
        "Worst mistakes",
        "The test images whose true class seemed least likely to the network; some would puzzle a person too.",
        "Wrongly classified test images with their true and predicted classes",
        _worst_mistakes(dataset, logits),
    )
    yield Sketch(
        "learning-curves",
        Section.HOW_IT_LEARNED,
        "Learning curves",
        "Loss should fall and accuracy rise; where only the training curve improves, the network learns by heart.",
        "Loss and accuracy after every epoch",
        learning,
    )


def layer_figures(
    config: RunConfig, model: nn.Sequential, pixels: NDArray[np.uint8], what: str, *, every_layer: bool
) -> Iterator[Sketch]:
    """What the network's layers make of one image, uint8 (h, w, c), called `what` in the texts.

    With `every_layer` False, the layers whose output is a mere reordering or copy are left out.
    """
    image = config.preprocessing.normalize(pixels[None])[0]
    traces = trace(model, config.network, image)
    probabilities = traces["softmax"].output
    first = next((traced for traced in traces.values() if isinstance(traced.layer, Conv)), None)
    if first is not None:
        yield _filters(first)
    yield _attribution(config, model, image, pixels, int(probabilities.argmax()), what)
    for traced in traces.values():
        if isinstance(traced.layer, Activation) and traced.layer.kind == "relu" and traced.output.ndim == 3:
            yield _relu(traced)
            break
    for number, (name, traced) in enumerate(traces.items(), 1):
        if name == "softmax":
            break
        if every_layer or not isinstance(traced.layer, Flatten | Dropout):
            yield _maps(number, name, traced, what)
        if isinstance(traced.layer, Flatten):
            yield _flatten(traced)
    yield Sketch(
        "probabilities",
        Section.WHAT_IT_SEES,
        "Softmax: the probabilities",
        f"The last layer turns scores into probabilities that sum to one: the answer for {what}.",
        "Bars of the most probable classes",
        partial(plots.class_probabilities, probabilities, config.classes),
    )


def _worst_mistakes(dataset: Dataset, logits: NDArray[np.float32]) -> Drawing:
    """Of the test images that got a wrong answer, those with the highest loss."""
    test, labels = dataset.test, dataset.test.labels
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    probabilities = softmax(logits[wrong])
    of_truth = probabilities[np.arange(len(wrong)), labels[wrong]]  # the loss is -log of this
    order = np.argsort(of_truth, kind="stable")[:MISTAKES]
    worst = wrong[order]
    rows = test.indices(worst)
    return partial(
        plots.worst_mistakes,
        test.store[rows], labels[worst], probabilities[order], dataset.classes, len(wrong), len(labels),
        [Path(dataset.files[row]).name for row in rows] if dataset.files else (),
    )  # fmt: skip


def _filters(traced: LayerTrace) -> Sketch:
    kernels = traced.weights["weight"].transpose(2, 3, 1, 0)
    return Sketch(
        "filters",
        Section.WHAT_IT_SEES,
        "The filters of the first layer",
        "Each small square is one feature detector that training found; it answers where the image looks like it.",
        f"{kernels.shape[-1]} learned kernels of {kernels.shape[0]}x{kernels.shape[1]}",
        partial(plots.filters, kernels),
    )


def _attribution(
    config: RunConfig,
    model: nn.Sequential,
    image: NDArray[np.float32],
    pixels: NDArray[np.uint8],
    target: int,
    what: str,
) -> Sketch:
    return Sketch(
        "attribution",
        Section.WHAT_IT_SEES,
        f"Which pixels spoke for {config.classes[target]}",
        "Integrated gradients (Sundararajan et al., 2017): one color for pixels that spoke for the answer, "
        "the other for those that spoke against it.",
        f"{what} beside a heat map of the pixels that mattered",
        partial(plots.attribution, pixels, integrated_gradients(model, image, target)),
    )


def _relu(traced: LayerTrace) -> Sketch:
    channel = int(np.ptp(traced.input, axis=(0, 1)).argmax())
    before, after = traced.input[:, :, channel], traced.output[:, :, channel]
    return Sketch(
        "relu",
        Section.WHAT_IT_SEES,
        "Before and after ReLU",
        "ReLU keeps what is positive and sets the rest to zero; without it, layers in a row would be one linear layer.",
        "One feature map before and after ReLU",
        partial(plots.before_after, before, after, (f"channel {channel} before", "after ReLU")),
    )


def _maps(number: int, name: str, traced: LayerTrace, what: str) -> Sketch:
    shape = shape_text(traced.output.shape)
    heading = f"{name}: {traced.layer.source}"
    return Sketch(
        f"layer-{number:02d}-{name.replace('.', '-')}",
        Section.WHAT_IT_SEES,
        heading,
        f"What this layer makes of {what}: {shape} numbers.",
        f"Feature maps of layer {name}, {shape}",
        partial(plots.feature_maps, heading, traced.output),
    )


def _flatten(traced: LayerTrace) -> Sketch:
    return Sketch(
        "flatten",
        Section.WHAT_IT_SEES,
        "Flatten: maps become one vector",
        "Row by row, column by column, the values of all channels at one place follow each other.",
        "Cells of the feature maps and the entries of the vector they become",
        partial(plots.flatten_view, traced.input),
    )
