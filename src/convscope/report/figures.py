"""The figures of a run: which ones there are, and the sentence that explains each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope.data.dataset import Dataset
from convscope.data.types import Labels
from convscope.evaluation.calibration import Calibration, softmax
from convscope.evaluation.metrics import Evaluation
from convscope.report import layer_plots, plots
from convscope.report.html import Figure, Section
from convscope.report.render_pool import PlotCall, Renderer, render_serially

MAX_MISTAKES = 16
MAX_ISSUE_IMAGES = 16
CUTMIX_NOTE = (
    " Training accuracy leaves out the batches that CutMix mixed from two images each; training loss includes them."
)


CHARTS = (
    plots.learning_curves, plots.reliability_diagram, plots.confusion_matrix, layer_plots.flatten_view,
    layer_plots.class_scores, layer_plots.class_probabilities,
)  # fmt: skip


class FigureSpec(NamedTuple):
    """A figure that has not been rendered; `name` is its file name without the ending, the texts those of `Figure`."""

    name: str
    section: Section
    heading: str
    explanation: str
    alt: str
    plot: PlotCall


def render_figures(specs: Iterable[FigureSpec], renderer: Renderer = render_serially) -> Iterator[tuple[str, Figure]]:
    """Render figures.

    Args:
        specs: Consumed as fast as the renderer takes them, so that workers render while later specs are computed.
        renderer: Turns plots into PNG files.

    Yields:
        Name and figure, in order.
    """
    waiting: deque[FigureSpec] = deque()

    def calls() -> Iterator[PlotCall]:
        for spec in specs:
            waiting.append(spec)
            yield spec.plot

    for png in renderer(calls()):
        name, section, heading, explanation, alt, plot = waiting.popleft()
        yield name, Figure(section, heading, explanation, alt, png, _is_chart(plot))


def _is_chart(plot: PlotCall) -> bool:
    """Whether the figure has no images, whose colors must stay as they are."""
    is_vector = plot.func is layer_plots.feature_maps and np.ndim(plot.args[1]) == 1
    return is_vector or plot.func in CHARTS


def dataset_figure(dataset: Dataset) -> FigureSpec:
    """The first nine training images (A10), or nine from the whole set if it is sorted by class."""
    if dataset.preprocessing:
        nine, heading = dataset.train.subsample(9), "Nine training images, as the network sees them"
    else:
        nine, heading = dataset.train.take(np.arange(min(9, len(dataset.train)))), "The first nine training images"
    return FigureSpec(
        "first-nine",
        Section.SETUP,
        heading,
        "Examples of what the network learned from, with their classes.",
        f"Nine training images of {dataset.name} with their class names",
        partial(plots.first_nine, nine.images, nine.labels, dataset.classes),
    )


def issue_figures(dataset: Dataset) -> Iterator[FigureSpec]:
    """The images of all warnings, and near-duplicates."""
    for issue in dataset.issues:
        rows = list(chain.from_iterable(issue.rows))[:MAX_ISSUE_IMAGES]
        if not rows or (issue.level == "note" and issue.kind != "near-duplicate"):
            continue
        files = list(chain.from_iterable(issue.files))[:MAX_ISSUE_IMAGES]
        more = sum(map(len, issue.rows)) - len(rows)
        action = f"{issue.action[:1].upper()}{issue.action[1:]}"
        yield FigureSpec(
            f"issue-{issue.kind}",
            Section.DATA,
            issue.text,
            f"{action}{f'; {more:,} more are not shown' if more else ''}.",
            f"{len(rows)} images with their file names",
            partial(plots.issue_images, issue.text, dataset.train.store[rows], files),
        )


def result_figures(
    dataset: Dataset, evaluation: Evaluation, logits: NDArray[np.float32], curves: PlotCall, *, cutmix: bool = False
) -> Iterator[FigureSpec]:
    """Confusion matrix, worst mistakes and learning curves.

    Args:
        dataset: Its test split was evaluated.
        evaluation: Its result.
        logits: float32 (n, classes) of the test images.
        curves: The plot of the learning curves.
        cutmix: Whether training mixed images.
    """
    yield FigureSpec(
        "confusion-matrix",
        Section.MISTAKES,
        "Confusion matrix",
        "Each row is a true class, each column a predicted class; every count off the diagonal is a mistake.",
        "Matrix of true and predicted classes",
        partial(plots.confusion_matrix, evaluation.confusion, dataset.classes),
    )
    yield FigureSpec(
        "worst-mistakes",
        Section.MISTAKES,
        "Worst mistakes",
        "The test images whose true class got the lowest probability. Percentages are those of the predicted class.",
        "Misclassified test images with their true and predicted classes",
        _worst_mistakes(dataset, logits),
    )
    if evaluation.calibration:
        yield _reliability(evaluation.calibration)
    yield FigureSpec(
        "learning-curves",
        Section.LEARNING,
        "Learning curves",
        "Loss should fall and accuracy rise. If only the training curves improve, the network memorizes its images."
        + (CUTMIX_NOTE if cutmix else ""),
        "Loss and accuracy after each epoch",
        curves,
    )


def _reliability(calibration: Calibration) -> FigureSpec:
    bins = calibration.bins
    columns = [one.confidence for one in bins], [one.accuracy for one in bins], [one.n for one in bins]
    return FigureSpec(
        "reliability",
        Section.CONFIDENCE,
        "Reliability diagram",
        "Each point is a group of test images with similar confidence. On the dashed line the confidence is exact: of "
        "the answers given with 90 %, 90 % are right. Above it the model is too modest, below it too sure.",
        "Accuracy of groups of test images against their confidence",
        partial(plots.reliability_diagram, *columns),
    )


def rank_mistakes(labels: Labels, logits: NDArray[np.float32]) -> Labels:
    """The indices of the misclassified images, those with the highest loss first.

    Args:
        labels: (n,), true classes.
        logits: float32 (n, classes).
    """
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    of_true_class = softmax(logits[wrong])[np.arange(len(wrong)), labels[wrong]]  # the loss is -log of this
    found: Labels = wrong[np.argsort(of_true_class, kind="stable")]
    return found


def _worst_mistakes(dataset: Dataset, logits: NDArray[np.float32]) -> PlotCall:
    test, labels = dataset.test, dataset.test.labels
    worst = rank_mistakes(labels, logits)[:MAX_MISTAKES]
    rows = test.indices(worst)
    files = [Path(dataset.files[row]).name for row in rows] if dataset.files else ()
    counts = (int((logits.argmax(1) != labels).sum()), len(labels))
    return partial(
        plots.worst_mistakes, test.store[rows], labels[worst], softmax(logits[worst]), dataset.classes, counts, files
    )
