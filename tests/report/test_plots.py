"""Plots of data and results: what they show. ARTICLE rows A10, A15."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from convscope.report import plots
from convscope.report.canvas import DPI, INK, MARGIN, PALE, WIDTH, Canvas, text_width
from helpers.canvases import gray, images_of, own_texts, panels, texts

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


# First nine (A10)


def test_first_nine_shows_nine_images_with_their_classes() -> None:
    canvas = plots.first_nine(IMAGES // 4, LABELS, [f"class {digit}" for digit in DIGITS])
    assert len(canvas.images) == 9
    for image, found in zip(IMAGES // 4, images_of(canvas, 8, 8), strict=False):
        np.testing.assert_array_equal(found, gray(image))  # a dark image stays dark
    assert own_texts(canvas)[1:] == [f"class {label}" for label in LABELS[:9]]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_first_nine_shows_fewer_images_of_any_channels(count: int, channels: int) -> None:
    images = RANDOM.integers(0, 256, (count, 6, 4, channels), dtype=np.uint8)
    if channels == 4:
        images[..., 3] = 255
    found = images_of(plots.first_nine(images, np.zeros(count, np.int64), ["a"]), 6, 4)
    assert len(found) == count
    np.testing.assert_array_equal(found[-1], gray(images[-1]))


def test_first_nine_without_images_is_a_sentence() -> None:
    assert "There are no images." in texts(plots.first_nine(IMAGES[:0], LABELS[:0], DIGITS))


def test_first_nine_of_mnist_equals_the_article(data_folder: Path) -> None:
    """A10: the article's figure shows 5 0 4, 1 9 2, 1 3 1."""
    pixels = gzip.decompress((data_folder / "mnist" / "train-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((data_folder / "mnist" / "train-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, count=9 * 784, offset=16).reshape(9, 28, 28, 1)
    canvas = plots.first_nine(images, np.frombuffer(labels, np.uint8, count=9, offset=8), DIGITS)
    assert "".join(own_texts(canvas)[1:]) == "504192131"


def test_image_grid_is_in_reading_order_below_titles() -> None:
    canvas = plots.first_nine(IMAGES, LABELS, DIGITS)
    positions = [(top, left) for _, (left, top) in canvas.images]
    assert positions == sorted(positions)
    for (image, (left, top)), title in zip(canvas.images, canvas.figure.texts[1:], strict=True):
        x, y = title.get_position()
        assert x * canvas.width * DPI == pytest.approx(left + image.width / 2, abs=2)
        assert top - 25 < (1 - y) * canvas.height * DPI < top


def test_confusion_matrix_class_never_recognized_has_a_white_zero() -> None:
    """Class b is never recognized; class c has no images, and thus no count."""
    axes = panels(plots.confusion_matrix(np.array([[5, 1, 0], [3, 0, 1], [0, 0, 0]]), ["a", "b", "c"]))[0]
    counts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "5", (0, 1): "1", (1, 0): "3", (1, 1): "0", (1, 2): "1"}
    (image,) = axes.get_images()
    values = image.get_array()
    assert values is not None
    assert np.ma.getmaskarray(values)[np.arange(3), np.arange(3)].tolist() == [True, False, False]
    assert to_hex(image.get_cmap()(image.norm(0.0))) == "#ffffff"


# Learning curves


