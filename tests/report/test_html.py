"""The report page: its text, and its layout in a browser on a phone, a wide screen, in dark mode and on paper."""

from __future__ import annotations

import base64
import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from convscope.evaluation.answers import Answers
from convscope.evaluation.metrics import ClassScore
from convscope.evaluation.proportion import Proportion
from convscope.report.html import Figure, LayerRow, Report, Section, render_page
from helpers.browser import chromium

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>"
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


def gray_png(width: int, height: int) -> bytes:
    """A gray PNG file, written according to the standard."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\x00" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def class_score(name: str, precision: float, recall: float, f1: float, support: int) -> ClassScore:
    return ClassScore(name=name, precision=precision, recall=recall, f1=f1, support=support)


REPORT = Report(
    title="article on mnist",
    accuracy=0.98765,
    interval=(0.98529, 0.98964),
    n=10_000,
    top_k={1: 0.98765, 5: 0.9999, 3: 0.9987},
    summary=(("parameters", "542,230"), ("test loss", "0.0401")),
    notes=("The epoch was selected on a held-out tenth of the training set.",),
    per_class=(class_score("zero", 0.99, 0.98, 0.985, 980), class_score("one", 0.91, 0.9, 0.905, 1135)),
    confidence=(("Expected calibration error", "0.42 %"),),
    answers=(
        Answers(
            images="test images",
            n=10_000,
            answered=0.953,
            interval=(0.9487, 0.957),
            unsure=0.0,
            unlike=0.047,
            accuracy=Proportion(accuracy=0.9912, interval=(0.989, 0.993)),
        ),
        Answers(images="noise", n=200, answered=0.005, interval=(0.0, 0.0275), unsure=0.01, unlike=0.985),
    ),
    layers=(
        LayerRow("conv1", (26, 26, 32), 320, 194_688, 86_528),
        LayerRow("dense1", (100,), 540_900, 540_800, 400),
        LayerRow("classifier", (10,), 1_010, 1_000, 40),
    ),
    dataset=(("name", "mnist"),),
    preprocessing=(("scale", "1/255"),),
    recipe=(("optimizer", "SGD"),),
    machine=(("processor", "4 cores"),),
    figures=(
        Figure(Section.SETUP, "The first nine", "What it learned from.", "Nine digits", gray_png(1008, 900)),
        Figure(Section.MISTAKES, "Confusion", "Rows are true.", "A matrix", gray_png(2600, 2700)),
        Figure(Section.MISTAKES, "Worst mistakes", "Most sure and wrong.", "16 digits", gray_png(1008, 2600)),
        Figure(Section.LEARNING, "Learning curves", "Loss falls.", "Two curves", gray_png(1008, 936)),
        Figure(Section.DATA, "Found", "Used once.", "Two images", gray_png(1008, 700)),
        Figure(Section.FEATURES, "Filters", "What each looks for.", "32 filters", gray_png(1008, 800)),
    ),
)
NAMES = [f"{HOSTILE} {i}" for i in range(41)] + [LONG, "a class whose name is a whole sentence " * 4]
HOSTILE_REPORT = replace(
    REPORT,
    title=f"{HOSTILE} & \"{LONG}\" 'x'",
    summary=((HOSTILE, LONG),),
    notes=(HOSTILE, LONG),
    per_class=tuple(class_score(name, 0.9, 0.8, 0.85, 11) for name in NAMES),
    confidence=((HOSTILE, LONG),),
    answers=tuple(one.model_copy(update={"images": HOSTILE}) for one in REPORT.answers),
    layers=tuple(LayerRow(f"{HOSTILE}{i}", (224, 224, 1024), 10**10, 10**12, 10**11) for i in range(60)),
    dataset=((LONG, HOSTILE), ("folder", "/" + "deep/" * 60)),
    figures=tuple(replace(p, heading=LONG, explanation=HOSTILE, alt=f'" onerror="{HOSTILE}') for p in REPORT.figures),
)
PAGES = {"plain": REPORT, "hostile": HOSTILE_REPORT}


# The text


class Outline(HTMLParser):
    """Tags in order and the text inside; checks that tags nest."""

    VOID = frozenset({"meta", "link", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


@pytest.mark.parametrize("name", PAGES)
def test_page_elements_nest_and_describe_themselves(name: str) -> None:
    page = render_page(PAGES[name])
    outline = Outline(page)
    assert page.startswith("<!DOCTYPE html>")
    assert outline.open == []
    assert outline.of("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in outline.of("meta")
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(cell.get("scope") in ("col", "row") for cell in outline.of("th"))
    assert len(outline.of("caption")) == len(outline.of("table")) == 3
    assert all(image["alt"] for image in outline.of("img"))


@pytest.mark.parametrize("name", PAGES)
def test_page_headings_skip_no_level(name: str) -> None:
    levels = [int(tag[1]) for tag, _ in Outline(render_page(PAGES[name])).tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_page_table_of_answers_has_a_dash_for_an_accuracy_that_was_not_measured() -> None:
    page = render_page(REPORT)
    row = page[page.index('<tr><th scope="row">noise</th>') :]
    cells = re.findall(r"<td>(.*?)</td>", row[: row.index("</tr>")])
    assert cells == ["0.50 %", "0.00 % to 2.75 %", "1.00 %", "98.50 %", "-", "200"]


def test_page_sections_are_in_order_and_linked() -> None:
    outline = Outline(render_page(REPORT))
    questions = [section.value[1] for section in Section]
    assert questions[0] == "How good is it?" and questions[-1] == "How was it trained?"
    assert outline.inside("h2") == questions
    assert outline.inside("a") == questions
    assert [link["href"] for link in outline.of("a")] == [f"#{section['id']}" for section in outline.of("section")]


def test_page_empty_section_is_omitted() -> None:
    without = replace(REPORT, figures=(), layers=(), per_class=(), answers=())
    outline = Outline(render_page(without))
    assert outline.inside("h2") == outline.inside("a") == ["How good is it?", "How was it trained?"]


def test_page_accuracy_has_interval_and_n() -> None:
    outline = Outline(render_page(REPORT))
    assert outline.inside("strong") == ["98.77 %"]
    assert "95 % interval 98.53 % to 98.96 %," in outline.inside("span")
    assert "n = 10,000" in outline.inside("span")


def test_page_contains_all_details_and_notes() -> None:
    outline = Outline(render_page(REPORT))
    details = dict(zip(outline.inside("dt"), outline.inside("dd"), strict=True))
    assert details == {
        "parameters": "542,230",
        "test loss": "0.0401",
        "Top-3 accuracy": "99.87 %",
        "Top-5 accuracy": "99.99 %",
        "Expected calibration error": "0.42 %",
        "name": "mnist",
        "scale": "1/255",
        "optimizer": "SGD",
        "processor": "4 cores",
    }
    assert outline.inside("li") == list(REPORT.notes)


def test_page_class_table_starts_with_lowest_f1() -> None:
    outline = Outline(render_page(REPORT))
    assert [name for name in outline.inside("th") if name in ("zero", "one")] == ["one", "zero"]
    recalls = [text for text in outline.inside("span") if re.fullmatch(r"\d+\.\d\d %", text)]
    assert recalls == ["90.00 %", "98.00 %"]
    assert outline.inside("td")[:3] == ["91.00 %", "90.50 %", "1,135"]


def test_page_layer_table_has_sums() -> None:
    """The article's network has 542,230 parameters (A12)."""
    cells = Outline(render_page(REPORT)).inside("td")
    assert cells[-3:] == ["542,230", "736,488", "86,968"]
    assert cells[18:22] == ["26×26×32", "320", "194,688", "86,528"]


