"""Plots of layers: what they show. ARTICLE rows A2, A4, A7, A9, A15."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from convscope.report import heat_plots, layer_plots
from convscope.report.canvas import BLUE, VERMILION
from convscope.report.layout import color_map
from helpers.canvases import gray, images_of, own_texts, panels, texts

RANDOM = np.random.default_rng(7)
IMAGES = RANDOM.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)


# Filters


def test_filters_one_channel_share_a_scale_centered_on_zero() -> None:
    kernels = RANDOM.normal(size=(3, 5, 1, 12))
    kernels[0, 0, 0, :3] = 0, 9, -9  # the last two are the ends of the scale
    canvas = layer_plots.filters(kernels)
    found = images_of(canvas, 3, 5)[:12]
    expected = color_map("RdBu_r")((kernels[:, :, 0].transpose(2, 0, 1) + 9) / 18, bytes=True)[..., :3]
    np.testing.assert_array_equal(found, expected)
    white, red, blue = (to_hex(tile[0, 0] / 255) for tile in found[:3])
    assert (white, red, blue) == ("#f7f6f6", "#67001f", "#053061")  # blue is negative, red positive
    assert own_texts(canvas)[0] == "12 filters of the first layer, 3×5"
    assert own_texts(canvas)[-1] == "weight, on one scale for all filters"


def test_filters_of_colors_have_zero_in_middle_gray() -> None:
    kernels = np.zeros((2, 2, 3, 2))
    kernels[0, 0, 0, 0], kernels[1, 1, 2, 1] = 4.0, -2.0
    first, second = images_of(layer_plots.filters(kernels), 2, 2)
    assert first[0, 0].tolist() == [255, 128, 128]
    assert first[0, 1].tolist() == [128, 128, 128]
    assert second[1, 1].tolist() == [128, 128, 64]


def test_filters_four_channels_say_which_one_is_shown() -> None:
    kernels = RANDOM.normal(size=(3, 3, 4, 6))
    canvas = layer_plots.filters(kernels)
    limit = abs(kernels).max()
    expected = color_map("RdBu_r")((kernels[:, :, 0, 5] + limit) / (2 * limit), bytes=True)[..., :3]
    np.testing.assert_array_equal(images_of(canvas, 3, 3)[5], expected)
    assert "weight, on one scale for all filters; input channel 1 of 4" in texts(canvas)


def test_filters_more_than_64_are_counted() -> None:
    canvas = layer_plots.filters(RANDOM.normal(size=(3, 3, 3, 96)))
    assert len(canvas.images) == 64
    assert any("(32 more are not shown)" in text for text in texts(canvas))


def test_filters_all_zero_are_drawn() -> None:
    canvas = layer_plots.filters(np.zeros((3, 3, 1, 4)))
    assert (np.asarray(images_of(canvas, 3, 3)[:4]) == images_of(canvas, 3, 3)[0][0, 0]).all()
    assert own_texts(canvas)[-6:-1] == ["−1", "−0.5", "0", "0.5", "1"]


# Feature maps


@pytest.mark.parametrize(("offset", "colors", "low"), [(0.0, "RdBu_r", -1.0), (2.0, "viridis", 0.0)])
def test_feature_maps_share_one_scale(offset: float, colors: str, low: float) -> None:
    maps = np.linspace(-1, 1, 3 * 4 * 5).reshape(3, 4, 5) + offset
    canvas = layer_plots.feature_maps("pool of conv1", maps)
    expected = color_map(colors)((maps.transpose(2, 0, 1) - low) / (maps.max() - low), bytes=True)[..., :3]
    np.testing.assert_array_equal(images_of(canvas, 3, 4)[:5], expected)
    assert own_texts(canvas)[:6] == ["pool of conv1", "0", "1", "2", "3", "4"]
    assert own_texts(canvas)[-1] == "activation, on one scale for all maps"


def test_feature_maps_non_finite_values_are_white_and_ignored_by_the_scale() -> None:
    canvas = layer_plots.feature_maps("conv1", np.array([[[np.nan, np.inf]], [[-1.0, 2.0]]]))
    first, second, *_ = images_of(canvas, 2, 1)
    assert (first[0] == 255).all()
    assert (second[0] == 255).all()
    assert to_hex(second[1, 0] / 255) == "#67001f"


def test_feature_maps_are_in_reading_order_with_their_aspect_ratio() -> None:
    tiles = layer_plots.feature_maps("conv1", RANDOM.random((4, 8, 20))).images[:20]
    positions = [(top, left) for _, (left, top) in tiles]
    assert positions == sorted(positions)
    assert len({top for top, _ in positions}) == 3
    assert all(abs(image.width - 2 * image.height) <= 3 for image, _ in tiles)
    assert all(
        one_left + image.width < left
        for (image, (one_left, _)), (_, (left, _)) in itertools.pairwise(tiles[:8])
    )  # fmt: skip


def test_feature_maps_more_than_64_are_counted() -> None:
    canvas = layer_plots.feature_maps("conv9", RANDOM.random((2, 2, 100)))
    assert own_texts(canvas)[1:65] == [str(i) for i in range(64)]
    assert "activation, on one scale for all maps\n(36 more are not shown)" in texts(canvas)


def test_feature_maps_short_vector_is_bars() -> None:
    vector = np.array([1.5, -2.0, 0.0])
    bars = panels(layer_plots.feature_maps("dense1", vector))[0].patches
    np.testing.assert_array_equal([bar.get_height() for bar in bars], vector)
    assert bars[0].get_facecolor() != bars[1].get_facecolor()


def test_feature_maps_long_vector_is_wrapped() -> None:
    vector = RANDOM.random(5408)
    vector[7] = 1
    canvas = layer_plots.feature_maps("flatten1", vector)
    (image,) = panels(canvas)[0].get_images()
    lines = np.asarray(image.get_array())
    assert lines.shape == (55, 100, 4)
    np.testing.assert_array_equal(lines.reshape(-1, 4)[:5408], color_map("viridis")(vector, bytes=True))
    assert (lines.reshape(-1, 4)[5408:, 3] == 0).all()
    assert "activation of 5,408 entries, 100 per row" in texts(canvas)


def test_feature_maps_very_long_vector_counts_omitted_entries() -> None:
    canvas = layer_plots.feature_maps("flatten1", np.ones(12_345))
    assert any("2,345 more are not shown" in text for text in texts(canvas))


# Flatten (A7)


@pytest.mark.parametrize("shape", [(5, 6, 7), (13, 13, 32), (2, 2, 2), (4, 1, 3), (3, 3, 1), (1, 1, 5)])
def test_flatten_view_cells_hold_their_index_in_the_vector(shape: tuple[int, int, int]) -> None:
    """A7: row, column, channel, compared with NumPy's C order of distinct values."""
    maps = RANDOM.permutation(math.prod(shape)).reshape(shape).astype(float)
    vector = maps.ravel()
    *corners, _ = panels(layer_plots.flatten_view(maps))
    assert len(corners) == min(3, shape[2])
    for channel, axes in enumerate(corners):
        assert axes.get_title() == f"map {channel}, upper left"
        assert len(axes.texts) == min(3, shape[0]) * min(4, shape[1])
        for text in axes.texts:
            column, row = (int(value) for value in text.get_position())
            assert vector[int(text.get_text())] == maps[row, column, channel]


