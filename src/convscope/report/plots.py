"""Plots of a data set and of results: arrays in, one Canvas out.

Without pyplot and global state, plots can be drawn in any thread, and no figure stays open. Most are 5.6 inches wide,
which keeps their text readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from convscope._statistics import wilson
from convscope._text import percent, pluralize
from convscope.report.canvas import (
    BLUE,
    INK,
    MARGIN,
    MUTED,
    PALE,
    RULE,
    TITLE_HEIGHT,
    VERMILION,
    WIDTH,
    Array,
    Box,
    Canvas,
    short_label,
    text_canvas,
    text_style,
    text_width,
)
from convscope.report.layout import (
    COLOR_BAR_HEIGHT,
    ColorScale,
    cell_text,
    color_bar,
    color_map,
    image_grid,
    integer_ticks,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXIS_WIDTH = 0.55  # inches for the numbers of a vertical axis
QUARTER_WIDTH = 1.34  # inches of text above one of four images in a row that does not touch its neighbor


def first_nine(images: Array, labels: Array, classes: Sequence[str]) -> Canvas:
    """The first nine images with their class names (A10).

    Args:
        images: uint8 (n, height, width, channels).
        labels: (n,), indices of `classes`.
        classes: Class names.
    """
    count = min(9, len(images))
    if not count:
        return text_canvas("The first images", "There are no images.")
    titles = [short_label(classes[int(label)], 18) for label in labels[:count]]
    title = "The first nine images" if count == 9 else f"The data set has only {pluralize(count, 'image')}"
    return image_grid(title, list(images[:count]), titles, columns=3)


def issue_images(title: str, images: Array, files: Sequence[str]) -> Canvas:
    """Images of an issue with the paths of their files.

    Args:
        title: Of the figure.
        images: uint8 (n, height, width, channels).
        files: n paths.
    """
    titles = ["\n".join(short_label(part, 15) for part in name.rpartition("/")[::2]) for name in files]
    return image_grid(title, list(images), titles, columns=4)


def learning_curves(
    history: Sequence[Mapping[str, float | None]], selected_epoch: int, validated_on: str = "validation"
) -> Canvas:
    """Loss and accuracy of each epoch on training and validation images (A15).

    Args:
        history: The rows of `metrics.jsonl`.
        selected_epoch: The epoch whose weights the run uses; 0 for those that it began with.
        validated_on: "validation", or "test" as in the article.
    """
    if not history:
        return text_canvas("Learning curves", "No epoch was trained.")
    if len(history) == 1:
        return _single_epoch(history[0], validated_on)
    column = {key: np.array([row[key] for row in history], dtype=float) for key in history[0]}
    epochs, validation = column["epoch"], column["validation_accuracy"]
    selected = [epochs.tolist().index(selected_epoch)] if selected_epoch else []
    canvas = Canvas.create("Learning curves", WIDTH, 5.2)
    width = WIDTH - AXIS_WIDTH - MARGIN
    loss = canvas.axes(Box(AXIS_WIDTH, TITLE_HEIGHT + 0.25, width, 1.8))
    accuracy = canvas.axes(Box(AXIS_WIDTH, TITLE_HEIGHT + 2.45, width, 1.8), sharex=loss)
    for axes, key, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        style_axes(axes)
        axes.grid(axis="y", color=PALE)
        for epoch in epochs[selected]:
            axes.axvline(epoch, color=MUTED, linestyle=":", linewidth=1.2)
        for split, label, color, marker in (
            ("train", "training", BLUE, "o"),
            ("validation", validated_on, VERMILION, "s"),
        ):
            values = column[f"{split}_{key}"] * factor
            axes.plot(epochs, values, color=color, marker=marker, markersize=4, linewidth=1.8, label=label)
    accuracy.plot(epochs[selected], validation[selected] * 100, "o", color=VERMILION, markersize=11, fillstyle="none")
    loss.tick_params(labelbottom=False)
    loss.set_title("Loss (lower is better)", loc="left", fontsize=10, color=INK)
    loss.legend(fontsize=9, frameon=False, labelcolor=INK)
    used = "none of these epochs is used"
    if selected:
        used = f"epoch {selected_epoch} is used, {percent(validation[selected[0]])} on {validated_on}"
    title = f"Accuracy in %: {used}"
    accuracy.set_title(title, loc="left", fontsize=10, color=INK)
    accuracy.set_xlabel("epoch", fontsize=10, color=INK)
    accuracy.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    integer_ticks(accuracy)
    return canvas


def _single_epoch(row: Mapping[str, float | None], validated_on: str) -> Canvas:
    """The numbers of a single epoch, of which there is no curve."""
    canvas = Canvas.create("The only epoch", WIDTH, 1.55)
    columns = 2.9, 4.6  # right ends, in inches
    for right, head in zip(columns, ("loss", "accuracy"), strict=True):
        canvas.text(right, 0.65, head, 10, "right")
    for baseline, split, label in ((0.97, "train", "training"), (1.29, "validation", validated_on)):
        loss, accuracy = row[f"{split}_loss"], row[f"{split}_accuracy"]
        canvas.text(MARGIN, baseline, label, 11)
        values = "-" if loss is None else f"{loss:.4f}", "-" if accuracy is None else percent(accuracy)
        for right, value in zip(columns, values, strict=True):
            canvas.text(right, baseline, value, 11, "right")
    return canvas


def confusion_matrix(matrix: Array, classes: Sequence[str]) -> Canvas:
    """How often images of each true class (row) were predicted as each class (column) (A15).

    The color scale ends at the largest error, and correct predictions are gray, so that a good classifier's few errors
    are visible. A class that was never recognized has a white 0 on the diagonal.

    Args:
        matrix: Integers (k, k), [true, predicted].
        classes: k names.
    """
    k = len(classes)
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    correct = np.eye(k, dtype=bool)
    errors = np.ma.array(100 * fractions * ~correct, mask=correct & (matrix > 0))
    side = min(16.0, max(0.27 * k, min(4.4, 1.1 * k)))
    names = [short_label(name, 22) for name in classes]
    size = 10 if side / k >= 0.35 else 8
    longest = text_width(names, size)
    upright = longest < 0.9 * side / k
    bottom = (0.15 if upright else longest) + 0.35 + COLOR_BAR_HEIGHT
    canvas = Canvas.create("Confusion matrix", max(WIDTH, side + longest + 0.7), TITLE_HEIGHT + side + bottom)
    axes = canvas.axes(Box(max(longest + 0.55, (canvas.width - side) / 2), TITLE_HEIGHT, side, side))
    highest = float(errors.max()) if k > 1 and errors.max() > 0 else 100.0
    colors = color_map("OrRd").with_extremes(bad=PALE, under="white")
    axes.imshow(errors, cmap=colors, vmin=1e-9, vmax=highest, interpolation="nearest")
    _class_ticks(axes, names, side / k, size, upright)
    axes.set_xlabel("predicted class", fontsize=10, color=INK)
    axes.set_ylabel("true class", fontsize=10, color=INK)
    if len(str(matrix.max())) * 0.07 < side / k - 0.04:
        _write_counts(axes, matrix, (errors > 0.6 * highest).filled(False), side / k)
    label = "errors in % of the true class's images (correct predictions are gray)"
    color_bar(canvas, ColorScale(colors, 0.0, highest), label)
    return canvas


def worst_mistakes(
    images: Array,
    labels: Array,
    probabilities: Array,
    classes: Sequence[str],
    counts: Sequence[int],
    files: Sequence[str] = (),
) -> Canvas:
    """Some misclassified images, the worst first (A15).

    Args:
        images: uint8 (n, height, width, channels).
        labels: (n,), true classes.
        probabilities: float (n, k), 0..1.
        classes: k names.
        counts: Number of misclassified images, and of all images.
        files: Names of the n files, if the images come from files.
    """
    wrong, total = counts
    if not wrong:
        return text_canvas("Worst mistakes", f"No mistakes: all {total:,} images were classified correctly.")
    titles = _mistake_titles(
        [
            (short_label(classes[label], 15), short_label(classes[row.argmax()], 15), percent(float(row.max()), 0))
            for label, row in zip(labels, probabilities, strict=True)
        ]
    )
    if files:
        titles = [f"{short_label(file, 15)}\n{title}" for file, title in zip(files, titles, strict=True)]
    title = f"{pluralize(wrong, 'mistake')} in {pluralize(total, 'image')} (true → predicted)"
    return image_grid(title, list(images), titles, columns=min(4, max(2, len(images))))


def reliability_diagram(confidence: Sequence[float], accuracy: Sequence[float], counts: Sequence[int]) -> Canvas:
    """How often answers of about the same confidence are right (DeGroot and Fienberg, 1983).

    Args:
        confidence: Mean confidence of each bin, 0..1, increasing.
        accuracy: Fraction of each bin that is right, 0..1; its 95 % Wilson interval is drawn as a bar.
        counts: Number of images in each bin.
    """
    low = max(0.0, 10 * math.floor(10 * min(*confidence, *accuracy)))
    side, bottom = 4.2, 0.6
    canvas = Canvas.create("Reliability diagram", WIDTH, TITLE_HEIGHT + side + bottom)
    axes = canvas.axes(Box((canvas.width - side) / 2, TITLE_HEIGHT, side, side))
    style_axes(axes)
    axes.plot([low, 100], [low, 100], color=RULE, linewidth=1.5, linestyle="--", label="exact probabilities")
    correct = [round(share * n) for share, n in zip(accuracy, counts, strict=True)]
    intervals = np.array([wilson(hits, n) for hits, n in zip(correct, counts, strict=True)]).T
    distances = np.abs(intervals - np.array(accuracy))
    axes.errorbar(
        100 * np.array(confidence), 100 * np.array(accuracy), yerr=100 * distances, fmt="o", markersize=5,
        color=BLUE, elinewidth=1, capsize=2, label="test images",
    )  # fmt: skip
    axes.set_xlim(low, 101.5)
    axes.set_ylim(low, 101.5)
    axes.set_xlabel("confidence: probability of the predicted class in %", fontsize=10, color=INK)
    axes.set_ylabel("accuracy in %", fontsize=10, color=INK)
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    return canvas


def _mistake_titles(mistakes: Sequence[tuple[str, str, str]]) -> list[str]:
    """Titles of (true class, predicted class, percentage), all of one line, or of two or three if one is too long."""
    for form in ("{} → {} ({})", "{}\n→ {} ({})"):
        titles = [form.format(*parts) for parts in mistakes]
        if text_width([line for title in titles for line in title.split("\n")], 9) <= QUARTER_WIDTH:
            return titles
    return ["{}\n→ {}\n({})".format(*parts) for parts in mistakes]


def _class_ticks(axes: Axes, names: Sequence[str], cell: float, size: float, upright: bool) -> None:
    """Label both axes with class names; with every n-th only if a cell (inches) is smaller than a line of text."""
    step = math.ceil(0.13 / cell)
    ticks, shown = range(0, len(names), step), names[::step]
    axes.set_xticks(ticks, shown, fontsize=size, rotation=0 if upright else 90, **text_style())
    axes.set_yticks(ticks, shown, fontsize=size, **text_style())
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(RULE)
    if step == 1:
        edges = np.arange(0.5, len(names) - 1)
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", color=PALE, linewidth=0.5)


def _write_counts(axes: Axes, matrix: Array, on_dark: Array, cell: float) -> None:
    """Write the count into every cell that is not zero, and into the diagonal of every class that has images."""
    size = 9.5 if cell >= 0.38 else 7
    has_images = matrix.any(axis=1)
    for row, column in np.argwhere((matrix > 0) | np.diag(has_images)):
        color = "white" if on_dark[row, column] else INK
        cell_text(axes, (column, row), str(matrix[row, column]), size, color)
