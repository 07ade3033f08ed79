"""One self-contained HTML page about one trained network, in the order in which someone would ask.

The page needs no script and makes no request: style and pictures are inside it. It reads on a phone, on a
wide screen, in the dark and on paper. This module knows nothing of torch or of run folders: the caller
fills a `Report` with plain data.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from html import escape
from importlib.resources import files

from convscope._text import percent
from convscope.data.audit.issue import Issue
from convscope.evaluation.metrics import ClassScore

Facts = tuple[tuple[str, str], ...]

WIDE = 1200  # pixels; a wider picture keeps a readable size on a phone and scrolls in its own box


class Section(Enum):
    """The questions of the page, in order: the anchor and the heading."""

    HOW_GOOD = ("good", "How good is it?")
    WHERE_IT_FAILS = ("fails", "Where does it fail?")
    HOW_IT_LEARNED = ("learned", "How did it learn?")
    WHAT_IT_SEES = ("sees", "What does it see?")
    IN_THE_DATA = ("data", "What was found in the data?")
    MADE_OF = ("layers", "What is it made of?")
    HOW_MADE = ("made", "How was it made?")


@dataclass(frozen=True)
class Picture:
    """One picture of the page: `explanation` is one sentence for a learner, `alt` says what can be seen in it."""

    section: Section
    heading: str
    explanation: str
    alt: str
    png: bytes


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
    """All that the page says. `accuracy`, `interval` (95 %, low and high) and `top_k` are shares 0..1 of `n` images.

    notes: what a reader must know to trust the number, such as what chose the epoch.
    """

    title: str
    accuracy: float
    interval: tuple[float, float]
    n: int
    top_k: Mapping[int, float]
    summary: Facts
    notes: tuple[str, ...]
    per_class: tuple[ClassScore, ...]
    layers: tuple[LayerRow, ...]
    dataset: Facts
    preprocessing: Facts
    recipe: Facts
    machine: Facts
    pictures: tuple[Picture, ...]
    issues: tuple[Issue, ...] = ()


def render(report: Report) -> str:
    """The page as HTML text, to be written as UTF-8. Every text of the report is escaped."""
    bodies = {
        Section.HOW_GOOD: _definitions(_top_k(report.top_k)) + _notes(report.notes),
        Section.WHERE_IT_FAILS: _class_table(report.per_class),
        Section.HOW_IT_LEARNED: "",
        Section.WHAT_IT_SEES: "",
        Section.IN_THE_DATA: _issues(report.issues),
        Section.MADE_OF: _layer_table(report.layers),
        Section.HOW_MADE: _facts("Data", report.dataset)
        + _facts("Preprocessing", report.preprocessing)
        + _facts("Recipe", report.recipe)
        + _facts("HardwareInfo", report.machine),
    }
    for section in Section:
        figures = _figures(p for p in report.pictures if p.section is section)
        bodies[section] = bodies[section] + figures if section is Section.IN_THE_DATA else figures + bodies[section]
    shown = [section for section in Section if bodies[section]]
    links = "".join(f'<li><a href="#{anchor}">{heading}</a></li>' for anchor, heading in (s.value for s in shown))
    parts = [_section(section, bodies[section]) for section in shown]
    return PAGE.format(
        title=_text(report.title),
        style=files("convscope.report").joinpath("report.css").read_text(encoding="utf-8"),
        result=_result(report),
        links=links,
        sections="\n".join(parts),
    )


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{result}
<nav aria-label="Contents"><ul>{links}</ul></nav>
</header>
<main>
{sections}
</main>
<footer><p>Made by convscope. Everything on this page is inside this one file.</p></footer>
</body>
</html>
"""


def _result(report: Report) -> str:
    low, high = (percent(bound) for bound in report.interval)
    return (
        f'<p class="result"><strong>{percent(report.accuracy)}</strong> of the test images are classified correctly'
        f'<span class="interval">95 % interval {low} to {high}, <span>n = {report.n:,}</span> images</span></p>\n'
        + _definitions(report.summary)
    )


def _section(section: Section, body: str) -> str:
    anchor, heading = section.value
    return f'<section id="{anchor}" aria-labeledby="{anchor}-h">\n<h2 id="{anchor}-h">{heading}</h2>\n{body}</section>'