def test_flatten_view_strip_colors_the_first_three_positions() -> None:
    *corners, strip = panels(layer_plots.flatten_view(np.ones((13, 13, 32))))
    entries = [text.get_text() for text in strip.texts if text.get_position()[1] == 0.5]
    assert entries == ["0", "1", "…", "31", "32", "33", "…", "63", "64", "65", "…", "95", "…", "5407", "index"]
    origins = [text.get_text() for text in strip.texts if text.get_position()[1] < 0]
    assert origins == ["row 0, column 0", "row 0, column 1", "row 0, column 2", "last"]
    maps = [text.get_text() for text in strip.texts if text.get_position()[1] == 1.3]
    assert maps == [*["0", "1", "31"] * 3, "31", "map"]
    frames = [to_hex(patch.get_edgecolor()) for patch in corners[0].patches]
    segments = [to_hex(patch.get_edgecolor()) for patch in strip.patches]
    assert len(set(frames)) == 3
    assert segments[:12] == [color for color in frames for _ in range(4)]
    assert not set(segments[12:]) & set(frames)


def test_flatten_view_states_the_rule_and_frames_positions() -> None:
    canvas = layer_plots.flatten_view(np.ones((4, 2, 5)))
    assert any("index = (row × 2 + column) × 5 + map" in text for text in texts(canvas))
    assert "Flatten: 4×2 cells in 5 maps, one vector of 40" in texts(canvas)
    corner = panels(canvas)[0]
    centers = [(round(x + w / 2), round(y + h / 2)) for x, y, w, h in (p.get_bbox().bounds for p in corner.patches)]
    assert centers == [(0, 0), (1, 0), (0, 1)]  # (column, row)


# One image


def test_class_scores_have_the_names_of_the_classes_in_their_order() -> None:
    (axes,) = panels(layer_plots.class_scores("classifier", np.array([0.5, -2.0, 1.0]), ["cat", "dog", "owl"]))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["cat", "dog", "owl"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [0.5, -2.0, 1.0])


