"""Pictures of a run: what they show, not only that they are drawn. ARTICLE rows A4, A7, A9, A10, A15."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from convscope.report import plots
from convscope.report.layout import BLUE, DPI, INK, PAD, PALE, VERMILION, WIDTH, Page, color_map, widest

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


def texts(page: Page) -> list[str]:
    return [text.get_text() for text in page.figure.findobj(Text) if isinstance(text, Text)]


def written(page: Page) -> list[str]:
    """What is written on the page itself, its title first."""
    return [text.get_text() for text in page.figure.texts]


def panels(page: Page) -> list[Any]:
    return list(page.figure.axes)


def pasted(page: Page, height: int, width: int) -> list[np.ndarray[Any, Any]]:
    """The small pictures on the page, read back at the middle of each of their height x width pixels: uint8 RGB."""
    found = []
    for picture, _ in page.pasted:
        pixels = np.asarray(picture)[1:-1, 1:-1]  # without its frame
        rows = (np.arange(height) + 0.5) * pixels.shape[0] / height
        columns = (np.arange(width) + 0.5) * pixels.shape[1] / width
        found.append(pixels[rows.astype(int)[:, None], columns.astype(int)])
    return found


def gray(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8 (h, w, 1, 3 or 4), opaque, as RGB."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


# First nine (A10)


def test_first_nine_shows_nine_images_with_their_classes() -> None:
    page = plots.first_nine(IMAGES // 4, LABELS, [f"class {digit}" for digit in DIGITS])
    assert len(page.pasted) == 9
    for image, found in zip(IMAGES // 4, pasted(page, 8, 8), strict=False):
        np.testing.assert_array_equal(found, gray(image))  # a dark image stays dark
    assert written(page)[1:] == [f"class {label}" for label in LABELS[:9]]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_first_nine_with_fewer_images_and_every_number_of_channels(count: int, channels: int) -> None:
    images = RANDOM.integers(0, 256, (count, 6, 4, channels), dtype=np.uint8)
    if channels == 4:
        images[..., 3] = 255
    found = pasted(plots.first_nine(images, np.zeros(count, np.int64), ["a"]), 6, 4)
    assert len(found) == count
    np.testing.assert_array_equal(found[-1], gray(images[-1]))


def test_first_nine_of_no_image_is_a_sentence() -> None:
    assert "There are no images." in texts(plots.first_nine(IMAGES[:0], LABELS[:0], DIGITS))


def test_first_nine_of_mnist(data_folder: Path) -> None:
    """A10: the article's picture shows 5 0 4, 1 9 2, 1 3 1."""
    pixels = gzip.decompress((data_folder / "mnist" / "train-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((data_folder / "mnist" / "train-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, count=9 * 784, offset=16).reshape(9, 28, 28, 1)
    page = plots.first_nine(images, np.frombuffer(labels, np.uint8, count=9, offset=8), DIGITS)
    assert "".join(written(page)[1:]) == "504192131"


def test_pictures_lie_in_reading_order_under_their_titles() -> None:
    page = plots.first_nine(IMAGES, LABELS, DIGITS)
    places = [(top, left) for _, (left, top) in page.pasted]
    assert places == sorted(places)
    for (picture, (left, top)), title in zip(page.pasted, page.figure.texts[1:], strict=True):
        x, y = title.get_position()
        assert x * page.width * DPI == pytest.approx(left + picture.width / 2, abs=2)
        assert top - 25 < (1 - y) * page.height * DPI < top


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
    assert to_hex(image.get_cmap().get_bad()) == PALE  # right answers are gray, however many
    assert to_hex(image.get_cmap()(image.norm(0.0))) == "#ffffff"


def test_confusion_matrix_writes_each_count_in_its_cell() -> None:
    axes = panels(plots.confusion_matrix(np.array([[8, 2], [1, 99]]), ["a", "b"]))[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "8", (1, 0): "2", (0, 1): "1", (1, 1): "99"}
    colors = {text.get_text(): text.get_color() for text in axes.texts}
    assert colors["2"] == "white"  # on the darkest cell
    assert {colors["8"], colors["1"], colors["99"]} == {INK}
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


def mistakes(classes: list[str]) -> Page:
    probabilities = np.array([[0.0, 0.001, 0.999], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]], np.float32)
    return plots.worst_mistakes(IMAGES[:3], np.array([0, 0, 0]), probabilities, classes, 1_447, 10_000)