def test_page_figures_are_in_their_sections_unaltered() -> None:
    outline = Outline(render_page(REPORT))
    order = ["A matrix", "16 digits", "Two curves", "32 filters", "Two images", "Nine digits"]
    assert [image["alt"] for image in outline.of("img")] == order
    by_alt = {figure.alt: figure.png for figure in REPORT.figures}
    for image in outline.of("img"):
        source = str(image["src"])
        assert source.startswith("data:image/png;base64,")
        assert base64.b64decode(source.partition(",")[2]) == by_alt[str(image["alt"])]
    assert (outline.of("img")[0]["width"], outline.of("img")[0]["height"]) == ("2600", "2700")


def test_page_hostile_text_is_escaped() -> None:
    page = render_page(HOSTILE_REPORT)
    assert "<script" not in page
    outline = Outline(page)
    assert not any(attribute.startswith("on") for _, attributes in outline.tags for attribute in attributes)
    assert outline.inside("h1") == [HOSTILE_REPORT.title]
    assert {image["alt"] for image in outline.of("img")} == {f'" onerror="{HOSTILE}'}


def test_page_undecodable_name_can_be_written() -> None:
    row = class_score("caf\udce9", 1.0, 1.0, 1.0, 3)  # how Python reads the Latin-1 file name "café"
    assert b'<th scope="row">caf?</th>' in render_page(replace(REPORT, per_class=(row,))).encode("utf-8")