def test_class_scores_of_many_classes_are_the_highest() -> None:
    scores = np.random.default_rng(0).normal(size=100)
    (axes,) = panels(layer_plots.class_scores("classifier", scores, [f"s{i}" for i in range(100)]))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"s{i}" for i in np.argsort(-scores)[:20]]
    assert axes.get_xlabel() == "the 20 highest of 100 scores"


def test_class_probabilities_show_the_ten_highest_in_order() -> None:
    probabilities = np.linspace(0.0, 0.16, 12)
    axes = panels(layer_plots.class_probabilities(probabilities, [f"class {i}" for i in range(12)]))[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"class {i}" for i in range(11, 1, -1)]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], 100 * probabilities[:1:-1])
    assert [text.get_text() for text in axes.texts][:2] == ["16 %", "15 %"]
    assert axes.yaxis_inverted()  # the most probable one is on top


def test_attribution_is_over_the_image_in_signed_colors() -> None:
    """Orange for, blue against, the pale image at zero; the strongest color has an opacity of 0.9."""
    heat = np.zeros((4, 4))
    heat[0, 1], heat[3, 0] = 3.0, -3.0
    canvas = heat_plots.attribution(IMAGES[0], heat)
    image, over, *_ = images_of(canvas, 8, 8)
    np.testing.assert_array_equal(image, gray(IMAGES[0]))
    pale = np.rint(0.3 * IMAGES[0] + 178)
    np.testing.assert_allclose(over[2:6, 2:6], np.repeat(pale[2:6, 2:6], 3, axis=2), atol=1)
    for_, against = (np.array(to_rgb(color)) * 255 for color in (VERMILION, BLUE))
    np.testing.assert_allclose(over[1, 3], 0.9 * for_ + 0.1 * pale[1, 3], atol=2)
    np.testing.assert_allclose(over[6, 0], 0.9 * against + 0.1 * pale[6, 0], atol=2)
    assert own_texts(canvas)[1:3] == ["image", "attribution"]
    assert "against ← 0 → for the predicted class" in own_texts(canvas)


def test_attribution_without_negative_values_starts_at_zero() -> None:
    canvas = heat_plots.attribution(IMAGES[0], np.array([[0.0, 3.0]]))
    assert own_texts(canvas)[3:] == ["0", "0.5", "1", "1.5", "2", "2.5", "3", "0 → for the predicted class"]


def test_region_maps_have_a_scale_each_in_a_row_by_image() -> None:
    heats = np.zeros((2, 2, 8, 8))
    heats[0, 0, 1, 3], heats[0, 1, 1, 3], heats[1, 0, 1, 3] = 2.0, 50.0, -1.0
    titles = ["one", "a", "b", "two", "c", "d"]
    canvas = heat_plots.region_maps("Regions", IMAGES[:2], heats, titles)
    assert own_texts(canvas) == ["Regions", *titles, "orange: for the class, blue: against it"]
    first, a, b, second, c, d = images_of(canvas, 8, 8)
    np.testing.assert_array_equal(first, gray(IMAGES[0]))
    np.testing.assert_array_equal(second, gray(IMAGES[1]))
    pale = np.rint(0.3 * IMAGES[:2, 1, 3] + 178)
    for tile, color, image in ((a, VERMILION, 0), (b, VERMILION, 0), (c, BLUE, 1)):
        np.testing.assert_allclose(tile[1, 3], 0.9 * np.array(to_rgb(color)) * 255 + 0.1 * pale[image], atol=2)
    np.testing.assert_allclose(d[1, 3], np.repeat(pale[1], 3), atol=1)


def test_before_after_of_relu_shares_one_scale() -> None:
    """A4: negative values become zero, which is white."""
    before = np.array([[-3.0, 2.0], [1.0, -0.5]])
    canvas = layer_plots.before_after(before, np.maximum(before, 0), ("before", "after ReLU"))
    left, right, *_ = images_of(canvas, 2, 2)
    paint = color_map("RdBu_r")
    np.testing.assert_array_equal(left, paint((before + 3) / 6, bytes=True)[..., :3])
    np.testing.assert_array_equal(right, paint((np.maximum(before, 0) + 3) / 6, bytes=True)[..., :3])
    assert own_texts(canvas)[1:3] == ["before", "after ReLU"]


def test_before_after_shows_photos_unchanged() -> None:
    photo = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    edges = RANDOM.normal(size=(6, 8))
    limit = np.abs(edges).max()
    left, right, *_ = images_of(layer_plots.before_after(photo, edges, ("photo", "edges")), 6, 8)
    np.testing.assert_array_equal(left, photo)
    np.testing.assert_array_equal(right, color_map("RdBu_r")((edges + limit) / (2 * limit), bytes=True)[..., :3])
    assert len(layer_plots.before_after(photo, 255 - photo, ("photo", "negative")).images) == 2  # no color bar