def test_worst_mistakes_say_what_was_right_and_what_was_answered() -> None:
    page = mistakes(["4", "9", "7"])
    assert written(page) == [
        "Worst mistakes: 3 of 1,447 wrong among 10,000 images",
        "true 4,\nsaid 7 (>99 %)",
        "true 4,\nsaid 7 (70 %)",
        "true 4,\nsaid 9 (40 %)",
    ]
    for image, found in zip(IMAGES, pasted(page, 8, 8), strict=False):
        np.testing.assert_array_equal(found, gray(image))


def test_a_short_mistake_is_one_line_and_a_long_one_three() -> None:
    page = plots.worst_mistakes(IMAGES[:1], np.array([0]), np.array([[0.01, 0.99]]), ["4", "9"], 1, 1)
    assert written(page)[1] == "true 4, said 9 (99 %)"
    assert written(mistakes(["sweatshirt", "ankle boots", "dressing gown"]))[1] == (
        "true sweatshirt,\nsaid dressing gown\n(>99 %)"
    )


def test_a_mistakes_file_stands_above_it() -> None:
    page = plots.worst_mistakes(
        IMAGES[:1], np.array([0]), np.array([[0.01, 0.99]]), ["4", "9"], 1, 1, ["a-picture-with-a-very-long-name.png"]
    )
    first, second = written(page)[1].split("\n")
    assert second == "true 4, said 9 (99 %)"
    assert first == "a-picture-with…"


def test_what_stands_above_mistakes_beside_each_other_does_not_touch() -> None:
    for classes in (["4", "9", "7"], ["sunflower", "rose", "dandelion"], ["Ankle boot", "Shirt", "Sneaker"]):
        images, labels = np.repeat(IMAGES[:1], 4, axis=0), np.zeros(4, np.int64)
        probabilities = np.array([[0.0, 0.0, 1.0]] * 4, np.float32)
        files = ["2660444901_01dacde3f0.jpg"] * 4
        titles = written(plots.worst_mistakes(images, labels, probabilities, classes, 9, 99, files))[1:]
        assert len(titles) == 4
        assert widest([line for title in titles for line in title.split("\n")], 9) < (WIDTH - 2 * PAD + 0.15) / 4


def test_no_mistake_is_a_sentence() -> None:
    page = plots.worst_mistakes(IMAGES[:0], LABELS[:0], PROBABILITIES[:0], DIGITS, 0, 20)
    assert "No mistakes: all 20 images were classified correctly." in texts(page)
    assert not page.pasted


# Filters


def test_filters_of_one_channel_share_a_scale_centerd_on_zero() -> None:
    kernels = RANDOM.normal(size=(3, 5, 1, 12))
    kernels[0, 0, 0, :3] = 0, 9, -9  # the last two are the ends of the scale
    page = plots.filters(kernels)
    found = pasted(page, 3, 5)[:12]
    expected = color_map("RdBu_r")((kernels[:, :, 0].transpose(2, 0, 1) + 9) / 18, bytes=True)[..., :3]
    np.testing.assert_array_equal(found, expected)
    white, red, blue = (to_hex(tile[0, 0] / 255) for tile in found[:3])
    assert (white, red, blue) == ("#f7f6f6", "#67001f", "#053061")  # blue is negative, red positive
    assert written(page)[0] == "12 filters of the first layer, 3×5"
    assert written(page)[-1] == "weight: one scale for all"


def test_color_filters_have_zero_in_the_middle_gray() -> None:
    kernels = np.zeros((2, 2, 3, 2))
    kernels[0, 0, 0, 0], kernels[1, 1, 2, 1] = 4.0, -2.0
    first, second = pasted(plots.filters(kernels), 2, 2)
    assert first[0, 0].tolist() == [255, 128, 128]
    assert first[0, 1].tolist() == [128, 128, 128]
    assert second[1, 1].tolist() == [128, 128, 64]