def _figures(pictures: Iterable[Picture]) -> str:
    figures = "".join(_figure(picture) for picture in pictures)
    return f'<div class="pictures">\n{figures}</div>\n' if figures else ""


def _figure(picture: Picture) -> str:
    # PNG standard, IHDR: width and height are big-endian at bytes 16 and 20.
    width, height = struct.unpack(">II", picture.png[16:24])
    data = base64.b64encode(picture.png).decode("ascii")
    kind = f' class="wide" style="--natural: {width}px"' if width > WIDE else ""
    return (
        f"<figure{kind}>\n<figcaption><h3>{_text(picture.heading)}</h3><p>{_text(picture.explanation)}</p></figcaption>\n"
        f"{_scroll_box(picture.heading)}"
        f'<img src="data:image/png;base64,{data}" alt="{_text(picture.alt)}" width="{width}" height="{height}">'
        "</div>\n</figure>\n"
    )


def _scroll_box(name: str) -> str:
    """The opening tag of a box that scrolls sideways by itself, also with the keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(name)}">'


def _definitions(facts: Facts) -> str:
    if not facts:
        return ""
    pairs = "".join(f"<div><dt>{_text(term)}</dt><dd>{_text(value)}</dd></div>" for term, value in facts)
    return f"<dl>{pairs}</dl>\n"


def _facts(heading: str, facts: Facts) -> str:
    return f"<h3>{heading}</h3>\n{_definitions(facts)}" if facts else ""


def _top_k(top_k: Mapping[int, float]) -> Facts:
    return tuple((f"right class among the first {k}", percent(top_k[k])) for k in sorted(top_k) if k > 1)


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f"<h3>How this was measured</h3>\n<ul>{items}</ul>\n" if items else ""


def _issues(issues: Sequence[Issue]) -> str:
    items = "".join(
        f"<li><strong>{issue.level}</strong>: {_text('; '.join(filter(None, (issue.text, issue.action))))}"
        f"{f'<br>{_text(issue.advice)}' if issue.advice else ''}</li>\n"
        for issue in issues
    )
    return f"<ul>{items}</ul>\n" if items else ""


def _class_table(rows: Sequence[ClassScore]) -> str:
    body = "".join(
        f'<tr><th scope="row">{_text(row.name)}</th><td class="share">{_meter(row.recall)}</td>'
        f"<td>{percent(row.precision)}</td><td>{percent(row.f1)}</td><td>{row.support:,}</td></tr>\n"
        for row in sorted(rows, key=lambda row: (row.f1, row.recall))
    )
    heads = ("class", "found (recall)", "right when said (precision)", "F1", "test images")
    return _table("Each class, the weakest (lowest F1) first", heads, body) if rows else ""


def _layer_table(rows: Sequence[LayerRow]) -> str:
    body = "".join(
        f'<tr><th scope="row">{_text(row.name)}</th><td>{"×".join(map(str, row.shape))}</td>'
        f"<td>{row.parameters:,}</td><td>{row.multiply_adds:,}</td><td>{row.activation_bytes:,}</td></tr>\n"
        for row in rows
    )
    sums = [
        sum(column) for column in zip(*((r.parameters, r.multiply_adds, r.activation_bytes) for r in rows), strict=True)
    ]
    cells = "".join(f"<td>{total:,}</td>" for total in sums)
    foot = f'<tfoot><tr><th scope="row">all layers</th><td></td>{cells}</tr></tfoot>\n'
    heads = ("layer", "output", "parameters", "multiply-adds", "activation bytes")
    return _table("Each layer and its cost for one image", heads, body, foot) if rows else ""


def _table(caption: str, heads: Sequence[str], body: str, foot: str = "") -> str:
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f"{_scroll_box(caption)}<table>\n<caption><span>{caption}</span></caption>\n"
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}</tbody>\n{foot}</table></div>\n"
    )


def _meter(share: float) -> str:
    return f'<span style="--share:{share:.4f}">{percent(share)}</span>'


def _text(text: str) -> str:
    """Escaped for HTML content and attributes; the lone surrogates of undecodable file names become `?`."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))
