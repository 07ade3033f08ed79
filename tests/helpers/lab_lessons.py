"""The lessons of the lab's page in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class Solution(NamedTuple):
    """What to do in a lesson: inputs to fill and choices to make by their place, an answer, a button to press."""

    rows: str
    title: str
    inputs: Mapping[int, str] = MappingProxyType({})
    choices: Mapping[int, str] = MappingProxyType({})
    answer: str = ""
    presses: tuple[str, int] = ("", 0)
    wrong: str = ""


@contextmanager
def opened_lessons(browser: Any, url: str) -> Iterator[Any]:
    """The page at its lessons; in the end there was no message of the browser."""
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
