"""One self-contained HTML page about a search: what was tried, and how sure the choice is."""

from __future__ import annotations

from dataclasses import dataclass

from convscope._statistics import wilson
from convscope.evaluation.proportion import Proportion
from convscope.report.html import environment


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial; `accuracy`, 0..1, is measured on `n` images, and None if the trial failed with an `error`."""

    number: int
    rung: int
    text: str
    network: str
    recipe: str
    accuracy: float | None
    n: int
    seconds: str
    error: str

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson(round((self.accuracy or 0) * self.n), self.n)


@dataclass(frozen=True, kw_only=True)
class SearchPage:
    """The contents of the page: the chosen configuration, how sure the choice is, its test result, and all trials."""

    title: str
    chosen: str
    verdict: str
    test: Proportion
    test_images: int
    seconds: str
    run: str
    trials: tuple[TrialRow, ...]


def render_search(page: SearchPage) -> str:
    """Render the page as HTML text. All texts are escaped."""
    return environment().get_template("search.html").render(page=page)