# The browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as instance:
        yield instance


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("report")
    for name, report in PAGES.items():
        (target / f"{name}.html").write_text(render_page(report), encoding="utf-8")
    return target


@contextmanager
def opened(browser: Any, file: Path, width: int, scheme: str = "light") -> Iterator[Any]:
    """Open the page; check in the end that there was no request but the file, no message, dialog or error."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    requests: list[str] = []
    trouble: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
    page.goto(file.as_uri())
    yield page
    page.close()
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert trouble == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_browser_page_does_not_scroll_sideways_and_loads_figures(
    browser: Any, folder: Path, width: int, name: str
) -> None:
    with opened(browser, folder / f"{name}.html", width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        loaded = page.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
        assert sorted(loaded) == [1008] * 5 + [2600]
        beyond = page.evaluate(
            "[...document.querySelectorAll('body *')].filter(e => !e.parentElement.closest('.scroll') &&"
            " e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
        )
        assert beyond == []
        assert page.evaluate("document.compatMode") == "CSS1Compat"


def test_browser_on_a_phone_wide_content_scrolls_in_its_own_box(browser: Any, folder: Path) -> None:
    with opened(browser, folder / "hostile.html", 360) as page:
        boxes = page.evaluate("[...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth, b.clientWidth])")
        wide = [inner > outer for inner, outer in boxes]
        # the matrix and both tables; three figures fit
        assert wide.count(True) >= 3
        assert page.evaluate("document.querySelector('figure.wide img').clientWidth") > 900
        assert page.evaluate("document.querySelector('.scroll').tabIndex") == 0  # can be scrolled from the keyboard
        assert (
            page.evaluate("Math.max(...[...document.querySelectorAll('caption span')].map(c => c.clientWidth))") <= 328
        )


def test_browser_on_a_wide_screen_figures_are_side_by_side(browser: Any, folder: Path) -> None:
    many = replace(REPORT, figures=tuple(replace(p, section=Section.FEATURES) for p in REPORT.figures[2:]))
    (folder / "many.html").write_text(render_page(many), encoding="utf-8")
    with opened(browser, folder / "many.html", 1280) as page:
        tops = page.evaluate("[...document.querySelectorAll('figure')].map(f => f.offsetTop)")
        assert tops[0] == tops[1] < tops[2]
    with opened(browser, folder / "many.html", 360) as page:
        tops = page.evaluate("[...document.querySelectorAll('figure')].map(f => f.offsetTop)")
        assert tops[0] < tops[1] < tops[2]


# WCAG 2.2, 1.4.3: the contrast of two colors from their relative luminance.
CONTRAST = """selector => {
  const light = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [getComputedStyle(document.querySelector(selector)).color,
                  getComputedStyle(document.body).backgroundColor].map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_text_has_contrast_in_light_and_dark_mode(browser: Any, folder: Path, scheme: str) -> None:
    with opened(browser, folder / "plain.html", 1280, scheme) as page:
        page_is_dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert page_is_dark == (scheme == "dark")
        card = "getComputedStyle(document.querySelector('figure .scroll')).backgroundColor"
        assert page.evaluate(card) == "rgb(255, 255, 255)"  # figures have a white background
        for selector in ("h1", "strong", "dt", "dd", "a", "td", "thead th", "figcaption p", "footer p"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, selector


def test_browser_accessibility_tree_has_headings_in_order(browser: Any, folder: Path) -> None:
    with opened(browser, folder / "plain.html", 1280) as page:
        tree = page.locator("body").aria_snapshot()
    headings = re.findall(r'heading "([^"]+)" \[level=([12])\]', tree)
    assert headings == [("article on mnist", "1"), *((section.value[1], "2") for section in Section)]
    assert 'img "A matrix"' in tree
    assert 'navigation "Contents"' in tree


@pytest.mark.parametrize("name", PAGES)
def test_browser_prints_without_cutting_anything_off(browser: Any, folder: Path, name: str) -> None:
    with opened(browser, folder / f"{name}.html", 1280) as page:
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 673, "height": 1000})  # 178 mm: A4 within its margins
        heights = page.evaluate("[...document.querySelectorAll('figure')].map(f => f.offsetHeight)")
        assert max(heights) < 1000  # 265 mm at 96 dpi: each fits on one sheet
        assert {page.evaluate("getComputedStyle(document.querySelector('figure')).breakInside")} == {"avoid"}
        right = "Math.max(...[...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect().right))"
        assert page.evaluate(right) <= 673
        pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 20
