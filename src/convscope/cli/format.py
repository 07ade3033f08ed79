"""Text for `convscope data check`, `data show` and `filter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convscope.cli.console import plain_table
from convscope.network.layers.base import shape_text

if TYPE_CHECKING:
    from convscope.api.filter import FilterResult
    from convscope.data.audit.issue import Issue
    from convscope.data.audit.report import AuditReport

CLASS_ROWS = 50
CHECK_ROWS = 20
SHOWN_FILES = 5


def filtered_lines(found: FilterResult) -> list[str]:
    """The numbers, or the file; then the arithmetic of the cell that was asked for."""
    lines = list(found.arithmetic)
    if found.written is None:
        table = [[f"{value:g}" for value in row] for row in found.values[:, :, 0]]
        width = max(len(word) for row in table for word in row)
        return [" ".join(word.rjust(width) for word in row) for row in table] + lines
    return [f"{found.written}: {', '.join(found.notes)}", *lines]


def check_lines(checked: AuditReport) -> list[Any]:
    """One page: the classes, the issues, and what would be trained on."""
    total, used = (sum(counts[i] for counts in checked.counts.values()) for i in (0, 1))
    some = sorted(checked.counts.items(), key=lambda item: item[1][1])
    if len(some) > CHECK_ROWS:
        some = [*some[: CHECK_ROWS // 2], *some[-CHECK_ROWS // 2 :]]
    body = [(name, f"{files:,}", f"{good:,}") for name, (files, good) in some]
    heading = f"{checked.path}: {total:,} files in {len(checked.counts):,} classes, {used:,} used"
    lines = [heading, "", plain_table(("class", "files", "used"), body)]
    if len(some) < len(checked.counts):
        lines.append(f"(the {CHECK_ROWS // 2} smallest and the {CHECK_ROWS // 2} largest classes)")
    lines += ["", *(issue_lines(checked.issues) or ["nothing found that would spoil a training"])]
    if checked.splits:
        splits = ", ".join(f"{count:,} {name}" for name, count in checked.splits.items())
        lines += ["", f"the network sees: {checked.seen}", f"splits: {splits}", f"next: convscope train {checked.path}"]
    return lines


def issue_lines(issues: Sequence[Issue]) -> list[str]:
    """What was found, and what is done about it, with the first files."""
    lines = []
    for issue in issues:
        done = f"; {issue.action}" if issue.action else ""
        lines.append(f"{issue.level}: {issue.text}{done}")
        lines += [f"    {issue.advice}"] if issue.advice else []
        lines += [f"    {' = '.join(files)}" for files in issue.files[:SHOWN_FILES] if issue.level == "warning"]
        if issue.level == "warning" and len(issue.files) > SHOWN_FILES:
            lines.append(f"    and {len(issue.files) - SHOWN_FILES:,} more: convscope data check PATH --json")
    return lines


def dataset_lines(shown: Mapping[str, Any]) -> list[Any]:
    """Counts and statistics per split and class, then the numbers behind one image (A1)."""
    lines: list[Any] = [
        f"{shown['name']}: {shape_text(shown['shape'])} (height, width, channels), from {shown['source']}"
    ]
    for name, split in shown["splits"].items():
        body = [_statistics("all", split)] + [_statistics(part["name"], part) for part in split["classes"][:CLASS_ROWS]]
        lines += ["", plain_table((name, "images", "least", "mean", "deviation", "most"), body)]
    image = shown["image"]
    lines += [
        "",
        f"training image {image['index']}, labeled {image['class']}, as numbers ({image['shape']}):",
        image["text"],
    ]
    return [*lines, "", *(f"drawn in {path}" for path in shown["written"])]


def _statistics(name: str, part: Mapping[str, Any]) -> tuple[str, ...]:
    figures = ("-" if part[key] is None else f"{part[key]:.1f}" for key in ("min", "mean", "std", "max"))
    return (name, f"{part['n']:,}", *figures)
