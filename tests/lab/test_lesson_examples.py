"""The examples of the lessons in Chromium: those of the article, and what the textbook computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope import reference
from convscope.reference import cross_entropy, cross_entropy_backward, dense, dense_backward, one_hot, sgd_momentum
from helpers.lab_lessons import choose, edited, numbers, open_lesson, opened_lessons, pixels

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    with opened_lessons(browser, url) as page:
        yield page


def test_lesson_of_convolution_shows_the_article_and_its_sums(page: Any) -> None:
    """A3."""
    found = open_lesson(page, "Convolution")
    assert numbers(found, 2).tolist() == [[3, 5, 3], [3, 2, 5], [4, 4, 2]]
    found.get_by_role("button", name="Next cell").click()
    assert found.locator(".sum").inner_text() == "1·1 + 1·0 + 0·1 + 1·0 + 0·1 + 1·0 + 1·1 + 1·1 + 1·0 = 3"
    assert found.locator("lab-matrix").first.locator(".won").count() == 9
    found.locator("lab-matrix").nth(0).locator("input").first.fill("-3")
    assert numbers(found, 2)[0][0] == -1
    assert found.locator(".sum").inner_text() == ""


@pytest.mark.parametrize("size", [2, 3, 5])
def test_lesson_of_convolution_follows_the_textbook(page: Any, size: int) -> None:
    """A2: every stride and padding, with edited numbers."""
    found = open_lesson(page, "Convolution")
    random = np.random.default_rng(size)
    choose(found, kernel=size)
    image = edited(found, 0, random.integers(-9, 10, (5, 5)))
    kernel = edited(found, 1, random.integers(-9, 10, (size, size)))
    for stride in (1, 2):
        for pad in ("valid", "same", 1, 2):
            choose(found, stride=stride, padding=pad)
            expected = reference.convolve(image[None, :, :, None], kernel[:, :, None, None], stride=stride, pad=pad)
            np.testing.assert_array_equal(numbers(found, 2), expected[0, :, :, 0], f"stride {stride}, padding {pad}")


def test_lesson_of_convolution_plays_and_pauses(page: Any) -> None:
    found = open_lesson(page, "Convolution")
    found.get_by_role("button", name="Play").click()
    first = found.locator(".sum").inner_text()
    assert first.endswith("= 3")
    page.wait_for_function("old => document.querySelector('.lesson .sum').textContent !== old", arg=first)
    found.get_by_role("button", name="Pause").click()
    assert found.get_by_role("button", name="Play").is_visible()


def test_people_who_want_little_motion_step_through_the_cells_themselves(page: Any) -> None:
    page.emulate_media(reduced_motion="reduce")
    found = open_lesson(page, "Convolution")
    assert not found.get_by_role("button", name="Play").is_visible()
    found.get_by_role("button", name="Next cell").click()
    assert found.locator(".sum").inner_text().endswith("= 3")


@pytest.mark.parametrize(
    ("kind", "expected"), [("max", [[5, 6], [4, 5]]), ("min", [[2, 1], [1, 2]]), ("average", [[3, 4], [3, 4]])]
)
def test_lesson_of_pooling_shows_the_article_and_follows_the_textbook(
    page: Any, kind: str, expected: list[list[int]]
) -> None:
    """A5."""
    found = open_lesson(page, "Pooling")
    choose(found, kind=kind)
    assert numbers(found, 1).tolist() == expected
    image = edited(found, 0, np.random.default_rng(0).integers(-9, 10, (4, 4)))
    for size in (2, 3):
        for stride in (1, 2):
            choose(found, window=size, stride=stride)
            pooled = reference.pool(image[None, :, :, None], size, stride, kind)
            np.testing.assert_allclose(numbers(found, 1), pooled[0, :, :, 0], rtol=1e-5)


def test_number_that_is_none_is_marked_and_not_used(page: Any) -> None:
    found = open_lesson(page, "Pooling")
    cell = found.locator("lab-matrix input").first
    cell.fill("many")
    assert cell.get_attribute("aria-invalid") == "true"
    assert numbers(found, 1)[0][0] == 5


def test_lesson_of_depth_frames_what_a_cell_sees(page: Any) -> None:
    """A6: the frame is around as many pixels of the image as the text says."""
    found = open_lesson(page, "Depth and cost")
    for layers in (1, 4, 6):
        choose(found, layers=layers)
        colored = np.ptp(pixels(found.locator("canvas")), axis=2) > 20
        rows, columns = np.flatnonzero(colored.any(axis=1)), np.flatnonzero(colored.any(axis=0))
        seen = 2 * layers + 1
        assert f"sees {seen}x{seen} pixels" in found.locator(".sum").inner_text()
        assert [rows[0], rows[-1], columns[0], columns[-1]] == [14 - layers - 1, 14 + layers + 1] * 2
        assert not colored[14 - layers : 15 + layers, 14 - layers : 15 + layers].any()


def test_lesson_of_evaluation_colors_the_largest_count_darkest(page: Any) -> None:
    """A14."""
    found = open_lesson(page, "Evaluation")
    edited(found, 0, np.array([[9, 3, 2], [1, 8, 1], [4, 40, 4]]))
    shown = "spans => spans.map(span => getComputedStyle(span).backgroundColor.match(/\\d+/g).map(Number))"
    colors = np.array(found.locator(".shades span").evaluate_all(shown))
    assert colors.sum(axis=1).argmin() == 7


def test_lesson_of_large_images_reduces_a_sign(page: Any) -> None:
    """A16."""
    found = open_lesson(page, "Large images")
    whole = pixels(found.locator("canvas"))
    assert whole.shape == (256, 256, 3)
    choose(found, divide=16)
    small = pixels(found.locator("canvas"))
    assert small.shape == (16, 16, 3)
    expected = whole.reshape(16, 16, 16, 16, 3).mean(axis=(1, 3))
    assert abs(small - expected).mean() < 15
    assert found.locator(".hint").inner_text() == "A road sign in it: 16x16 pixels"


def test_lesson_of_flatten_shows_where_each_cell_goes(page: Any) -> None:
    """A7."""
    found = open_lesson(page, "Flatten")
    found.locator("lab-matrix").nth(1).locator("td").nth(2).focus()
    assert found.locator(".sum").inner_text() == "row 1, column 0 of the second map is entry 5"
    assert found.locator(".won").all_inner_texts() == ["30", "30"]
    found.locator("lab-matrix").nth(2).locator("td").first.hover()
    assert found.locator(".sum").inner_text() == "row 0, column 0 of the first map is entry 0"
    assert reference.flatten_source(5, (2, 2, 2)) == (1, 0, 1)


def test_lesson_of_a_dense_layer_spells_out_its_sums(page: Any) -> None:
    """A8."""
    found = open_lesson(page, "Dense layer")
    found.locator("lab-matrix input").first.fill("2")
    assert found.locator(".sum").all_inner_texts() == [
        "unit 1: 2·0.5 + 2·1 + 0.5·2 + 0.5 = 4.5",
        "unit 2: 2·1 + 2·(−0.5) + 0.5·2 + 0 = 2",
    ]


def test_lesson_of_a_step_follows_the_textbook(page: Any) -> None:
    """A8, A13: the first step, by hand."""
    inputs, weights = np.array([[1.0, 2.0]]), np.array([[0.1, 0.3], [-0.2, 0.1]])
    logits, target = dense(inputs, weights), one_hot([0], 2).astype(float)
    _, gradient, _ = dense_backward(cross_entropy_backward(logits, target), inputs, weights)
    after, _ = sgd_momentum(weights, np.zeros_like(weights), gradient)
    found = open_lesson(page, "One step")
    assert found.locator(".sum").inner_text().endswith(f"loss {cross_entropy(logits, target):.4f}")
    found.get_by_role("button", name="Take a step").click()
    before, loss = (cross_entropy(dense(inputs, one), target) for one in (weights, after))
    assert found.locator(".sum").inner_text().endswith(f"loss {before:.4f} → {loss:.4f}")
    np.testing.assert_allclose(numbers(found, 0), after.T, rtol=1e-5)


def test_lesson_of_a_step_leads_to_that_of_the_opened_network(page: Any) -> None:
    """A8."""
    open_lesson(page, "One step").get_by_role("button", name="whole network").click()
    page.wait_for_selector("lab-backprop details[open]")
    page.wait_for_function("() => document.activeElement === document.querySelector('lab-backprop summary')")
    assert -1 <= page.locator("lab-backprop").bounding_box()["y"] < 100


def test_lesson_of_looking_leads_to_the_maps_of_the_opened_network(page: Any) -> None:
    """A15."""
    open_lesson(page, "What does it look at?").get_by_role("button", name="opened network").click()
    page.wait_for_selector("#why-title")
    assert -1 <= page.locator("#why-title").bounding_box()["y"] < 100


def test_pictures_of_relu_stand_by_their_numbers_on_a_phone(page: Any) -> None:
    """A4."""
    page.set_viewport_size({"width": 390, "height": 800})
    found = open_lesson(page, "ReLU")
    boxes = [found.locator("lab-matrix, .shades").nth(i).bounding_box() for i in range(4)]
    assert max(box["y"] + box["height"] for box in boxes[:2]) <= min(box["y"] for box in boxes[2:])


def test_lesson_of_data_shows_digits_with_their_labels(page: Any) -> None:
    """A10."""
    found = open_lesson(page, "Data")
    assert found.locator("figcaption").all_inner_texts() == [f"label {label}" for label in range(9)]
    drawn = [pixels(canvas)[..., 0] for canvas in found.locator("canvas").all()]
    assert {one.shape for one in drawn} == {(8, 8)}
    assert len({one.tobytes() for one in drawn}) == 9
    assert min(np.ptp(one) for one in drawn) > 150


def test_lesson_of_the_network_counts_the_article_s_parameters(page: Any) -> None:
    """A12."""
    found = open_lesson(page, "The article's network")
    counts = found.locator("td:last-child").all_inner_texts()
    assert counts == ["320", "0", "0", "540,900", "1,010", "542,230"]
    assert found.locator("td:nth-child(2)").all_inner_texts()[:3] == ["26 x 26 x 32", "13 x 13 x 32", "5,408"]


def test_lesson_of_evaluation_gives_the_interval_of_the_report(page: Any) -> None:
    """A14."""
    from convscope._statistics import wilson

    low, high = wilson(287, 300)
    expected = f"accuracy 95.7 %, 95 % interval {100 * low:.1f} % to {100 * high:.1f} %"
    assert open_lesson(page, "Evaluation").locator(".sum").inner_text() == expected


def test_lesson_of_kernels_filters_an_image(page: Any, tmp_path: Path) -> None:
    """A16: as the textbook's convolution does, on an opened image with its edge pixels repeated."""
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    found = open_lesson(page, "Kernels")
    after = found.locator("canvas").nth(1)
    assert pixels(after).max() > 200, "an image is shown at first"
    found.locator("input[type=file]").set_input_files(tmp_path / "image.png")
    page.wait_for_function("() => document.querySelector('.filtered canvas').width === 9")
    np.testing.assert_array_equal(pixels(after), image)
    for name in found.locator("option").all_inner_texts():
        choose(found, kernel=name)
        weights = [float(cell.input_value()) for cell in found.locator("lab-matrix input").all()]
        padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), "edge").transpose(2, 0, 1)[..., None]
        expected = reference.convolve(padded, np.reshape(weights, (3, 3, 1, 1)))[..., 0].transpose(1, 2, 0)
        np.testing.assert_allclose(pixels(after), np.clip(expected, 0, 255), atol=0.5, err_msg=name)
