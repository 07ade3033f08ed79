"""Pictures of a run: what they show, not only that they are drawn. ARTICLE rows A4, A7, A9, A10, A15."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from convscope import plots
from convscope.canvas import INK, PALE

DIGITS = [str(digit) for digit in range(10)]
RANDOM = np.random.default_rng(7)
IMAGES = RANDOM.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
LABELS = RANDOM.integers(0, 10, 20)
PROBABILITIES = RANDOM.dirichlet(np.ones(10), 20)
HISTORY = [
    {
        "epoch": epoch,
        "train_loss": 1 / epoch,
        "train_accuracy": 1 - 0.3 / epoch,
        "validation_loss": 1.2 / epoch,
        "validation_accuracy": accuracy,
        "learning_rate": 0.01,
    }
    for epoch, accuracy in enumerate([0.7, 0.9, 0.8, 0.9], start=1)
]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def panels(figure: Figure) -> list[Any]:
    return list(figure.axes)


def shown(axes: Any) -> list[np.ndarray[Any, Any]]:
    """The pixels of every image on the axes, as they were given."""
    return [np.asarray(image.get_array()) for image in axes.get_images()]


# First nine (A10)


def test_first_nine_shows_nine_images_with_their_classes() -> None:
    figure = plots.first_nine(IMAGES, LABELS, [f"class {digit}" for digit in DIGITS])
    assert len(panels(figure)) == 9
    for i, axes in enumerate(panels(figure)):
        np.testing.assert_array_equal(shown(axes)[0], IMAGES[i, :, :, 0])
        assert axes.get_title() == f"class {LABELS[i]}"
        assert axes.get_images()[0].get_clim() == (0, 255)  # a dark image stays dark
        assert axes.get_images()[0].get_interpolation() == "nearest"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_first_nine_with_fewer_images_and_every_number_of_channels(count: int, channels: int) -> None:
    images = RANDOM.integers(0, 256, (count, 6, 4, channels), dtype=np.uint8)
    figure = plots.first_nine(images, np.zeros(count, np.int64), ["a"])
    assert len(panels(figure)) == count
    np.testing.assert_array_equal(
        shown(panels(figure)[-1])[0], images[-1].squeeze(axis=-1) if channels == 1 else images[-1]
    )


def test_first_nine_of_no_image_is_a_sentence() -> None:
    assert "There are no images." in texts(plots.first_nine(IMAGES[:0], LABELS[:0], DIGITS))


def test_first_nine_of_mnist(data_folder: Path) -> None:
    """A10: the article's picture shows 5 0 4, 1 9 2, 1 3 1."""
    pixels = gzip.decompress((data_folder / "mnist" / "train-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((data_folder / "mnist" / "train-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, count=9 * 784, offset=16).reshape(9, 28, 28, 1)
    figure = plots.first_nine(images, np.frombuffer(labels, np.uint8, count=9, offset=8), DIGITS)
    assert "".join(axes.get_title() for axes in panels(figure)) == "504192131"


# Learning curves


def test_learning_curves_plot_the_history_and_mark_the_epoch_that_was_kept() -> None:
    loss, accuracy = panels(plots.learning_curves(HISTORY, 2))
    lines = {(axes, line.get_label()): line.get_ydata() for axes in (loss, accuracy) for line in axes.get_lines()}
    np.testing.assert_allclose(lines[loss, "training"], [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(lines[loss, "validation"], [1.2, 0.6, 0.4, 0.3])
    np.testing.assert_allclose(lines[accuracy, "training"], [70, 85, 90, 92.5])
    np.testing.assert_allclose(lines[accuracy, "validation"], [70, 90, 80, 90])
    ring = accuracy.get_lines()[-1]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([2], [90])
    assert accuracy.get_title(loc="left") == "Accuracy in %: epoch 2 was kept, 90.00 % on validation"


def test_curves_measured_on_the_test_set_say_so() -> None:
    """A13: the article validates on the test set, and its last epoch is kept though another was better."""
    accuracy = panels(plots.learning_curves(HISTORY, 3, "test"))[1]
    assert list(accuracy.get_lines()[-1].get_xdata()) == [3]
    assert accuracy.get_title(loc="left") == "Accuracy in %: epoch 3 was kept, 80.00 % on test"
    assert "validation" not in [line.get_label() for line in accuracy.get_lines()]


def test_learning_curves_of_one_epoch_have_one_tick_and_visible_points() -> None:
    accuracy = panels(plots.learning_curves(HISTORY[:1], 1))[1]
    low, high = accuracy.get_xlim()
    assert [tick for tick in accuracy.get_xticks() if low <= tick <= high] == [1]
    assert all(line.get_marker() != "None" for line in accuracy.get_lines() if line.get_label() == "training")


def test_learning_curves_before_the_first_epoch_are_a_sentence() -> None:
    assert "No epoch has finished yet." in texts(plots.learning_curves([], 0))


# Confusion matrix


def test_confusion_matrix_scales_rows_to_the_largest_error() -> None:
    axes = panels(plots.confusion_matrix(np.array([[8, 2, 0], [1, 99, 0], [0, 0, 0]]), ["a", "b", "c"]))[0]
    image = axes.get_images()[0]
    errors = image.get_array()
    assert isinstance(errors, np.ma.MaskedArray)
    np.testing.assert_array_equal(errors.mask, np.eye(3, dtype=bool))
    np.testing.assert_allclose(errors.filled(-1), [[-1, 20, 0], [1, -1, 0], [0, 0, -1]])
    assert image.get_clim()[1] == 20
    assert to_hex(image.get_cmap().get_bad()) == PALE  # right answers are grey, however many
    assert to_hex(image.get_cmap()(image.norm(0.0))) == "#ffffff"


def test_confusion_matrix_writes_each_count_in_its_cell() -> None:
    axes = panels(plots.confusion_matrix(np.array([[8, 2], [1, 99]]), ["a", "b"]))[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "8", (1, 0): "2", (0, 1): "1", (1, 1): "99"}
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert colours["2"] == "white"  # on the darkest cell
    assert {colours["8"], colours["1"], colours["99"]} == {INK}
    assert axes.get_xlabel() == "the network's answer"
    assert axes.get_ylabel() == "true class"


@pytest.mark.parametrize(
    ("classes", "count", "labels", "counts"), [(2, 9, 2, 2), (43, 99, 43, 43), (43, 123456, 43, 0), (300, 9, 100, 0)]
)
def test_confusion_matrix_shows_as_many_names_and_counts_as_fit(
    classes: int, count: int, labels: int, counts: int
) -> None:
    matrix = np.eye(classes, dtype=np.int64) * count
    axes = panels(plots.confusion_matrix(matrix, [f"class {i}" for i in range(classes)]))[0]
    assert [len(axes.get_xticklabels()), len(axes.get_yticklabels())] == [labels, labels]
    assert len(axes.texts) == counts


# Worst mistakes


def mistakes() -> Figure:
    """Five images of three classes: 1 and 3 are right, the others wrong with the truth at 0.3, 0.1 and 0.0."""
    probabilities = np.array(
        [[0.3, 0.4, 0.3], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0], [0.0, 0.001, 0.999]], np.float32
    )
    return plots.worst_mistakes(IMAGES[:5], np.array([0, 1, 0, 2, 0]), probabilities, ["4", "9", "7"])


def test_worst_mistakes_come_in_the_order_of_their_loss() -> None:
    figure = mistakes()
    assert [axes.get_title() for axes in panels(figure)] == [
        "true 4,\nsaid 7 (>99 %)",
        "true 4,\nsaid 7 (70 %)",
        "true 4,\nsaid 9 (40 %)",
    ]
    for axes, index in zip(panels(figure), [4, 2, 0], strict=True):
        np.testing.assert_array_equal(shown(axes)[0], IMAGES[index, :, :, 0])
    assert "Worst mistakes: 3 of 3 wrong among 5 images" in texts(figure)


def test_a_short_mistake_is_one_line() -> None:
    figure = plots.worst_mistakes(IMAGES[:1], np.array([0]), np.array([[0.01, 0.99]]), ["4", "9"])
    assert panels(figure)[0].get_title() == "true 4, said 9 (99 %)"


def test_worst_mistakes_are_cut_at_the_count() -> None:
    labels = PROBABILITIES.argmin(axis=1)
    figure = plots.worst_mistakes(IMAGES, labels, PROBABILITIES, DIGITS, count=5)
    assert len(panels(figure)) == 5
    expected = np.argsort(-np.log(1 / PROBABILITIES.min(axis=1)))[:5]
    for axes, index in zip(panels(figure), expected, strict=True):
        np.testing.assert_array_equal(shown(axes)[0], IMAGES[index, :, :, 0])


def test_no_mistake_is_a_sentence() -> None:
    figure = plots.worst_mistakes(IMAGES, PROBABILITIES.argmax(axis=1), PROBABILITIES, DIGITS)
    assert "No mistakes: all 20 images were classified correctly." in texts(figure)
    assert not panels(figure)


# Filters


def test_filters_of_one_channel_share_a_scale_centred_on_zero() -> None:
    kernels = RANDOM.normal(size=(3, 5, 1, 12))
    figure = plots.filters(kernels)
    images = panels(figure)[0].get_images()
    for i, image in enumerate(images):
        np.testing.assert_array_equal(np.asarray(image.get_array()), kernels[:, :, 0, i])
        assert image.get_clim() == (-np.abs(kernels).max(), np.abs(kernels).max())
    assert len(images) == 12
    assert len(panels(figure)) == 2  # the filters and the colour bar
    assert "12 filters of the first layer, 3×5" in texts(figure)
    lower, upper = (to_hex(images[0].get_cmap()(x)) for x in (0.0, 1.0))
    assert (lower, upper) == ("#053061", "#67001f")  # blue is negative, red positive


def test_colour_filters_have_zero_in_the_middle_grey() -> None:
    kernels = np.zeros((2, 2, 3, 2))
    kernels[0, 0, 0, 0], kernels[1, 1, 2, 1] = 4.0, -2.0
    first, second = shown(panels(plots.filters(kernels))[0])
    np.testing.assert_allclose(first[0, 0], [1.0, 0.5, 0.5])
    np.testing.assert_allclose(first[0, 1], [0.5, 0.5, 0.5])
    np.testing.assert_allclose(second[1, 1], [0.5, 0.5, 0.25])


def test_filters_of_four_channels_say_which_one_is_shown() -> None:
    kernels = RANDOM.normal(size=(3, 3, 4, 6))
    figure = plots.filters(kernels)
    np.testing.assert_array_equal(shown(panels(figure)[0])[5], kernels[:, :, 0, 5])
    assert "weight: one scale for all; input channel 1 of 4" in texts(figure)


def test_more_than_64_filters_are_counted() -> None:
    figure = plots.filters(RANDOM.normal(size=(3, 3, 3, 96)))
    assert len(shown(panels(figure)[0])) == 64
    assert any("(32 more are not shown)" in text for text in texts(figure))


def test_filters_that_are_all_zero_are_drawn() -> None:
    assert panels(plots.filters(np.zeros((3, 3, 1, 4))))[0].get_images()[0].get_clim() == (-1, 1)


# Feature maps


@pytest.mark.parametrize(("offset", "limits"), [(0.0, (-1, 1)), (2.0, (0, 3))])
def test_feature_maps_share_one_scale(offset: float, limits: tuple[float, float]) -> None:
    maps = np.linspace(-1, 1, 3 * 4 * 5).reshape(3, 4, 5) + offset
    figure = plots.feature_maps("pool of conv1", maps)
    images = panels(figure)[0].get_images()
    assert len(images) == 5
    for i, image in enumerate(images):
        np.testing.assert_array_equal(np.asarray(image.get_array()), maps[..., i])
        assert image.get_clim() == limits
    assert {"pool of conv1", "activation: one scale for all maps"} <= set(texts(figure))
    assert [text.get_text() for text in panels(figure)[0].texts] == ["0", "1", "2", "3", "4"]


def test_values_that_are_not_finite_do_not_set_the_scale() -> None:
    images = panels(plots.feature_maps("conv1", np.array([[[np.nan, np.inf]], [[-1.0, 2.0]]])))[0].get_images()
    assert {image.get_clim() for image in images} == {(-2, 2)}


def test_tiles_lie_in_reading_order_and_keep_the_shape_of_their_maps() -> None:
    images = panels(plots.feature_maps("conv1", RANDOM.random((4, 8, 20))))[0].get_images()
    extents = [image.get_extent() for image in images]
    places = [(top, left) for left, right, bottom, top in extents]
    assert places == sorted(places)
    assert all(math.isclose((right - left) / (bottom - top), 2) for left, right, bottom, top in extents)
    assert all(right < following[0] for (_, right, _, _), following in itertools.pairwise(extents[:8]))


def test_more_than_64_maps_are_counted() -> None:
    figure = plots.feature_maps("conv9", RANDOM.random((2, 2, 100)))
    assert len(shown(panels(figure)[0])) == 64
    assert "activation: one scale for all maps\n(36 more are not shown)" in texts(figure)


def test_a_short_vector_is_drawn_as_bars() -> None:
    vector = np.array([1.5, -2.0, 0.0])
    bars = panels(plots.feature_maps("dense1", vector))[0].patches
    np.testing.assert_array_equal([bar.get_height() for bar in bars], vector)
    assert bars[0].get_facecolor() != bars[1].get_facecolor()


def test_a_long_vector_is_wrapped_like_text() -> None:
    vector = RANDOM.random(5408)
    figure = plots.feature_maps("flatten1", vector)
    lines = shown(panels(figure)[0])[0]
    assert lines.shape == (55, 100)
    np.testing.assert_array_equal(np.ma.filled(lines, np.nan).ravel()[:5408], vector)
    assert np.isnan(np.ma.filled(lines, np.nan).ravel()[5408:]).all()
    assert "activation of 5,408 entries, 100 per line" in texts(figure)


def test_a_vector_too_long_to_draw_says_how_much_is_missing() -> None:
    figure = plots.feature_maps("flatten1", np.ones(12_345))
    assert any("2,345 more are not shown" in text for text in texts(figure))


# Flatten (A7)


@pytest.mark.parametrize("shape", [(5, 6, 7), (13, 13, 32), (2, 2, 2), (4, 1, 3), (3, 3, 1), (1, 1, 5)])
def test_flatten_view_numbers_every_cell_with_its_place_in_the_vector(shape: tuple[int, int, int]) -> None:
    """A7: row, column, channel. The truth is numpy's own C order on distinct values."""
    maps = RANDOM.permutation(math.prod(shape)).reshape(shape).astype(float)
    vector = maps.ravel()
    *corners, _ = panels(plots.flatten_view(maps))
    assert len(corners) == min(3, shape[2])
    for channel, axes in enumerate(corners):
        assert axes.get_title() == f"map {channel}, upper left"
        assert len(axes.texts) == min(3, shape[0]) * min(4, shape[1])
        for text in axes.texts:
            column, row = (int(value) for value in text.get_position())
            assert vector[int(text.get_text())] == maps[row, column, channel]


def test_flatten_strip_has_the_entries_of_the_first_three_positions_in_their_colours() -> None:
    *corners, strip = panels(plots.flatten_view(np.ones((13, 13, 32))))
    entries = [text.get_text() for text in strip.texts if text.get_position()[1] == 0.5]
    assert entries == ["0", "1", "…", "31", "32", "33", "…", "63", "64", "65", "…", "95", "…", "5407", "place"]
    origins = [text.get_text() for text in strip.texts if text.get_position()[1] < 0]
    assert origins == ["row 0, column 0", "row 0, column 1", "row 0, column 2", "last"]
    maps = [text.get_text() for text in strip.texts if text.get_position()[1] == 1.3]
    assert maps == [*["0", "1", "31"] * 3, "31", "map"]
    frames = [to_hex(patch.get_edgecolor()) for patch in corners[0].patches]
    segments = [to_hex(patch.get_edgecolor()) for patch in strip.patches]
    assert len(set(frames)) == 3
    assert segments[:12] == [colour for colour in frames for _ in range(4)]
    assert not set(segments[12:]) & set(frames)


def test_flatten_view_states_the_rule_and_frames_the_first_positions() -> None:
    figure = plots.flatten_view(np.ones((4, 2, 5)))
    assert any("place = (row × 2 + column) × 5 + map" in text for text in texts(figure))
    assert "Flatten: 4×2 cells in 5 maps, one vector of 40" in texts(figure)
    corner = panels(figure)[0]
    centres = [(round(x + w / 2), round(y + h / 2)) for x, y, w, h in (p.get_bbox().bounds for p in corner.patches)]
    assert centres == [(0, 0), (1, 0), (0, 1)]  # (column, row)


# One image


def test_class_probabilities_are_the_ten_highest_in_order() -> None:
    probabilities = np.linspace(0.0, 0.16, 12)
    axes = panels(plots.class_probabilities(probabilities, [f"class {i}" for i in range(12)]))[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"class {i}" for i in range(11, 1, -1)]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], 100 * probabilities[:1:-1])
    assert [text.get_text() for text in axes.texts][:2] == ["16 %", "15 %"]
    assert axes.yaxis_inverted()  # the most probable is on top


