"""The lessons in Chromium: the article's examples, and every task can be finished with the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from convscope import reference
from convscope.lab.bundle import bundle_page
from convscope.reference import cross_entropy, cross_entropy_backward, dense, dense_backward, one_hot, sgd_momentum

pytestmark = pytest.mark.slow


class Solution(NamedTuple):
    """What to do in a lesson: inputs to fill and choices to make by their place, an answer, a button to press."""

    rows: str
    title: str
    inputs: Mapping[int, str] = MappingProxyType({})
    choices: Mapping[int, str] = MappingProxyType({})
    answer: str = ""
    presses: tuple[str, int] = ("", 0)
    wrong: str = ""


HINTS = (  # after another wrong attempt than that of the start
    (Solution("A1", "An image is a matrix", {4: "255", 13: "0"}), "It has 255 of green; the middle has 0."),
    (Solution("A2 A3", "Convolution", choices={0: "5"}), "The map has 1x1 cells. A smaller kernel or stride"),
    (Solution("A4", "ReLU", {0: "0"}), "ReLU makes these 0: −0.1, −4."),
    (Solution("A5", "Pooling", choices={0: "min"}), "The min of 3, 5, 2, 2 is 2, but 3 is asked for."),
    (Solution("A6", "Depth and cost", choices={0: "4"}), "21,901,824 are too many."),
    (Solution("A7", "Flatten", answer="3"), "The cell holds 30; entry 3 is 20."),
    (Solution("A8", "Dense layer", {9: "0"}), "Only the last bias may change, but 0 was 0.5."),
    (Solution("A9", "Softmax", {1: "3"}), "It has 82.1 %."),
    (Solution("A8 A13", "One step of learning", presses=("Take a step", 1)), "Take more steps"),
    (Solution("A10", "Data", answer="1000"), "28 rows of 28 numbers: fewer than 1000."),
    (Solution("A11", "Preprocessing", choices={0: "3"}), "The first input is 0 / 255 = 0."),
    (Solution("A12", "The article's network", choices={2: "200"}), "1,081,800 of them are"),
    (Solution("A13", "Training curves", answer="6"), "The validation loss is 0.58 after it"),
    (Solution("A14", "Evaluation", {1: "0"}), "10 of 297 images are off the diagonal, which is 3.4 %"),
    (Solution("A15", "What does it look at?", choices={0: "confusion matrix"}), "which animals are mixed up"),
    (Solution("A2 A16", "Kernels on your own image", {4: "0"}), "Now all is black"),
    (Solution("A16", "Large images", choices={0: "8"}), "111,974,400 are too many."),
)

SOLUTIONS = (
    Solution("A1", "An image is a matrix", {4: "255", 13: "255", 22: "0"}),
    Solution("A2 A3", "Convolution", choices={1: "2"}),
    Solution("A4", "ReLU", {0: "0", 4: "1", 5: "1"}),
    Solution("A5", "Pooling", choices={0: "average"}),
    Solution("A6", "Depth and cost", choices={0: "4", 1: "8"}),
    Solution("A7", "Flatten", answer="5", wrong="4"),
    Solution("A8", "Dense layer", {10: "9"}),
    Solution("A9", "Softmax", {1: "9"}),
    Solution("A8 A13", "One step of learning", presses=("Take a step", 40)),
    Solution("A10", "Data", answer="784", wrong="28"),
    Solution("A11", "Preprocessing", {0: "51"}, {0: "3"}),
    Solution("A12", "The article's network", choices={0: "16"}),
    Solution("A13", "Training curves", answer="4", wrong="6"),
    Solution("A14", "Evaluation", {1: "0", 2: "0", 3: "0", 5: "0", 6: "0", 7: "0"}),
    Solution("A15", "What does it look at?", choices={0: "occlusion map"}),
    Solution("A2 A16", "Kernels on your own image", choices={0: "vertical edges (Sobel x)"}),
    Solution("A16", "Large images", choices={0: "16"}),
)


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text))
    page.goto(f"{url}#learn")
    page.wait_for_selector("lab-learn .lesson")
    page.wait_for_selector(".verdict", state="attached")
    yield page
    page.close()
    assert trouble == []


def open_lesson(page: Any, title: str) -> Any:
    page.get_by_role("link", name=re.compile(f"^{re.escape(title)}")).click()
    found = page.locator(".lesson", has=page.locator("h2", has_text=title))
    found.wait_for()
    return found


def numbers(lesson: Any, index: int) -> np.ndarray:
    """The numbers of a matrix in a lesson that cannot be edited."""
    lines = lesson.locator("lab-matrix").nth(index).locator("tr").all()
    return np.array(
        [[float(cell.replace("−", "-")) for cell in line.locator("td").all_inner_texts()] for line in lines]
    )


def edited(lesson: Any, index: int, values: np.ndarray) -> np.ndarray:
    """The values, after they were typed into a matrix."""
    for cell, value in zip(lesson.locator("lab-matrix").nth(index).locator("input").all(), values.flat, strict=True):
        cell.fill(str(value))
    return values.astype(float)


def choose(lesson: Any, **choices: Any) -> None:
    for name, value in choices.items():
        lesson.locator("label", has_text=name.capitalize()).locator("select").select_option(str(value))


def pixels(canvas: Any) -> np.ndarray:
    """(height, width, 3)."""
    height, width = canvas.evaluate("({height, width}) => [height, width]")
    read = """one => {
      const copy = new OffscreenCanvas(one.width, one.height).getContext("2d", { willReadFrequently: true });
      copy.drawImage(one, 0, 0);
      return [...copy.getImageData(0, 0, one.width, one.height).data];
    }"""
    return np.reshape(canvas.evaluate(read), (height, width, 4))[..., :3]


def tab_to(page: Any, element: Any) -> None:
    for _ in range(80):
        if element.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("Tab does not reach the element")


def solve(page: Any, lesson: Any, solution: Solution) -> None:
    for index, value in solution.inputs.items():
        tab_to(page, lesson.locator("lab-matrix input").nth(index))
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type(value)
    for index, option in solution.choices.items():
        select = lesson.locator("select").nth(index)
        tab_to(page, select)
        names = select.locator("option").all_inner_texts()
        steps = names.index(option) - names.index(select.input_value())
        for _ in range(abs(steps)):
            page.keyboard.press("ArrowDown" if steps > 0 else "ArrowUp")
    if solution.presses[1]:
        tab_to(page, lesson.get_by_role("button", name=solution.presses[0]))
        for _ in range(solution.presses[1]):
            page.keyboard.press("Enter")
    if solution.answer:
        type_answer(page, lesson, solution.answer)


def type_answer(page: Any, lesson: Any, answer: str) -> None:
    tab_to(page, lesson.locator("label input[inputmode=numeric]"))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(answer)


def check(page: Any, lesson: Any) -> str:
    """The verdict."""
    tab_to(page, lesson.get_by_role("button", name="Check"))
    page.keyboard.press("Enter")
    return str(lesson.locator(":scope > [role=status]").inner_text())


def test_every_lesson_gives_a_hint_and_can_be_finished_with_the_keyboard(page: Any) -> None:
    titles = page.locator("lab-learn nav a").all_inner_texts()
    assert titles == [solution.title for solution in SOLUTIONS]
    for i, solution in enumerate(SOLUTIONS):
        lesson = page.locator(".lesson")
        assert lesson.locator("h2").inner_text() == f"{i + 1}. {solution.title}"
        assert lesson.get_attribute("data-rows") == solution.rows
        if solution.wrong:
            type_answer(page, lesson, solution.wrong)
        assert re.fullmatch(r"Not yet\. .{20,}", check(page, lesson)), solution.title
        page.locator(".lesson h2").focus()
        solve(page, lesson, solution)
        assert check(page, lesson) == "Right.", solution.title
        assert page.locator("lab-learn summary").inner_text() == f"{i + 1} of 17 lessons done"
        tab_to(page, lesson.locator("a.button"))
        page.keyboard.press("Enter")
        if i + 1 < len(SOLUTIONS):
            page.wait_for_function("i => document.activeElement.textContent.startsWith(`${i}.`)", arg=i + 2)
    page.wait_for_selector("#main:not([hidden])")
    page.locator("#learn-link").click()
    assert page.locator("lab-learn summary").inner_text() == "17 of 17 lessons done"
    assert page.get_by_role("link", name="Pooling, done").inner_text() == "Pooling ✓"


@pytest.mark.parametrize(("attempt", "hint"), HINTS, ids=[attempt.title for attempt, _ in HINTS])
def test_hint_of_every_lesson_follows_what_was_tried(page: Any, attempt: Solution, hint: str) -> None:
    lesson = open_lesson(page, attempt.title)
    first = check(page, lesson)
    page.locator(".lesson h2").focus()
    solve(page, lesson, attempt)
    assert hint in (second := check(page, lesson))
    assert second != first


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
    np.testing.assert_allclose(numbers(found, 0), after.T, rtol=1e-5)


def test_lesson_of_a_step_leads_to_that_of_the_opened_network(page: Any) -> None:
    """A8."""
    open_lesson(page, "One step").get_by_role("button", name="whole network").click()
    page.wait_for_selector("lab-backprop details[open]")
    page.wait_for_function("() => document.activeElement === document.querySelector('lab-backprop summary')")


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


def test_address_opens_a_lesson(page: Any) -> None:
    page.goto(f"{page.url.split('#')[0]}#learn-4")
    page.wait_for_selector("h2:has-text('4. Pooling')")
    assert page.locator("lab-learn [aria-current]").inner_text() == "Pooling"


def test_lessons_do_not_scroll_sideways_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for i in range(len(SOLUTIONS)):
        page.evaluate(f"location.hash = 'learn-{i + 1}'")
        page.wait_for_selector(f"h2:has-text('{i + 1}. ')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, SOLUTIONS[i].title


def test_lessons_lead_back_to_the_network(page: Any) -> None:
    assert not page.locator("#main").is_visible()
    page.locator("#learn-link").click()
    page.wait_for_selector("#main:not([hidden])")


def test_lessons_work_in_the_html_file_without_a_network(browser: Any, tmp_path: Path) -> None:
    """Every lesson is built, also without a model."""
    file = tmp_path / "lab.html"
    file.write_text(bundle_page(), "utf-8")
    page = browser.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    for i, solution in enumerate(SOLUTIONS):
        page.goto(f"{file.as_uri()}#learn-{i + 1}")
        lesson = page.locator(".lesson", has=page.locator("h2", has_text=f"{i + 1}. {solution.title}"))
        assert check(page, lesson).startswith("Not yet. ")
        solve(page, lesson, solution)
        assert check(page, lesson) == "Right."
    assert page.locator("lab-learn summary").inner_text() == "17 of 17 lessons done"
    page.close()
    assert trouble == []
