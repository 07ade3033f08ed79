"""All plots: no clipped or overlapping text, equal bytes, no global state, any class name; canvases and scales."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from convscope.report import heat_plots, layer_plots, plots
from convscope.report.canvas import DPI, RULE, Box, Canvas
from convscope.report.layout import COLOR_BAR_HEIGHT, ColorScale, color_map, tile_grid

pytestmark = pytest.mark.slow

DIGITS = [str(digit) for digit in range(10)]
SIGNS = [f"speed limit {10 * i} for heavy lorries" for i in range(43)]
RANDOM = np.random.default_rng(7)
IMAGES = RANDOM.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
LABELS = RANDOM.integers(0, 10, 20)
PROBABILITIES = RANDOM.dirichlet(np.ones(10), 20)
CONFUSION = RANDOM.integers(0, 3, (10, 10)) + 90 * np.eye(10, dtype=np.int64)
MAPS = RANDOM.normal(size=(5, 6, 7))
NOT_FINITE = np.array([[[np.nan, np.inf]], [[-1.0, 2.0]]])
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


def noise(shape: tuple[int, ...] | int) -> np.ndarray[Any, Any]:
    """The same random numbers in each call."""
    return np.random.default_rng(3).normal(size=shape)


PLOTS: dict[str, Callable[[], Canvas]] = {
    "first_nine": lambda: plots.first_nine(IMAGES, LABELS, DIGITS),
    "first_nine, long names": lambda: plots.first_nine(IMAGES, LABELS, SIGNS),
    "first_nine, none": lambda: plots.first_nine(IMAGES[:0], LABELS[:0], DIGITS),
    "learning_curves": lambda: plots.learning_curves(HISTORY, 2),
    "learning_curves, one epoch": lambda: plots.learning_curves(HISTORY[:1], 1),
    "learning_curves, diverged": lambda: plots.learning_curves([*HISTORY, {**HISTORY[0], "train_loss": math.nan}], 4),
    "confusion_matrix": lambda: plots.confusion_matrix(CONFUSION, DIGITS),
    "confusion_matrix, one never recognized": lambda: plots.confusion_matrix(
        CONFUSION * (np.arange(10) != 3)[None], DIGITS
    ),
    "confusion_matrix, 2": lambda: plots.confusion_matrix(CONFUSION[:2, :2], ["cat", "dog"]),
    "confusion_matrix, 43": lambda: plots.confusion_matrix(np.eye(43, dtype=np.int64) * 60, SIGNS),
    "worst_mistakes": lambda: plots.worst_mistakes(IMAGES[:16], LABELS[:16], PROBABILITIES[:16], DIGITS, (16, 20)),
    "worst_mistakes, long names": lambda: plots.worst_mistakes(
        IMAGES[:16], LABELS[:16], PROBABILITIES[:16], SIGNS[30:40], (1_447, 10_000)
    ),
    "worst_mistakes, one": lambda: plots.worst_mistakes(
        IMAGES[:1], np.array([0]), np.array([[0.1, 0.9]]), ["a", "b"], (1, 9)
    ),
    "worst_mistakes, none": lambda: plots.worst_mistakes(IMAGES[:0], LABELS[:0], PROBABILITIES[:0], DIGITS, (0, 20)),
    "filters": lambda: layer_plots.filters(noise((3, 3, 1, 32))),
    "filters, color": lambda: layer_plots.filters(noise((5, 5, 3, 96))),
    "filters, one": lambda: layer_plots.filters(noise((5, 5, 1, 1))),
    "class_scores": lambda: layer_plots.class_scores("classifier: dense 10", noise(10), DIGITS),
    "class_scores, long names": lambda: layer_plots.class_scores("classifier: dense 43", 100 * noise(43), SIGNS),
    "class_scores, two": lambda: layer_plots.class_scores("classifier: dense 2", noise(2), ["cat", "dog"]),
    "feature_maps": lambda: layer_plots.feature_maps("conv1", MAPS),
    "feature_maps, tiny values": lambda: layer_plots.feature_maps("conv1", 1e-5 * MAPS),
    "feature_maps, huge values": lambda: layer_plots.feature_maps("conv1", 1e9 * MAPS),
    "feature_maps, tall": lambda: layer_plots.feature_maps("conv1", noise((90, 1, 3))),
    "feature_maps, wide": lambda: layer_plots.feature_maps("conv1", noise((1, 900, 3))),
    "feature_maps, 100": lambda: layer_plots.feature_maps("conv1", abs(noise((4, 9, 100)))),
    "feature_maps, vector": lambda: layer_plots.feature_maps("dense1", noise(100)),
    "feature_maps, vector of few lines": lambda: layer_plots.feature_maps("flatten1", abs(noise(1568))),
    "feature_maps, vector of two lines": lambda: layer_plots.feature_maps("flatten1", abs(noise(130))),
    "feature_maps, long vector": lambda: layer_plots.feature_maps("flatten1", abs(noise(5408))),
    "feature_maps, not finite": lambda: layer_plots.feature_maps("conv1", NOT_FINITE),
    "flatten_view": lambda: layer_plots.flatten_view(MAPS),
    "flatten_view, one map": lambda: layer_plots.flatten_view(MAPS[..., :1]),
    "flatten_view, large": lambda: layer_plots.flatten_view(np.ones((112, 112, 64))),
    "flatten_view, one cell": lambda: layer_plots.flatten_view(MAPS[:1, :1]),
    "class_probabilities": lambda: layer_plots.class_probabilities(PROBABILITIES[0], DIGITS),
    "class_probabilities, long names": lambda: layer_plots.class_probabilities(np.full(43, 1 / 43), SIGNS),
    "attribution": lambda: heat_plots.attribution(IMAGES[0], noise((4, 4))),
    "region_maps": lambda: heat_plots.region_maps("Regions", IMAGES[:2], np.ones((2, 2, 8, 8)), ["a", "b", "c"] * 2),
    "before_after": lambda: layer_plots.before_after(MAPS[..., 0], np.maximum(MAPS[..., 0], 0), ("before", "after")),
}


@pytest.mark.parametrize("name", PLOTS)
def test_plot_texts_are_inside_the_figure_and_do_not_overlap(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: dict[Text, Bbox] = {}
    draw = Text.draw

    def record(text: Text, renderer: Any, *rest: Any) -> None:
        draw(text, renderer, *rest)
        if text.get_visible() and text.get_text().strip():
            boxes[text] = text.get_window_extent(renderer)

    monkeypatch.setattr(Text, "draw", record)
    made = PLOTS[name]()
    made.png()
    canvas = made.figure.bbox.padded(1)
    outside = [text.get_text() for text, box in boxes.items() if not all(canvas.contains(*p) for p in (box.p0, box.p1))]
    pairs = itertools.combinations(boxes.items(), 2)
    touching = [(a.get_text(), b.get_text()) for (a, one), (b, other) in pairs if one.padded(-2).overlaps(other)]
    assert boxes
    assert not outside
    assert not touching


@pytest.mark.parametrize("name", PLOTS)
def test_plot_same_data_gives_same_bytes_and_keeps_global_settings(name: str) -> None:
    settings = dict(matplotlib.rcParams)
    first = PLOTS[name]()
    data = first.png()
    assert data == PLOTS[name]().png() == first.png()
    assert dict(matplotlib.rcParams) == settings
    assert data.startswith(b"\x89PNG")
    assert b"tEXt" not in data and b"tIME" not in data  # neither version nor date
    width, height = round(first.width * DPI), round(first.height * DPI)
    assert abs(int.from_bytes(data[16:20]) - width) <= 1
    assert abs(int.from_bytes(data[20:24]) - height) <= 1


def test_plot_does_not_import_pyplot() -> None:
    code = (
        "import sys, numpy as np; from convscope.report import layer_plots;"
        "assert 'matplotlib' not in sys.modules, 'matplotlib at import time';"
        "layer_plots.feature_maps('conv1', np.ones((3, 3, 4))).png();"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot'"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_plot_in_threads_gives_same_bytes() -> None:
    names = ["first_nine", "confusion_matrix", "flatten_view", "class_probabilities"]
    serial = {name: PLOTS[name]().png() for name in names}
    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(lambda name: (name, PLOTS[name]().png()), names * 3))
    assert all(serial[name] == data for name, data in parallel)


def test_plot_class_names_are_not_parsed_as_formulas() -> None:
    names = ["$x^2$", r"$\notacommand$", "a\nb", "猫\udcff"]  # the last one from a file name that is not UTF-8
    canvas = layer_plots.class_probabilities(np.array([0.4, 0.3, 0.2, 0.1]), names)
    canvas.png()  # a parse error or a missing glyph would be raised here
    labels = [label.get_text() for label in canvas.figure.axes[0].get_yticklabels()]
    assert labels[:3] == ["$x^2$", r"$\notacommand$", "a b"]
    assert labels[3].endswith("□")


# Images on a canvas


def pixels_of(canvas: Canvas) -> np.ndarray[Any, Any]:
    """The canvas as read from its PNG file: uint8 (h, w, 3)."""
    return np.asarray(Image.open(BytesIO(canvas.png())))


def test_canvas_image_appears_in_its_box_with_a_frame() -> None:
    canvas = Canvas.create("", 1.0, 1.0)
    canvas.image(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), Box(0.25, 0.5, 0.5, 0.25))
    pixels = pixels_of(canvas)
    assert pixels.shape == (DPI, DPI, 3)
    left, top, width, height = (round(inches * DPI) for inches in (0.25, 0.5, 0.5, 0.25))
    assert (pixels[top : top + height, left : left + width // 2] == (255, 0, 0)).all()
    assert (pixels[top : top + height, left + width // 2 : left + width] == (0, 0, 255)).all()
    assert to_hex(pixels[top - 1, left] / 255) == to_hex(pixels[top + height, left + width] / 255) == RULE
    assert (pixels[top - 2] == 255).all()


def test_canvas_image_larger_than_its_box_is_averaged() -> None:
    canvas = Canvas.create("", 1.0, 1.0)
    stripes = np.zeros((100, 2000, 1), np.uint8)
    stripes[:, ::2] = 200
    canvas.image(stripes, Box(0.2, 0.5, 100 / DPI, 0.25))
    inside = pixels_of(canvas)[round(0.5 * DPI), round(0.2 * DPI) : round(0.2 * DPI) + 100]
    assert (inside == 100).all()


def test_canvas_translucent_image_is_over_white() -> None:
    canvas = Canvas.create("", 1.0, 1.0)
    canvas.image(np.array([[[255, 0, 0, 51]]], np.uint8), Box(0.25, 0.5, 0.5, 0.25))
    assert pixels_of(canvas)[round(0.6 * DPI), DPI // 2].tolist() == [255, 204, 204]


def test_color_scale_clips_to_its_ends_and_is_transparent_for_nan() -> None:
    rgba = ColorScale(color_map("gray"), -1.0, 3.0).to_rgba(np.array([-9.0, -1.0, 1.0, 3.0, 9.0, np.nan, np.inf]))
    assert rgba[:, 0].tolist() == [0, 0, 128, 255, 255, 0, 0]
    assert rgba[:, 3].tolist() == [255] * 5 + [0] * 2


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-9.0, 9.0, ["−8", "−6", "−4", "−2", "0", "2", "4", "6", "8"]),
        (0.0, 16.1, ["0", "2", "4", "6", "8", "10", "12", "14", "16"]),
        (-1.0, 1.0, ["−1", "−0.5", "0", "0.5", "1"]),
        (0.0, 3e-7, ["0", "5e−08", "1e−07", "1.5e−07", "2e−07", "2.5e−07", "3e−07"]),
    ],
)
def test_color_bar_has_round_numbers(low: float, high: float, ticks: list[str]) -> None:
    canvas = tile_grid("", np.zeros((1, 2, 2)), "the unit", ColorScale(color_map("gray"), low, high))
    found = [text.get_text() for text in canvas.figure.texts]
    assert found == ["", "0", *ticks, "the unit"]
    ramp = pixels_of(canvas)[-round((COLOR_BAR_HEIGHT - 0.14) * DPI)][
        round(0.3 * DPI) : round((canvas.width - 0.3) * DPI)
    ]
    assert (np.diff(ramp[:, 0].astype(int)) >= 0).all()
    assert (ramp[0, 0], ramp[-1, 0]) == (0, 255)
