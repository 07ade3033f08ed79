"""The lessons in Chromium: the article's examples, and every task can be finished."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from convscope.reference import cross_entropy, cross_entropy_backward, dense, dense_backward, one_hot, sgd_momentum

pytestmark = pytest.mark.slow


def rows(lesson: Any, index: int) -> list[list[str]]:
    """The numbers of a matrix in a lesson, as they are shown."""
    lines = lesson.locator("lab-matrix").nth(index).locator("tr").all()
    return [[cell.inner_text() for cell in line.locator("td").all()] for line in lines]


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(f"{url}#learn")
    page.wait_for_selector("lab-learn .lesson")
    yield page
    page.close()
    assert trouble == []


def lesson(page: Any, title: str) -> Any:
    return page.locator(".lesson", has=page.locator("h2", has_text=title))


def test_lesson_of_convolution_shows_the_article_and_its_sums(page: Any) -> None:
    """A3."""
    found = lesson(page, "Convolution")
    assert rows(found, 2) == [list("353"), list("325"), list("442")]
    found.get_by_role("button").click()
    assert found.locator(".sum").inner_text() == "1·1 + 1·0 + 0·1 + 1·0 + 0·1 + 1·0 + 1·1 + 1·1 + 1·0 = 3"
    found.locator("lab-matrix").nth(0).locator("input").first.fill("3")
    assert rows(found, 2)[0][0] == "5"


@pytest.mark.parametrize(
    ("kind", "expected"), [("max", ["56", "45"]), ("min", ["21", "12"]), ("average", ["34", "34"])]
)
def test_lesson_of_pooling_shows_the_article(page: Any, kind: str, expected: list[str]) -> None:
    """A5."""
    found = lesson(page, "Pooling")
    found.locator("select").select_option(kind)
    assert rows(found, 1) == [list(row) for row in expected]


def test_every_task_can_be_finished(page: Any) -> None:
    inputs = {"An image": (4, "255"), "ReLU": (0, "0"), "Dense layer": (1, "9")}
    for title, (index, value) in inputs.items():
        lesson(page, title).locator("lab-matrix input").nth(index).fill(value)
    for index in (4, 5):
        lesson(page, "ReLU").locator("lab-matrix input").nth(index).fill("1")
    lesson(page, "Convolution").locator("select").nth(1).select_option("1")
    lesson(page, "Pooling").locator("select").select_option("average")
    answers = {
        "Depth": "1,843,200", "Flatten": "5", "Data and": "3", "article's network": "540 900", "Is it good": "256",
    }  # fmt: skip
    for title, answer in answers.items():
        lesson(page, title).locator("label input").fill(answer)
    step = lesson(page, "One step")
    for _ in range(40):
        step.get_by_role("button").click()
    done = page.locator(".lesson .done").count()
    assert done == page.locator(".lesson").count() == 11
    assert page.locator("lab-learn > .hint").inner_text() == "11 of 11 tasks done"


def test_lesson_of_a_step_follows_the_textbook(page: Any) -> None:
    """A8, A13: the first step, by hand."""
    inputs, weights = np.array([[1.0, 2.0]]), np.array([[0.1, 0.3], [-0.2, 0.1]])
    logits, target = dense(inputs, weights), one_hot([0], 2).astype(float)
    _, gradient, _ = dense_backward(cross_entropy_backward(logits, target), inputs, weights)
    after, _ = sgd_momentum(weights, np.zeros_like(weights), gradient)
    found = lesson(page, "One step")
    assert found.locator(".sum").inner_text().endswith(f"loss {cross_entropy(logits, target):.4f}")
    found.get_by_role("button").click()
    shown = [[float(cell.replace("\u2212", "-")) for cell in row] for row in rows(found, 0)]
    np.testing.assert_allclose(shown, after.T, rtol=1e-5)


def test_task_of_a_wrong_answer_stays_open(page: Any) -> None:
    found = lesson(page, "Flatten")
    found.locator("label input").fill("4")
    assert found.locator(".done").count() == 0


def test_lessons_do_not_scroll_sideways_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_lessons_lead_back_to_the_network(page: Any) -> None:
    assert not page.locator("#main").is_visible()
    page.locator("#learn-link").click()
    page.wait_for_selector("#main:not([hidden])")
    assert page.locator(".verdict").is_visible()
