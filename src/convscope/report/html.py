"""One self-contained HTML page about one trained network, in the order in which a reader would ask.

The page has no script and makes no request: its style and figures are inside. It is made for a phone, a wide screen,
dark mode and paper. This module knows neither torch nor run folders: the caller fills a `Report` with plain data.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from convscope._text import percent
from convscope.data.audit.issue import Issue
from convscope.evaluation.answers import Answers
from convscope.evaluation.metrics import ClassScore

if TYPE_CHECKING:
    from jinja2 import Environment

Details = tuple[tuple[str, str], ...]

WIDE_PX = 1200  # a wider figure scrolls in its own box, so that it is readable on a phone


class Section(Enum):
    """The sections of the page in order: anchor and heading."""

    ACCURACY = ("accuracy", "How good is it?")
    MISTAKES = ("mistakes", "Where does it fail?")
    CONFIDENCE = ("confidence", "When can you rely on it?")
    LEARNING = ("learning", "How did it learn?")
    FEATURES = ("features", "What does it see?")
    DATA = ("data", "What is in the data?")
    LAYERS = ("layers", "What are its layers?")
    SETUP = ("setup", "How was it trained?")

    @property
    def anchor(self) -> str:
        """The id of the section."""
        return self.value[0]

    @property
    def heading(self) -> str:
        """The question that it answers."""
        return self.value[1]


@dataclass(frozen=True)
class Figure:
    """A figure of the page: `explanation` is one sentence for a learner, `alt` describes what is visible.

    Dark mode turns the colors of a figure without images (`is_chart`) over, and dims the others.
    """

    section: Section
    heading: str
    explanation: str
    alt: str
    png: bytes
    is_chart: bool = False

    @property
    def width(self) -> int:
        """Pixels, from bytes 16 to 19 of a PNG file."""
        return int(struct.unpack(">I", self.png[16:20])[0])

    @property
    def height(self) -> int:
        """Pixels, from bytes 20 to 23 of a PNG file."""
        return int(struct.unpack(">I", self.png[20:24])[0])

    @property
    def is_wide(self) -> bool:
        """Whether it scrolls in its own box."""
        return self.width > WIDE_PX

    @property
    def data_uri(self) -> str:
        """The file as a `data:` URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


@dataclass(frozen=True)
class LayerRow:
    """The cost of one layer for one image; `shape` is that of its output."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """The contents of the page.

    `accuracy`, `interval` (95 %, low and high) and `top_k` are fractions, 0..1, of `n` images. `notes` say how the
    numbers were measured.
    """

    title: str
    accuracy: float
    interval: tuple[float, float]
    n: int
    top_k: Mapping[int, float]
    summary: Details
    notes: tuple[str, ...]
    per_class: tuple[ClassScore, ...]
    layers: tuple[LayerRow, ...]
    dataset: Details
    preprocessing: Details
    recipe: Details
    machine: Details
    figures: tuple[Figure, ...]
    issues: tuple[Issue, ...] = ()
    confidence: Details = ()
    answers: tuple[Answers, ...] = ()

    @property
    def top_k_details(self) -> Details:
        """Top-k accuracies other than top-1."""
        return tuple((f"Top-{k} accuracy", percent(self.top_k[k])) for k in sorted(self.top_k) if k > 1)

    @property
    def classes_by_f1(self) -> list[ClassScore]:
        """The classes, the lowest F1 score first; those without images last."""
        return sorted(self.per_class, key=lambda row: (row.f1 is None, row.f1 or 0, row.recall or 0))


def render_page(report: Report) -> str:
    """Render the page as HTML text, which is to be written as UTF-8. All texts of the report are escaped."""
    figures = {section: [figure for figure in report.figures if figure.section is section] for section in Section}
    contents: dict[Section, Any] = {
        Section.MISTAKES: report.per_class,
        Section.CONFIDENCE: report.answers,
        Section.DATA: report.issues,
        Section.LAYERS: report.layers,
        Section.ACCURACY: report.top_k_details or report.notes,
        Section.SETUP: report.dataset or report.preprocessing or report.recipe or report.machine,
    }
    shown = [(section, figures[section]) for section in Section if figures[section] or contents.get(section)]
    return environment().get_template("report.html").render(report=report, sections=shown)


@cache
def environment() -> Environment:
    """The templates of the package, with autoescaping and the filters `percent` and `grouped`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("convscope.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_encodable,
    )
    environment.filters |= {"percent": _percent_or_dash, "grouped": "{:,}".format}
    return environment


def _encodable(value: Any) -> Any:
    """Replace the lone surrogates of undecodable file names by `?`; they cannot be written as UTF-8."""
    if type(value) is str:  # not Markup, which is a subclass
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _percent_or_dash(fraction: float | None) -> str:
    """A percentage, or "-" for what was not measured."""
    return "-" if fraction is None else percent(fraction)