def test_learning_curves_plot_the_history_and_mark_the_selected_epoch() -> None:
    loss, accuracy = panels(plots.learning_curves(HISTORY, 2))
    lines = {(axes, line.get_label()): line.get_ydata() for axes in (loss, accuracy) for line in axes.get_lines()}
    np.testing.assert_allclose(lines[loss, "training"], [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(lines[loss, "validation"], [1.2, 0.6, 0.4, 0.3])
    np.testing.assert_allclose(lines[accuracy, "training"], [70, 85, 90, 92.5])
    np.testing.assert_allclose(lines[accuracy, "validation"], [70, 90, 80, 90])
    ring = accuracy.get_lines()[-1]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([2], [90])
    assert accuracy.get_title(loc="left") == "Accuracy in %: epoch 2 is used, 90.00 % on validation"


def test_learning_curves_validated_on_test_set_say_so() -> None:
    """A13: the article validates on the test set and uses its last epoch, although another was better."""
    accuracy = panels(plots.learning_curves(HISTORY, 3, "test"))[1]
    assert list(accuracy.get_lines()[-1].get_xdata()) == [3]
    assert accuracy.get_title(loc="left") == "Accuracy in %: epoch 3 is used, 80.00 % on test"
    assert "validation" not in [line.get_label() for line in accuracy.get_lines()]


def test_learning_curves_initial_weights_are_used_mark_no_epoch() -> None:
    loss, accuracy = panels(plots.learning_curves(HISTORY, 0))
    assert accuracy.get_title(loc="left") == "Accuracy in %: none of these epochs is used"
    assert [len(line.get_xdata()) for line in accuracy.get_lines()] == [4, 4, 0]
    assert [len(line.get_xdata()) for line in loss.get_lines()] == [4, 4]


def test_learning_curves_one_epoch_is_a_table() -> None:
    found = texts(plots.learning_curves(HISTORY[:1], 1))
    for text in ("The only epoch", "loss", "accuracy", "training", "1.0000", "70.00 %", "validation", "1.2000"):
        assert text in found
    assert "-" in texts(plots.learning_curves([{**HISTORY[0], "train_accuracy": None}], 1))


def test_learning_curves_epoch_without_training_accuracy_leaves_a_gap() -> None:
    accuracy = panels(plots.learning_curves([{**HISTORY[0], "train_accuracy": None}, *HISTORY[1:]], 2))[1]
    line = next(line for line in accuracy.get_lines() if line.get_label() == "training")
    np.testing.assert_allclose(line.get_ydata(), [math.nan, 85, 90, 92.5])


def test_learning_curves_without_epochs_is_a_sentence() -> None:
    assert "No epoch was trained." in texts(plots.learning_curves([], 0))


# Confusion matrix


def test_confusion_matrix_colors_scale_to_the_largest_error() -> None:
    axes = panels(plots.confusion_matrix(np.array([[8, 2, 0], [1, 99, 0], [0, 0, 0]]), ["a", "b", "c"]))[0]
    image = axes.get_images()[0]
    errors = image.get_array()
    assert isinstance(errors, np.ma.MaskedArray)
    np.testing.assert_array_equal(errors.mask, np.diag([True, True, False]))  # class c has no images
    np.testing.assert_allclose(errors.filled(-1), [[-1, 20, 0], [1, -1, 0], [0, 0, 0]])
    assert image.get_clim()[1] == 20
    assert to_hex(image.get_cmap().get_bad()) == PALE  # correct predictions are gray, however many
    assert to_hex(image.get_cmap()(image.norm(0.0))) == "#ffffff"


def test_confusion_matrix_cells_hold_their_counts() -> None:
    axes = panels(plots.confusion_matrix(np.array([[8, 2], [1, 99]]), ["a", "b"]))[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "8", (1, 0): "2", (0, 1): "1", (1, 1): "99"}
    colors = {text.get_text(): text.get_color() for text in axes.texts}
    assert colors["2"] == "white"  # on the darkest cell
    assert {colors["8"], colors["1"], colors["99"]} == {INK}
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel() == "true class"


@pytest.mark.parametrize(
    ("classes", "count", "labels", "counts"), [(2, 9, 2, 2), (43, 99, 43, 43), (43, 123456, 43, 0), (300, 9, 100, 0)]
)
def test_confusion_matrix_many_classes_omits_names_and_counts(
    classes: int, count: int, labels: int, counts: int
) -> None:
    matrix = np.eye(classes, dtype=np.int64) * count
    axes = panels(plots.confusion_matrix(matrix, [f"class {i}" for i in range(classes)]))[0]
    assert [len(axes.get_xticklabels()), len(axes.get_yticklabels())] == [labels, labels]
    assert len(axes.texts) == counts


# Worst mistakes


def mistakes(classes: list[str]) -> Canvas:
    probabilities = np.array([[0.0, 0.001, 0.999], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]], np.float32)
    return plots.worst_mistakes(IMAGES[:3], np.array([0, 0, 0]), probabilities, classes, (1_447, 10_000))


def test_worst_mistakes_name_true_and_predicted_class() -> None:
    canvas = mistakes(["4", "9", "7"])
    assert own_texts(canvas) == [
        "1,447 mistakes in 10,000 images (true → predicted)",
        "4 → 7 (>99 %)",
        "4 → 7 (70 %)",
        "4 → 9 (40 %)",
    ]
    for image, found in zip(IMAGES, images_of(canvas, 8, 8), strict=False):
        np.testing.assert_array_equal(found, gray(image))


def test_worst_mistakes_titles_have_one_to_three_lines() -> None:
    canvas = plots.worst_mistakes(IMAGES[:1], np.array([0]), np.array([[0.01, 0.99]]), ["4", "9"], (1, 1))
    assert own_texts(canvas)[1] == "4 → 9 (99 %)"
    assert own_texts(mistakes(["sweatshirt", "ankle boots", "dressing gown"]))[1] == (
        "sweatshirt\n→ dressing gown\n(>99 %)"
    )


def test_worst_mistakes_with_files_show_their_names() -> None:
    canvas = plots.worst_mistakes(
        IMAGES[:1], np.array([0]), np.array([[0.01, 0.99]]), ["4", "9"], (1, 1), ["an-image-with-a-very-long-name.png"]
    )
    first, second = own_texts(canvas)[1].split("\n")
    assert second == "4 → 9 (99 %)"
    assert first == "an-image-with-…"


def test_worst_mistakes_neighboring_titles_do_not_touch() -> None:
    for classes in (["4", "9", "7"], ["sunflower", "rose", "dandelion"], ["Ankle boot", "Shirt", "Sneaker"]):
        images, labels = np.repeat(IMAGES[:1], 4, axis=0), np.zeros(4, np.int64)
        probabilities = np.array([[0.0, 0.0, 1.0]] * 4, np.float32)
        files = ["2660444901_01dacde3f0.jpg"] * 4
        titles = own_texts(plots.worst_mistakes(images, labels, probabilities, classes, (9, 99), files))[1:]
        assert len(titles) == 4
        assert text_width([line for title in titles for line in title.split("\n")], 9) < (WIDTH - 2 * MARGIN + 0.15) / 4


def test_worst_mistakes_without_mistakes_is_a_sentence() -> None:
    canvas = plots.worst_mistakes(IMAGES[:0], LABELS[:0], PROBABILITIES[:0], DIGITS, (0, 20))
    assert "No mistakes: all 20 images were classified correctly." in texts(canvas)
    assert not canvas.images