def test_filters_of_four_channels_say_which_one_is_shown() -> None:
    kernels = RANDOM.normal(size=(3, 3, 4, 6))
    page = plots.filters(kernels)
    limit = abs(kernels).max()
    expected = color_map("RdBu_r")((kernels[:, :, 0, 5] + limit) / (2 * limit), bytes=True)[..., :3]
    np.testing.assert_array_equal(pasted(page, 3, 3)[5], expected)
    assert "weight: one scale for all; input channel 1 of 4" in texts(page)


def test_more_than_64_filters_are_counted() -> None:
    page = plots.filters(RANDOM.normal(size=(3, 3, 3, 96)))
    assert len(page.pasted) == 64
    assert any("(32 more are not shown)" in text for text in texts(page))


def test_filters_that_are_all_zero_are_drawn() -> None:
    page = plots.filters(np.zeros((3, 3, 1, 4)))
    assert (np.asarray(pasted(page, 3, 3)[:4]) == pasted(page, 3, 3)[0][0, 0]).all()
    assert written(page)[-6:-1] == ["−1", "−0.5", "0", "0.5", "1"]


# Feature maps


@pytest.mark.parametrize(("offset", "colors", "low"), [(0.0, "RdBu_r", -1.0), (2.0, "viridis", 0.0)])
def test_feature_maps_share_one_scale(offset: float, colors: str, low: float) -> None:
    maps = np.linspace(-1, 1, 3 * 4 * 5).reshape(3, 4, 5) + offset
    page = plots.feature_maps("pool of conv1", maps)
    expected = color_map(colors)((maps.transpose(2, 0, 1) - low) / (maps.max() - low), bytes=True)[..., :3]
    np.testing.assert_array_equal(pasted(page, 3, 4)[:5], expected)
    assert written(page)[:6] == ["pool of conv1", "0", "1", "2", "3", "4"]
    assert written(page)[-1] == "activation: one scale for all maps"


def test_values_that_are_not_finite_do_not_set_the_scale_and_are_left_white() -> None:
    page = plots.feature_maps("conv1", np.array([[[np.nan, np.inf]], [[-1.0, 2.0]]]))
    first, second, *_ = pasted(page, 2, 1)
    assert (first[0] == 255).all()
    assert (second[0] == 255).all()
    assert to_hex(second[1, 0] / 255) == "#67001f"


def test_tiles_lie_in_reading_order_and_keep_the_shape_of_their_maps() -> None:
    tiles = plots.feature_maps("conv1", RANDOM.random((4, 8, 20))).pasted[:20]
    places = [(top, left) for _, (left, top) in tiles]
    assert places == sorted(places)
    assert len({top for top, _ in places}) == 3
    assert all(abs(picture.width - 2 * picture.height) <= 3 for picture, _ in tiles)
    assert all(
        one_left + picture.width < left
        for (picture, (one_left, _)), (_, (left, _)) in itertools.pairwise(tiles[:8])
    )  # fmt: skip


def test_more_than_64_maps_are_counted() -> None:
    page = plots.feature_maps("conv9", RANDOM.random((2, 2, 100)))
    assert written(page)[1:65] == [str(i) for i in range(64)]
    assert "activation: one scale for all maps\n(36 more are not shown)" in texts(page)


def test_a_short_vector_is_drawn_as_bars() -> None:
    vector = np.array([1.5, -2.0, 0.0])
    bars = panels(plots.feature_maps("dense1", vector))[0].patches
    np.testing.assert_array_equal([bar.get_height() for bar in bars], vector)
    assert bars[0].get_facecolor() != bars[1].get_facecolor()


def test_a_long_vector_is_wrapped_like_text() -> None:
    vector = RANDOM.random(5408)
    vector[7] = 1
    page = plots.feature_maps("flatten1", vector)
    (image,) = panels(page)[0].get_images()
    lines = np.asarray(image.get_array())
    assert lines.shape == (55, 100, 4)
    np.testing.assert_array_equal(lines.reshape(-1, 4)[:5408], color_map("viridis")(vector, bytes=True))
    assert (lines.reshape(-1, 4)[5408:, 3] == 0).all()
    assert "activation of 5,408 entries, 100 per line" in texts(page)


