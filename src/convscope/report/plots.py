"""Every picture of a run: plain arrays in, one Page out.

No pyplot and no global state, so pictures can be made in any thread and none stays open. They are drawn
5.6 inches wide where they can be, which keeps their text readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from convscope._text import percent, pluralize
from convscope.report.layout import (
    BAR,
    BLUE,
    GREEN,
    INK,
    MUTED,
    PAD,
    PALE,
    RULE,
    TITLE,
    VERMILION,
    WIDTH,
    Array,
    Page,
    Scale,
    bare,
    color_bar,
    color_map,
    fading_colors,
    frame,
    largest,
    lettering,
    number,
    overlaid,
    picture_grid,
    plain_axes,
    sentence_page,
    short_label,
    signed_scale,
    tile_grid,
    whole_number_ticks,
    widest,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOURTH = 1.34  # inches of text that stand above one of four pictures in a row without touching the next
LEFT = 0.55  # inches for the numbers of a vertical axis
MAX_ENTRIES = 10_000  # of a vector that are drawn
POSITION_COLORS = (BLUE, VERMILION, GREEN)


def first_nine(images: Array, labels: Array, classes: Sequence[str]) -> Page:
    """The first nine images with their class names (A10).

    images: uint8 (n, height, width, channels); labels: integers (n,), positions in `classes`.
    """
    count = min(9, len(images))
    if not count:
        return sentence_page("The first images", "There are no images.")
    titles = [short_label(classes[int(label)], 18) for label in labels[:count]]
    title = "The first nine images" if count == 9 else f"The data set has only {pluralize(count, 'image')}"
    return picture_grid(title, list(images[:count]), titles, columns=3)


def issue_images(title: str, images: Array, names: Sequence[str]) -> Page:
    """Pictures with the paths of their files; images: uint8 (n, height, width, channels)."""
    titles = ["\n".join(short_label(part, 15) for part in name.rpartition("/")[::2]) for name in names]
    return picture_grid(title, list(images), titles, columns=4)


def learning_curves(history: Sequence[Mapping[str, float]], kept: int, measured_on: str = "validation") -> Page:
    """Loss and accuracy of each epoch, on training images and on those that it was measured on (A15).

    history: one mapping per epoch with epoch, train_loss, train_accuracy, validation_loss, validation_accuracy
    (accuracies 0..1). kept: the epoch whose weights were kept. measured_on: "validation", or "test" as in the article.
    """
    if not history:
        return sentence_page("Learning curves", "No epoch has finished yet.")
    column = {key: np.array([row[key] for row in history], dtype=float) for key in history[0]}
    epochs, validation = column["epoch"], column["validation_accuracy"]
    at = epochs.tolist().index(kept)
    page = Page.new("Learning curves", WIDTH, 5.2)
    loss = page.axes(LEFT, TITLE + 0.25, WIDTH - LEFT - PAD, 1.8)
    accuracy = page.axes(LEFT, TITLE + 2.45, WIDTH - LEFT - PAD, 1.8, sharex=loss)
    for axes, key, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        plain_axes(axes)
        axes.grid(axis="y", color=PALE)
        axes.axvline(epochs[at], color=MUTED, linestyle=":", linewidth=1.2)
        for rows, label, color, marker in (
            ("train", "training", BLUE, "o"),
            ("validation", measured_on, VERMILION, "s"),
        ):
            values = column[f"{rows}_{key}"] * scale
            axes.plot(epochs, values, color=color, marker=marker, markersize=4, linewidth=1.8, label=label)
    accuracy.plot(epochs[at], validation[at] * 100, "o", color=VERMILION, markersize=11, fillstyle="none")
    loss.tick_params(labelbottom=False)
    loss.set_title("Loss (lower is better)", loc="left", fontsize=10, color=INK)
    loss.legend(fontsize=9, frameon=False, labelcolor=INK)
    title = f"Accuracy in %: epoch {kept} was kept, {percent(validation[at])} on {measured_on}"
    accuracy.set_title(title, loc="left", fontsize=10, color=INK)
    accuracy.set_xlabel("epoch", fontsize=10, color=INK)
    accuracy.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    whole_number_ticks(accuracy)
    return page


def confusion_matrix(matrix: Array, classes: Sequence[str]) -> Page:
    """How often each true class (row) was given each answer (column) (A15).

    matrix: integers (k, k), [true, answered]. Color is the share of the row and is scaled to the largest *error*,
    with the diagonal in plain gray, so that a good classifier's few mistakes can be seen.
    """
    k = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    errors = np.ma.array(100 * shares, mask=np.eye(k, dtype=bool))
    side = min(16.0, max(0.27 * k, min(4.4, 1.1 * k)))
    names = [short_label(name, 22) for name in classes]
    size = 10 if side / k >= 0.35 else 8
    longest = widest(names, size)
    upright = longest < 0.9 * side / k
    below = 0.15 if upright else longest
    page = Page.new("Confusion matrix", max(WIDTH, side + longest + 0.7), TITLE + side + below + 0.35 + BAR)
    axes = page.axes(max(longest + 0.55, (page.width - side) / 2), TITLE, side, side)
    highest = float(errors.max()) if k > 1 and errors.max() > 0 else 100.0
    colors = color_map("OrRd").with_extremes(bad=PALE, under="white")
    axes.imshow(errors, cmap=colors, vmin=1e-9, vmax=highest, interpolation="nearest")
    _class_ticks(axes, names, side / k, size, upright)
    axes.set_xlabel("the network's answer", fontsize=10, color=INK)
    axes.set_ylabel("true class", fontsize=10, color=INK)
    if len(str(matrix.max())) * 0.07 < side / k - 0.04:
        _write_counts(axes, matrix, (errors > 0.6 * highest).filled(False), side / k)
    label = "errors: % of the true class's images (right answers are gray)"
    color_bar(page, Scale(colors, 0.0, highest), label)
    return page


def worst_mistakes(
    images: Array,
    labels: Array,
    probabilities: Array,
    classes: Sequence[str],
    wrong: int,
    among: int,
    files: Sequence[str] = (),
) -> Page:
    """Some misclassified images, worst first (A15), of `wrong` ones among so many.

    images: uint8 (n, height, width, channels); labels: integers (n,); probabilities: float (n, k), 0..1; files: the
    names of their files, where they have some.
    """
    if not wrong:
        return sentence_page("Worst mistakes", f"No mistakes: all {among:,} images were classified correctly.")
    answers = probabilities.argmax(axis=1)
    shares = [percent(float(share), 0) for share in probabilities.max(axis=1)]
    said = [(classes[label], classes[answer], s) for label, answer, s in zip(labels, answers, shares, strict=True)]
    title = f"Worst mistakes: {len(images)} of {wrong:,} wrong among {pluralize(among, 'image')}"
    titles = _mistakes(said)
    if files:
        titles = [f"{short_label(file, 15)}\n{words}" for file, words in zip(files, titles, strict=True)]
    return picture_grid(title, list(images), titles, columns=min(4, max(2, len(images))))


def filters(kernels: Array) -> Page:
    """The filters of a first layer, all on one scale (A2, A15).

    kernels: float (kernel height, kernel width, input channels, filters). Three input channels are drawn as colors
    with zero as middle gray; otherwise the weights of the first input channel, with zero in white.
    """
    height, width, channels, count = kernels.shape
    limit = largest(kernels)
    title = f"{pluralize(count, 'filter')} of the first layer, {height}×{width}"
    if channels == 3:
        shades = np.rint(127.5 + 127.5 * kernels.transpose(3, 0, 1, 2) / limit).astype(np.uint8)
        return tile_grid(title, shades, "middle gray is zero; more red, green or blue is a larger weight")
    note = "" if channels == 1 else f"; input channel 1 of {channels}"
    weights = kernels[:, :, 0].transpose(2, 0, 1)
    return tile_grid(title, weights, f"weight: one scale for all{note}", signed_scale(limit))


def feature_maps(title: str, maps: Array) -> Page:
    """What one layer sees in one image (A15): up to 64 maps on one color scale, or the entries of a vector.

    maps: float (height, width, channels), or (n,) after flatten or a dense layer.
    """
    limit = largest(maps)
    signed = bool((maps < 0).any())
    scale = signed_scale(limit) if signed else Scale(color_map("viridis"), 0.0, limit)
    if maps.ndim == 1:
        return _bars(title, maps) if len(maps) <= 128 else _wrapped_vector(title, maps, scale)
    return tile_grid(title, maps.transpose(2, 0, 1), "activation: one scale for all maps", scale)


def flatten_view(maps: Array) -> Page:
    """Which map cell each entry of the flattened vector came from: row, column, channel (A7).

    maps: float (height, width, channels). Above: the corner of the first maps, each cell with its place in the
    vector and the first three positions framed. Below: the vector, its entries in the colors of their position.
    """
    height, width, channels = maps.shape
    title = f"Flatten: {height}×{width} cells in {pluralize(channels, 'map')}, one vector of {maps.size:,}"
    page = Page.new(title, WIDTH, 3.9)
    gap = 0.15
    room = (WIDTH - 2 * PAD - 2 * gap) / 3
    for channel in range(min(3, channels)):
        _numbered_corner(page.axes(PAD + channel * (room + gap), TITLE + 0.25, room, 1.25), maps, channel)
    strip = page.axes(PAD, TITLE + 1.7, WIDTH - 2 * PAD, 1.2)
    _vector_strip(strip, (height, width, channels), positions=min(3, height * width))
    legend = "The number in a cell is its place in the vector; the shade is its activation."
    rule = f"place = (row × {width} + column) × {channels} + map, all counted from 0"
    page.write(WIDTH / 2, page.height - 0.14, f"{legend}\n{rule}", 9.5, "center")
    return page


def class_probabilities(probabilities: Array, classes: Sequence[str]) -> Page:
    """The ten most probable classes of one image, most probable first (A9). probabilities: float (k,), 0..1.

    >>> page = class_probabilities(np.array([0.2, 0.7, 0.1]), ["cat", "dog", "owl"])
    >>> [tick.get_text() for tick in page.figure.axes[0].get_yticklabels()]
    ['dog', 'cat', 'owl']
    """
    order = np.argsort(-probabilities, kind="stable")[:10]
    title = "Probability of each class" if len(classes) <= 10 else f"The 10 most probable of {len(classes)} classes"
    page = Page.new(title, WIDTH, TITLE + PAD + 0.33 * len(order))
    names = [short_label(classes[i], 26) for i in order]
    left = PAD + widest(names, 10) + 0.1
    axes = page.axes(left, TITLE, WIDTH - PAD - left, page.height - TITLE - PAD)
    plain_axes(axes)
    colors = [BLUE, *["#8fb8d0"] * (len(order) - 1)]
    bars = axes.barh(range(len(order)), 100 * probabilities[order], color=colors, height=0.7)
    axes.bar_label(bars, [percent(float(probabilities[i]), 0) for i in order], padding=4, fontsize=10, color=INK)
    axes.set_yticks(range(len(order)), names, fontsize=10, **lettering())
    axes.set_xlim(0, 114)  # room for the label of a full bar
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return page


def attribution(image: Array, heat: Array) -> Page:
    """An image, and beside it what spoke for (orange) and against (blue) the answer; stronger color is more.

    image: uint8 (height, width, channels); heat: float (h, w), of any size: it is stretched over the image.
    """
    limit = largest(heat)
    signed = bool((heat < 0).any())
    colors = fading_colors(BLUE, VERMILION) if signed else fading_colors(None, VERMILION)
    scale = Scale(colors, -limit if signed else 0.0, limit)
    pale = np.rint(0.3 * image[..., :3].mean(axis=2, keepdims=True) + 178).astype(np.uint8)
    pictures = [image, overlaid(pale, scale.paint(heat))]
    page = picture_grid("What the answer rests on", pictures, ["the image", "attribution"], 2, below=BAR)
    color_bar(page, scale, "against ← 0 → for the answer" if signed else "0 → for the answer")
    return page


def before_after(before: Array, after: Array, titles: Sequence[str]) -> Page:
    """Two pictures side by side, as of ReLU (A4) or of a filter on a photo (A16).

    Each is uint8 (height, width, channels), shown as it is, or float (height, width), shown in signed colors
    on one scale for both, with zero in white.
    """
    values = [array for array in (before, after) if array.dtype != np.uint8]
    scale = signed_scale(largest(*values))
    pictures = [array if array.dtype == np.uint8 else scale.paint(array) for array in (before, after)]
    named = [short_label(title, 30) for title in titles]
    page = picture_grid("Before and after", pictures, named, 2, below=BAR if values else 0.0)
    if values:
        color_bar(page, scale, "value: blue is negative, white zero, red positive")
    return page


# Parts of single pictures


def _mistakes(said: Sequence[tuple[str, str, str]]) -> list[str]:
    """(true class, answer, percent) of each image as text, all on one line each, or on two or three if one is long."""
    named = [(short_label(truth, 15), short_label(answer, 15), share) for truth, answer, share in said]
    for form in ("true {}, said {} ({})", "true {},\nsaid {} ({})"):
        titles = [form.format(*parts) for parts in named]
        if widest([line for title in titles for line in title.split("\n")], 9) <= FOURTH:
            return titles
    return ["true {},\nsaid {}\n({})".format(*parts) for parts in named]


def _class_ticks(axes: Axes, names: Sequence[str], cell: float, size: float, upright: bool) -> None:
    """Class names on both axes; every n-th only where the cells (`cell` inches) are narrower than a line of text."""
    step = math.ceil(0.13 / cell)
    places, shown = range(0, len(names), step), names[::step]
    axes.set_xticks(places, shown, fontsize=size, rotation=0 if upright else 90, **lettering())
    axes.set_yticks(places, shown, fontsize=size, **lettering())
    axes.tick_params(which="both", length=0)
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
        color = "white" if on_dark[row, column] else INK
        number(axes, column, row, str(matrix[row, column]), size, color)


def _bars(title: str, vector: Array) -> Page:
    page = Page.new(title, WIDTH, 2.8)
    axes = page.axes(LEFT + 0.25, TITLE, WIDTH - LEFT - 0.25 - PAD, 1.85)
    plain_axes(axes)
    axes.grid(axis="y", color=PALE)
    axes.bar(range(len(vector)), vector, color=np.where(vector < 0, BLUE, VERMILION).tolist())
    axes.axhline(0, color=MUTED, linewidth=0.8)
    whole_number_ticks(axes)
    axes.set_xlabel(f"entry, 0 to {len(vector) - 1}", fontsize=10, color=INK)
    axes.set_ylabel("activation", fontsize=10, color=INK)
    return page


def _wrapped_vector(title: str, vector: Array, scale: Scale) -> Page:
    """A long vector as lines of cells, read like text."""
    per_line = 100 if len(vector) > 1000 else 50
    shown = vector[:MAX_ENTRIES]
    lines = np.full(math.ceil(len(shown) / per_line) * per_line, np.nan)
    lines[: len(shown)] = shown
    width = WIDTH - LEFT - PAD
    page = Page.new(title, WIDTH, TITLE + len(lines) / per_line * width / per_line + 0.1 + BAR)
    axes = page.axes(LEFT, TITLE, width, page.height - TITLE - 0.1 - BAR)
    pixels = scale.paint(lines.reshape(-1, per_line))
    axes.imshow(pixels, extent=(0, per_line, len(lines), 0), interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.tick_params(labelsize=9, color=RULE, labelcolor=INK)
    axes.spines[:].set_color(RULE)
    more = f"; {len(vector) - len(shown):,} more are not shown" if len(vector) > len(shown) else ""
    color_bar(page, scale, f"activation of {len(vector):,} entries, {per_line} per line{more}")
    return page


def _numbered_corner(axes: Axes, maps: Array, channel: int) -> None:
    """The upper left cells of one map, each with its place in the flattened vector."""
    height, width, channels = maps.shape
    corner = maps[:3, :4, channel]
    places = np.ravel_multi_index(np.indices(corner.shape), (height, width)) * channels + channel
    limit = 2.5 * largest(maps[:3, :4])  # the lighter part of the grays, for dark text
    axes.imshow(np.abs(corner), cmap="Greys", vmin=0, vmax=limit, interpolation="nearest")
    for (row, column), place in np.ndenumerate(places):
        number(axes, column, row, str(place), 8.5)
    for position, color in enumerate(POSITION_COLORS):
        row, column = divmod(position, width)
        if row < corner.shape[0] and column < corner.shape[1]:
            axes.add_patch(frame(column - 0.46, row - 0.46, 0.92, 0.92, color, 2.2))
    axes.set_title(f"map {channel}, upper left", fontsize=9.5, color=INK)
    bare(axes)


def _vector_strip(axes: Axes, shape: tuple[int, int, int], positions: int) -> None:
    """The vector's first entries in the colors of the positions they come from, and its last one."""
    height, width, channels = shape
    maps = list(range(channels)) if channels <= 3 else [0, 1, None, channels - 1]
    for position in range(positions):
        color = POSITION_COLORS[position]
        start = position * len(maps)
        for slot, channel in enumerate(maps, start):
            _entry(axes, slot, None if channel is None else position * channels + channel, channel, color)
        row, column = divmod(position, width)
        origin = f"row {row},{' ' if channels > 1 else chr(10)}column {column}"
        axes.text(start + len(maps) / 2, -0.2, origin, ha="center", color=color, fontsize=9.5)
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


def _entry(axes: Axes, slot: int, place: int | None, channel: int | None, color: str) -> None:
    """One cell of the strip; no place is an ellipsis."""
    axes.add_patch(frame(slot + 0.04, 0, 0.92, 1, color, 1.8, tint=0.12))
    text = "…" if place is None else str(place)
    size = {4: 8, 5: 7}.get(len(text), 9 if len(text) < 4 else 6)
    number(axes, slot + 0.5, 0.5, text, size)
    if channel is not None:
        number(axes, slot + 0.5, 1.3, str(channel), 9)
