"""Links in the documentation: the README's also work on a package index, and none of them is dead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REPOSITORY = re.compile(r"https://(?:github\.com|raw\.githubusercontent\.com)/convscope/convscope/(?:blob/)?main/(.+)")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "native" / "README.md", *ROOT.glob("benchmarks/*.md")]


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_links_work_on_a_package_index() -> None:
    assert [link for link in links(ROOT / "README.md") if not link.startswith("https://")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_of_the_repository_are_alive(page: Path) -> None:
    for link in links(page):
        own = REPOSITORY.fullmatch(link)
        if "://" in link and own is None:
            continue
        path, _, anchor = (own[1] if own else link).partition("#")
        target = page if not path else (ROOT if own else page.parent) / path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