def test_a_vector_too_long_to_draw_says_how_much_is_missing() -> None:
    page = plots.feature_maps("flatten1", np.ones(12_345))
    assert any("2,345 more are not shown" in text for text in texts(page))


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


def test_flatten_strip_has_the_entries_of_the_first_three_positions_in_their_colors() -> None:
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
    assert segments[:12] == [color for color in frames for _ in range(4)]
    assert not set(segments[12:]) & set(frames)


def test_flatten_view_states_the_rule_and_frames_the_first_positions() -> None:
    page = plots.flatten_view(np.ones((4, 2, 5)))
    assert any("place = (row × 2 + column) × 5 + map" in text for text in texts(page))
    assert "Flatten: 4×2 cells in 5 maps, one vector of 40" in texts(page)
    corner = panels(page)[0]
    centers = [(round(x + w / 2), round(y + h / 2)) for x, y, w, h in (p.get_bbox().bounds for p in corner.patches)]
    assert centers == [(0, 0), (1, 0), (0, 1)]  # (column, row)


# One image


def test_class_probabilities_are_the_ten_highest_in_order() -> None:
    probabilities = np.linspace(0.0, 0.16, 12)
    axes = panels(plots.class_probabilities(probabilities, [f"class {i}" for i in range(12)]))[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"class {i}" for i in range(11, 1, -1)]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], 100 * probabilities[:1:-1])
    assert [text.get_text() for text in axes.texts][:2] == ["16 %", "15 %"]
    assert axes.yaxis_inverted()  # the most probable is on top


def test_attribution_lies_over_the_image_in_signed_colors() -> None:
    """Orange for, blue against, and the pale image where it is zero; the strongest hides nine tenths of it."""
    heat = np.zeros((4, 4))
    heat[0, 1], heat[3, 0] = 3.0, -3.0
    page = plots.attribution(IMAGES[0], heat)
    image, over, *_ = pasted(page, 8, 8)
    np.testing.assert_array_equal(image, gray(IMAGES[0]))
    pale = np.rint(0.3 * IMAGES[0] + 178)
    np.testing.assert_allclose(over[2:6, 2:6], np.repeat(pale[2:6, 2:6], 3, axis=2), atol=1)
    for_, against = (np.array(to_rgb(color)) * 255 for color in (VERMILION, BLUE))
    np.testing.assert_allclose(over[1, 3], 0.9 * for_ + 0.1 * pale[1, 3], atol=2)
    np.testing.assert_allclose(over[6, 0], 0.9 * against + 0.1 * pale[6, 0], atol=2)
    assert written(page)[1:3] == ["the image", "attribution"]
    assert "against ← 0 → for the answer" in written(page)


def test_attribution_that_is_never_negative_starts_at_zero() -> None:
    page = plots.attribution(IMAGES[0], np.array([[0.0, 3.0]]))
    assert written(page)[3:] == ["0", "0.5", "1", "1.5", "2", "2.5", "3", "0 → for the answer"]


def test_before_after_of_relu_is_on_one_scale() -> None:
    """A4: what is negative before is zero, which is white, after."""
    before = np.array([[-3.0, 2.0], [1.0, -0.5]])
    page = plots.before_after(before, np.maximum(before, 0), ("before", "after ReLU"))
    left, right, *_ = pasted(page, 2, 2)
    paint = color_map("RdBu_r")
    np.testing.assert_array_equal(left, paint((before + 3) / 6, bytes=True)[..., :3])
    np.testing.assert_array_equal(right, paint((np.maximum(before, 0) + 3) / 6, bytes=True)[..., :3])
    assert written(page)[1:3] == ["before", "after ReLU"]


def test_before_after_shows_photos_as_they_are() -> None:
    photo = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    edges = RANDOM.normal(size=(6, 8))
    limit = np.abs(edges).max()
    left, right, *_ = pasted(plots.before_after(photo, edges, ("photo", "edges")), 6, 8)
    np.testing.assert_array_equal(left, photo)
    np.testing.assert_array_equal(right, color_map("RdBu_r")((edges + limit) / (2 * limit), bytes=True)[..., :3])
    assert len(plots.before_after(photo, 255 - photo, ("photo", "negative")).pasted) == 2  # no color bar