def test_attribution_lies_over_the_image_in_signed_colours() -> None:
    heat = np.array([[0.0, 3.0], [-1.0, 0.5]])
    left, right, _ = panels(plots.attribution(IMAGES[0], heat))
    np.testing.assert_array_equal(shown(left)[0], IMAGES[0, :, :, 0])
    photo, overlay = right.get_images()
    assert overlay.get_extent() == photo.get_extent()
    assert overlay.get_clim() == (-3, 3)
    np.testing.assert_array_equal(np.asarray(overlay.get_array()), heat)
    assert overlay.get_cmap()(0.5)[3] < 0.01  # no attribution hides nothing
    assert overlay.get_cmap()(1.0)[3] == pytest.approx(0.9)


def test_attribution_that_is_never_negative_starts_at_zero() -> None:
    overlay = panels(plots.attribution(IMAGES[0], np.array([[0.0, 3.0]])))[1].get_images()[1]
    assert overlay.get_clim() == (0, 3)
    assert overlay.get_cmap()(0.0)[3] == 0


def test_before_after_of_relu_is_on_one_scale() -> None:
    """A4: what is negative before is zero, which is white, after."""
    before = np.array([[-3.0, 2.0], [1.0, -0.5]])
    left, right, _ = panels(plots.before_after(before, np.maximum(before, 0), ("before", "after ReLU")))
    assert left.get_images()[0].get_clim() == right.get_images()[0].get_clim() == (-3, 3)
    np.testing.assert_array_equal(shown(right)[0], [[0, 2], [1, 0]])
    assert [left.get_title(), right.get_title()] == ["before", "after ReLU"]


def test_before_after_shows_photos_as_they_are() -> None:
    photo = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    edges = RANDOM.normal(size=(6, 8))
    left, right, _ = panels(plots.before_after(photo, edges, ("photo", "edges")))
    np.testing.assert_array_equal(shown(left)[0], photo)
    assert right.get_images()[0].get_clim() == (-np.abs(edges).max(), np.abs(edges).max())
    assert len(panels(plots.before_after(photo, 255 - photo, ("photo", "negative")))) == 2  # no colour bar
