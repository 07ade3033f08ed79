"""The lessons in Chromium: each gives hints, and can be finished with the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convscope.lab.bundle import bundle_page
from helpers.lab_lessons import Solution, check, open_lesson, opened_lessons, solve, tab_to, type_answer

pytestmark = pytest.mark.slow


HINTS = (  # after another wrong attempt than that of the start
    (Solution("A1", "An image is a matrix", {4: "255", 13: "0"}), "255 of green; the middle has 0."),
    (Solution("A2 A3", "Convolution", choices={0: "5"}), "The map has 1x1 cells. A smaller kernel or stride"),
    (Solution("A2 A3", "Convolution", choices={1: "2"}), "The first cell is 3, not 6."),
    (Solution("A4", "ReLU", {0: "0"}), "ReLU makes these 0: −0.1, −4."),
    (Solution("A5", "Pooling", choices={0: "min"}), "The min of 3, 5, 2, 2 is 2, but 3 is asked for."),
    (Solution("A6", "Depth and cost", choices={0: "4"}), "21,901,824 are too many."),
    (Solution("A7", "Flatten", answer="5"), "The second of them is not entry 5."),
    (Solution("A8", "Dense layer", {9: "0"}), "Only the bias of unit 2 may change; 0 was 0.5 before."),
    (Solution("A9", "Softmax", {1: "3"}), "It has 82.1 %."),
    (Solution("A8 A13", "One step of learning", presses=("Take a step", 1)), "Take more steps"),
    (Solution("A10", "Data", answer="1000"), "28 rows of 28 numbers: fewer than 1000."),
    (Solution("A11", "Preprocessing", choices={0: "3"}), "The first input is 0 / 255 = 0."),
    (
        Solution("A12", "The article's network", choices={2: "200"}),
        "1,081,800 parameters are in the first dense layer.",
    ),
    (Solution("A13", "Training curves", answer="6"), "The validation loss is 0.58 after it"),
    (Solution("A14", "Evaluation", {1: "0"}), "Row 1 now has 97 images, but 100 were tested."),
    (Solution("A14", "Evaluation", {0: "99999"}), "Expected a number from 0 to 100, but “99999” came."),
    (Solution("A14", "Evaluation", {0: "98", 1: "0"}), "10 of 300 images are off the diagonal, which is 3.3 %"),
    (Solution("A15", "What does it look at?", choices={0: "confusion matrix"}), "which animals are mixed up"),
    (Solution("A2 A16", "Kernels on your own image", {4: "0"}), "Now all is black"),
    (Solution("A16", "Large images", choices={0: "4"}), "447,897,600 are too many."),
    (Solution("A16", "Large images", choices={0: "16"}), "Nobody can read the 50 in 16x16 pixels"),
)

SOLUTIONS = (
    Solution("A1", "An image is a matrix", {4: "255", 13: "255", 22: "0"}),
    Solution("A2 A3", "Convolution", {25: "4"}, {1: "2"}),
    Solution("A4", "ReLU", {0: "0", 4: "1", 5: "1"}),
    Solution("A5", "Pooling", choices={0: "average"}),
    Solution("A6", "Depth and cost", choices={0: "4", 1: "8"}),
    Solution("A7", "Flatten", answer="7", wrong="5"),
    Solution("A8", "Dense layer", {10: "9"}),
    Solution("A9", "Softmax", {1: "9"}),
    Solution("A8 A13", "One step of learning", presses=("Take a step", 40)),
    Solution("A10", "Data", answer="784", wrong="28"),
    Solution("A11", "Preprocessing", {0: "51"}, {0: "3"}),
    Solution("A12", "The article's network", choices={0: "16"}),
    Solution("A13", "Training curves", answer="4", wrong="6"),
    Solution("A14", "Evaluation", {0: "100", 1: "0", 2: "0", 6: "0", 8: "98"}),
    Solution("A15", "What does it look at?", choices={0: "occlusion map"}),
    Solution("A2 A16", "Kernels on your own image", choices={0: "vertical edges (Sobel x)"}),
    Solution("A16", "Large images", choices={0: "8"}),
)


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    with opened_lessons(browser, url) as page:
        yield page


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
    assert page.get_by_role("link", name="Pooling, done").inner_text() == "Pooling\u00a0✓"


@pytest.mark.parametrize(("attempt", "hint"), HINTS, ids=[attempt.title for attempt, _ in HINTS])
def test_hint_of_every_lesson_follows_what_was_tried(page: Any, attempt: Solution, hint: str) -> None:
    lesson = open_lesson(page, attempt.title)
    first = check(page, lesson)
    page.locator(".lesson h2").focus()
    solve(page, lesson, attempt)
    assert hint in (second := check(page, lesson))
    assert second != first


def test_check_names_an_input_that_is_no_number(page: Any) -> None:
    lesson = open_lesson(page, "An image is a matrix")
    lesson.locator("input").first.fill("many")
    assert check(page, lesson) == "Not yet. Expected a number from 0 to 255, but “many” came."
    lesson = open_lesson(page, "Softmax")
    lesson.locator("input").first.fill("")
    assert check(page, lesson) == "Not yet. Expected a number from -1000000 to 1000000, but “” came."


def test_lessons_open_at_the_first_that_is_not_done(page: Any) -> None:
    for solution in (SOLUTIONS[0], SOLUTIONS[2]):
        lesson = open_lesson(page, solution.title)
        page.locator(".lesson h2").focus()
        solve(page, lesson, solution)
        assert check(page, lesson) == "Right."
    address = page.url.split("#")[0]
    page.goto("about:blank")
    page.goto(f"{address}#learn")
    page.wait_for_selector("h2:has-text('2. Convolution')")


def test_task_stands_above_what_it_is_solved_with(page: Any) -> None:
    for solution in SOLUTIONS:
        lesson = open_lesson(page, solution.title)
        task = lesson.locator(".task").bounding_box()["y"]
        assert all(task < one.bounding_box()["y"] for one in lesson.locator("input, select").all()), solution.title


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
        hidden = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel)"
        assert page.locator("lab-matrix").evaluate_all(hidden) == [], SOLUTIONS[i].title


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
