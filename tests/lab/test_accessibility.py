"""The page for everybody, in Chromium: names, roles and contrast by axe-core, the keyboard alone, reduced motion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command import required
from helpers.lab_browser import opened

pytestmark = pytest.mark.slow

AXE = Path(__file__).parents[2] / "lab" / "node_modules" / "axe-core" / "axe.min.js"
FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"


def violations(page: Any) -> list[str]:
    """What axe-core finds, by its default rules: WCAG 2.2 A and AA, contrast included, and best practices."""
    found = page.evaluate("axe.run().then(({ violations }) => violations)")
    return [f"{one['id']}: {node['html'][:120]} {node['failureSummary']}" for one in found for node in one["nodes"][:3]]


def show_everything(page: Any) -> None:
    page.get_by_role("button", name="Keep for comparing").click()
    page.locator("#edit").click()
    for summary in page.locator("summary").all()[:3]:
        summary.click()
    page.locator("lab-layer").nth(1).locator("canvas").first.click(position={"x": 5, "y": 5})
    page.wait_for_selector("lab-arithmetic.open .value")


def show_lessons(page: Any) -> None:
    page.get_by_role("link", name="Learn").click()
    page.locator("lab-learn h2").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("show", [show_everything, show_lessons])
def test_page_has_no_violation_of_accessibility_rules(
    browser: Any, url: str, scheme: str, show: Callable[[Any], None]
) -> None:
    if not AXE.exists():
        required("the accessibility tests need axe-core: npm ci --prefix lab")
    with opened(browser, url, 390 if scheme == "light" else 1600, scheme) as page:
        page.evaluate(AXE.read_text("utf-8"))
        show(page)
        page.wait_for_timeout(400)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_tab_visits_every_control_in_the_order_of_the_page_and_shows_the_focus(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        expected = page.evaluate(
            f"""() => {{
              const all = [...document.querySelectorAll("{FOCUSABLE}")].filter((one) => one.checkVisibility());
              all.forEach((one, i) => (one.dataset.order = i));
              return all.length;
            }}"""
        )
        visited, outlines = [], []
        for _ in range(expected):
            page.keyboard.press("Tab")
            order, outline = page.evaluate(
                """() => {
                  const one = document.activeElement;
                  const label = document.querySelector(`label[for="${one.id}"]`);
                  const shown = one.classList.contains("hidden") ? label : one;
                  return [Number(one.dataset.order), getComputedStyle(shown).outlineStyle];
                }"""
            )
            visited.append(order)
            outlines.append(outline)
        assert visited == list(range(expected))
        assert set(outlines) == {"solid"}


def test_everything_works_with_the_keyboard_alone(browser: Any, url: str) -> None:
    with opened(browser, url) as page:

        def tab_to(selector: str) -> None:
            for _ in range(80):
                page.keyboard.press("Tab")
                if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                    return
            pytest.fail(f"Tab does not reach {selector}")

        tab_to("#edit")
        page.keyboard.press("Enter")
        tab_to("lab-pixels td input")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Control+A")
        page.keyboard.type("255")
        before = page.locator("lab-layer lab-maps").first.evaluate("m => m.values[8]")
        page.keyboard.press("Enter")
        page.wait_for_function("before => document.querySelector('lab-maps').values[8] !== before", arg=before)
        tab_to("lab-compare button")
        page.keyboard.press("Enter")
        assert page.locator("lab-compare figcaption").is_visible()
        tab_to("lab-layer canvas")
        page.keyboard.press("+")
        assert page.locator("lab-layer lab-maps").first.evaluate("m => m.zoom") == 2
        tab_to("lab-layer summary")
        page.keyboard.press("Enter")
        page.locator("lab-weights lab-maps canvas").wait_for()
        tab_to("lab-weights canvas")
        page.keyboard.press("ArrowRight")
        assert page.locator("lab-weights .reading").inner_text().startswith("kernel 0, row 0, column 1: ")
        tab_to("lab-layer canvas")
        page.keyboard.press("Enter")
        page.wait_for_selector("lab-arithmetic.open .value")
        page.wait_for_function("document.activeElement.matches('lab-arithmetic')")
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.matches('lab-layer canvas')")


def test_nothing_moves_if_the_user_wants_reduced_motion(browser: Any, url: str) -> None:
    page = browser.new_page(reduced_motion="reduce")
    page.goto(url)
    page.wait_for_selector(".verdict")
    moving = """[...document.querySelectorAll("*")].filter((one) => {
      const style = getComputedStyle(one);
      return parseFloat(style.transitionDuration) > 0 || parseFloat(style.animationDuration) > 0;
    }).length"""
    assert page.evaluate(moving) == 0
    page.close()
