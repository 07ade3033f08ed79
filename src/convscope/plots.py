"""Every picture of a run: plain arrays in, one matplotlib Figure out.

No pyplot and no global state, so pictures can be made in any thread and none stays open. They are drawn
5.6 inches wide where they can be, which keeps their text readable on a phone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.canvas import (
    BLUE,
    DPI,
    GREEN,
    INK,
    MUTED,
    PALE,
    RULE,
    VERMILION,
    WIDTH,
    Array,
    bare,
    colour_bar,
    colour_map,
    fading_colours,
    finished,
    frame,
    half_width,
    interpolation_of,
    largest,
    new_figure,
    percent,
    picture_grid,
    plain_axes,
    sentence_figure,
    short_label,
    show,
    tile_grid,
    whole_number_ticks,
)
from convscope.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_ENTRIES = 10_000  # of a vector that are drawn
POSITION_COLOURS = (BLUE, VERMILION, GREEN)


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes: the same figure gives the same bytes, with no date and no version inside."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def first_nine(images: Array, labels: Array, classes: Sequence[str]) -> Figure:
    """The first nine images with their class names (A10).

    images: uint8 (n, height, width, channels); labels: integers (n,), positions in `classes`.
    """
    count = min(9, len(images))
    if not count:
        return sentence_figure("The first images", "There are no images.")
    titles = [short_label(classes[int(label)], 18) for label in labels[:count]]
    title = "The first nine images" if count == 9 else f"The data set has only {counted(count, 'image')}"
    return picture_grid(title, images[:count], titles, columns=3)


def learning_curves(history: Sequence[Mapping[str, float]], kept: int, measured_on: str = "validation") -> Figure:
    """Loss and accuracy of each epoch, on training images and on those that it was measured on (A15).

    history: one mapping per epoch with epoch, train_loss, train_accuracy, validation_loss, validation_accuracy
    (accuracies 0..1). kept: the epoch whose weights were kept. measured_on: "validation", or "test" as in the article.
    """
    if not history:
        return sentence_figure("Learning curves", "No epoch has finished yet.")
    column = {key: np.array([row[key] for row in history], dtype=float) for key in history[0]}
    epochs, validation = column["epoch"], column["validation_accuracy"]
    at = epochs.tolist().index(kept)
    figure = new_figure("Learning curves", WIDTH, 5.2)
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    for axes, key, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        plain_axes(axes)
        axes.grid(axis="y", color=PALE)
        axes.axvline(epochs[at], color=MUTED, linestyle=":", linewidth=1.2)
        for rows, label, colour, marker in (
            ("train", "training", BLUE, "o"),
            ("validation", measured_on, VERMILION, "s"),
        ):
            values = column[f"{rows}_{key}"] * scale
            axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linewidth=1.8, label=label)
    accuracy.plot(epochs[at], validation[at] * 100, "o", color=VERMILION, markersize=11, fillstyle="none")
    loss.set_title("Loss (lower is better)", loc="left", fontsize=10, color=INK)
    loss.legend(fontsize=9, frameon=False, labelcolor=INK)
    title = f"Accuracy in %: epoch {kept} was kept, {100 * validation[at]:.2f} % on {measured_on}"
    accuracy.set_title(title, loc="left", fontsize=10, color=INK)
    accuracy.set_xlabel("epoch", fontsize=10, color=INK)
    accuracy.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    whole_number_ticks(accuracy)
    return finished(figure)


def confusion_matrix(matrix: Array, classes: Sequence[str]) -> Figure:
    """How often each true class (row) was given each answer (column) (A15).

    matrix: integers (k, k), [true, answered]. Colour is the share of the row and is scaled to the largest *error*,
    with the diagonal in plain grey, so that a good classifier's few mistakes can be seen.
    """
    k = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    errors = np.ma.array(100 * shares, mask=np.eye(k, dtype=bool))
    side = min(16.0, max(0.27 * k, min(4.0, 1.1 * k)))
    names = [short_label(name, 22) for name in classes]
    margin = 1.0 + 0.07 * max(map(len, names))
    figure = new_figure("Confusion matrix", max(WIDTH, side + margin), side + margin + 0.9)
    axes = figure.subplots()
    highest = float(errors.max()) if k > 1 and errors.max() > 0 else 100.0
    colours = colour_map("OrRd").with_extremes(bad=PALE, under="white")
    image = axes.imshow(errors, cmap=colours, vmin=1e-9, vmax=highest, interpolation="nearest")
    _class_ticks(axes, names, side / k)
    axes.set_xlabel("the network's answer", fontsize=10, color=INK)
    axes.set_ylabel("true class", fontsize=10, color=INK)
    if len(str(matrix.max())) * 0.07 < side / k - 0.04:
        _write_counts(axes, matrix, (errors > 0.6 * highest).filled(False), side / k)
    colour_bar(figure, image, axes, "errors: % of the true class's images (right answers are grey)")
    return finished(figure)


def worst_mistakes(
    images: Array, labels: Array, probabilities: Array, classes: Sequence[str], count: int = 16
) -> Figure:
    """The misclassified images with the highest loss, worst first (A15).

    images: uint8 (n, height, width, channels); labels: integers (n,); probabilities: float (n, k), 0..1.
    """
    answers = probabilities.argmax(axis=1)
    of_truth = probabilities[np.arange(len(labels)), labels]  # the loss is -log of this
    worst = [i for i in np.argsort(of_truth, kind="stable") if answers[i] != labels[i]]
    if not worst:
        return sentence_figure("Worst mistakes", f"No mistakes: all {len(labels):,} images were classified correctly.")
    shown = worst[:count]
    said = [(classes[labels[i]], classes[answers[i]], percent(float(probabilities[i, answers[i]]))) for i in shown]
    title = f"Worst mistakes: {len(shown)} of {len(worst):,} wrong among {counted(len(labels), 'image')}"
    return picture_grid(title, images[shown], _mistakes(said), columns=min(4, max(2, len(shown))))


def filters(kernels: Array) -> Figure:
    """The filters of a first layer, all on one scale (A2, A15).

    kernels: float (kernel height, kernel width, input channels, filters). Three input channels are drawn as colours
    with zero as middle grey; otherwise the weights of the first input channel, with zero in white.
    """
    height, width, channels, count = kernels.shape
    limit = largest(kernels)
    title = f"{counted(count, 'filter')} of the first layer, {height}×{width}"
    if channels == 3:
        tiles = [0.5 + kernels[..., i] / (2 * limit) for i in range(count)]
        return tile_grid(title, tiles, "middle grey is zero; more red, green or blue is a larger weight")
    note = "" if channels == 1 else f"; input channel 1 of {channels}"
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    return tile_grid(title, [kernels[:, :, 0, i] for i in range(count)], f"weight: one scale for all{note}", style)


def feature_maps(title: str, maps: Array) -> Figure:
    """What one layer sees in one image (A15): up to 64 maps on one colour scale, or the entries of a vector.

    maps: float (height, width, channels), or (n,) after flatten or a dense layer.
    """
    limit = largest(maps)
    signed = bool((maps < 0).any())
    style = {"cmap": "RdBu_r" if signed else "viridis", "vmin": -limit if signed else 0.0, "vmax": limit}
    if maps.ndim == 1:
        return _bars(title, maps) if len(maps) <= 128 else _wrapped_vector(title, maps, style)
    tiles = [maps[..., i] for i in range(maps.shape[2])]
    return tile_grid(title, tiles, "activation: one scale for all maps", style)


def flatten_view(maps: Array) -> Figure:
    """Which map cell each entry of the flattened vector came from: row, column, channel (A7).

    maps: float (height, width, channels). Above: the corner of the first maps, each cell with its place in the
    vector and the first three positions framed. Below: the vector, its entries in the colours of their position.
    """
    height, width, channels = maps.shape
    figure = new_figure(
        f"Flatten: {height}×{width} cells in {counted(channels, 'map')}, one vector of {maps.size:,}", WIDTH, 4.2
    )
    shown = min(3, channels)
    grid = figure.add_gridspec(2, shown, height_ratios=(5, 4))
    for channel in range(shown):
        _numbered_corner(figure.add_subplot(grid[0, channel]), maps, channel)
    strip = figure.add_subplot(grid[1, :])
    _vector_strip(strip, (height, width, channels), positions=min(3, height * width))
    legend = "The number in a cell is its place in the vector; the shade is its activation."
    rule = f"place = (row × {width} + column) × {channels} + map, all counted from 0"
    figure.supxlabel(f"{legend}\n{rule}", fontsize=9.5, color=INK, linespacing=1.5)
    return finished(figure)


def class_probabilities(probabilities: Array, classes: Sequence[str]) -> Figure:
    """The ten most probable classes of one image, most probable first (A9). probabilities: float (k,), 0..1.

    >>> figure = class_probabilities(np.array([0.2, 0.7, 0.1]), ["cat", "dog", "owl"])
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['dog', 'cat', 'owl']
    """
    order = np.argsort(-probabilities, kind="stable")[:10]
    title = "Probability of each class" if len(classes) <= 10 else f"The 10 most probable of {len(classes)} classes"
    figure = new_figure(title, WIDTH, 0.9 + 0.32 * len(order))
    axes = figure.subplots()
    plain_axes(axes)
    colours = [BLUE, *["#8fb8d0"] * (len(order) - 1)]
    bars = axes.barh(range(len(order)), 100 * probabilities[order], color=colours, height=0.7)
    axes.bar_label(bars, [percent(float(probabilities[i])) for i in order], padding=4, fontsize=10, color=INK)
    axes.set_yticks(range(len(order)), [short_label(classes[i], 26) for i in order], fontsize=10)
    axes.set_xlim(0, 114)  # room for the label of a full bar
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return finished(figure)


def attribution(image: Array, heat: Array) -> Figure:
    """An image, and beside it what spoke for (orange) and against (blue) the answer; stronger colour is more.

    image: uint8 (height, width, channels); heat: float (h, w), of any size: it is stretched over the image.
    """
    figure = new_figure("What the answer rests on", WIDTH, 1.35 + half_width(image))
    left, right = figure.subplots(1, 2)
    show(left, image)
    left.set_title("the image", fontsize=10, color=INK)
    grey = image[..., :3].mean(axis=2)
    right.imshow(0.3 * grey + 178, cmap="gray", vmin=0, vmax=255, interpolation=interpolation_of(image))
    limit = largest(heat)
    signed = bool((heat < 0).any())
    colours = fading_colours(BLUE, VERMILION) if signed else fading_colours(None, VERMILION)
    extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    style = {"cmap": colours, "vmin": -limit if signed else 0.0, "vmax": limit, "interpolation": "nearest"}
    overlay = right.imshow(heat, extent=extent, **style)
    right.set_title("attribution", fontsize=10, color=INK)
    bare(right)
    colour_bar(figure, overlay, [left, right], "against ← 0 → for the answer" if signed else "0 → for the answer")
    return finished(figure)


def before_after(before: Array, after: Array, titles: tuple[str, str]) -> Figure:
    """Two pictures side by side, as of ReLU (A4) or of a filter on a photo (A16).

    Each is uint8 (height, width, channels), shown as it is, or float (height, width), shown in signed colours
    on one scale for both, with zero in white.
    """
    figure = new_figure("Before and after", WIDTH, 1.35 + half_width(before))
    panels = figure.subplots(1, 2)
    limit = largest(*(array for array in (before, after) if array.dtype != np.uint8))
    signed = None
    for axes, array, title in zip(panels, (before, after), titles, strict=True):
        if array.dtype == np.uint8:
            show(axes, array)
        else:
            style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "interpolation": interpolation_of(array)}
            signed = axes.imshow(array, **style)
            bare(axes)
        axes.set_title(short_label(title, 30), fontsize=10, color=INK)
    if signed is not None:
        colour_bar(figure, signed, list(panels), "value: blue is negative, white zero, red positive")
    return finished(figure)


# Parts of single pictures


def _mistakes(said: Sequence[tuple[str, str, str]]) -> list[str]:
    """(true class, answer, percent) of each image as text, all on one line each, or on two or three if one is long."""
    named = [(short_label(truth, 15), short_label(answer, 15), share) for truth, answer, share in said]
    for form in ("true {}, said {} ({})", "true {},\nsaid {} ({})"):
        titles = [form.format(*parts) for parts in named]
        if max(len(line) for title in titles for line in title.split("\n")) <= 21:
            return titles
    return ["true {},\nsaid {}\n({})".format(*parts) for parts in named]


def _class_ticks(axes: Axes, names: Sequence[str], cell: float) -> None:
    """Class names on both axes; every n-th only where the cells (`cell` inches) are narrower than a line of text."""
    step = math.ceil(0.13 / cell)
    places, shown = range(0, len(names), step), names[::step]
    upright = max(map(len, names)) * 0.085 < cell * step
    size = 10 if cell >= 0.35 else 8
    axes.set_xticks(places, shown, fontsize=size, rotation=0 if upright else 90)
    axes.set_yticks(places, shown, fontsize=size)
    axes.tick_params(which="both", length=0, labelcolor=INK)
    axes.spines[:].set_color(RULE)
    if step == 1:
        edges = np.arange(0.5, len(names) - 1)
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", color=PALE, linewidth=0.5)


def _write_counts(axes: Axes, matrix: Array, on_dark: Array, cell: float) -> None:
    """The count in every cell that is not zero."""
    size = 9.5 if cell >= 0.38 else 7
    for row, column in np.argwhere(matrix):
        colour = "white" if on_dark[row, column] else INK
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=size, color=colour)


def _bars(title: str, vector: Array) -> Figure:
    figure = new_figure(title, WIDTH, 2.8)
    axes = figure.subplots()
    plain_axes(axes)
    axes.grid(axis="y", color=PALE)
    axes.bar(range(len(vector)), vector, color=np.where(vector < 0, BLUE, VERMILION).tolist())
    axes.axhline(0, color=MUTED, linewidth=0.8)
    whole_number_ticks(axes)
    axes.set_xlabel(f"entry, 0 to {len(vector) - 1}", fontsize=10, color=INK)
    axes.set_ylabel("activation", fontsize=10, color=INK)
    return finished(figure)


def _wrapped_vector(title: str, vector: Array, style: Mapping[str, Any]) -> Figure:
    """A long vector as lines of cells, read like text."""
    per_line = 100 if len(vector) > 1000 else 50
    shown = vector[:MAX_ENTRIES]
    lines = np.full(math.ceil(len(shown) / per_line) * per_line, np.nan)
    lines[: len(shown)] = shown
    figure = new_figure(title, WIDTH, 1.7 + len(lines) / per_line * (WIDTH - 0.9) / per_line)
    axes = figure.subplots()
    extent = (0, per_line, len(lines), 0)
    image = axes.imshow(lines.reshape(-1, per_line), extent=extent, interpolation="nearest", aspect="auto", **style)
    axes.set_xticks([])
    axes.tick_params(labelsize=9, color=RULE, labelcolor=INK)
    axes.spines[:].set_color(RULE)
    more = f"; {len(vector) - len(shown):,} more are not shown" if len(vector) > len(shown) else ""
    colour_bar(figure, image, axes, f"activation of {len(vector):,} entries, {per_line} per line{more}")
    return finished(figure)


def _numbered_corner(axes: Axes, maps: Array, channel: int) -> None:
    """The upper left cells of one map, each with its place in the flattened vector."""
    height, width, channels = maps.shape
    corner = maps[:3, :4, channel]
    places = np.ravel_multi_index(np.indices(corner.shape), (height, width)) * channels + channel
    limit = 2.5 * largest(maps[:3, :4])  # the lighter part of the greys, for dark text
    axes.imshow(np.abs(corner), cmap="Greys", vmin=0, vmax=limit, interpolation="nearest")
    for (row, column), place in np.ndenumerate(places):
        axes.text(column, row, str(place), ha="center", va="center", fontsize=8.5, color=INK)
    for position, colour in enumerate(POSITION_COLOURS):
        row, column = divmod(position, width)
        if row < corner.shape[0] and column < corner.shape[1]:
            axes.add_patch(frame(column - 0.46, row - 0.46, 0.92, 0.92, colour, 2.2))
    axes.set_title(f"map {channel}, upper left", fontsize=9.5, color=INK)
    bare(axes)


def _vector_strip(axes: Axes, shape: tuple[int, int, int], positions: int) -> None:
    """The vector's first entries in the colours of the positions they come from, and its last one."""
    height, width, channels = shape
    maps = list(range(channels)) if channels <= 3 else [0, 1, None, channels - 1]
    for position in range(positions):
        colour = POSITION_COLOURS[position]
        start = position * len(maps)
        for slot, channel in enumerate(maps, start):
            _entry(axes, slot, None if channel is None else position * channels + channel, channel, colour)
        row, column = divmod(position, width)
        origin = f"row {row},{' ' if channels > 1 else chr(10)}column {column}"
        axes.text(start + len(maps) / 2, -0.2, origin, ha="center", color=colour, fontsize=9.5)
    end = positions * len(maps)
    if height * width > positions:
        _entry(axes, end, None, None, MUTED)
        _entry(axes, end + 1, height * width * channels - 1, channels - 1, MUTED)
        axes.text(end + 1, -0.2, "last", ha="center", color=MUTED, fontsize=9.5)
        end += 2
    for y, text in ((0.5, "place"), (1.3, "map")):
        axes.text(-0.1, y, text, ha="right", va="center", fontsize=9, color=MUTED)
    axes.set(xlim=(-0.1 * end, end + 0.05), ylim=(1.6, -0.7))
    axes.axis("off")


def _entry(axes: Axes, slot: int, place: int | None, channel: int | None, colour: str) -> None:
    """One cell of the strip; no place is an ellipsis."""
    axes.add_patch(frame(slot + 0.04, 0, 0.92, 1, colour, 1.8, tint=0.12))
    number = "…" if place is None else str(place)
    size = {4: 8, 5: 7}.get(len(number), 9 if len(number) < 4 else 6)
    axes.text(slot + 0.5, 0.5, number, ha="center", va="center", fontsize=size, color=INK)
    if channel is not None:
        axes.text(slot + 0.5, 1.3, str(channel), ha="center", va="center", fontsize=9, color=INK)
