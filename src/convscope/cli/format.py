"""Text for `convscope data check`, `data show` and `filter`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convscope.cli.console import plain_table
from convscope.network.layers.base import shape_text

if TYPE_CHECKING:
    from convscope.api.filter import FilterResult
    from convscope.api.inspect import DatasetView
    from convscope.data.audit.issue import Issue
    from convscope.data.audit.report import AuditReport
    from convscope.data.statistics import PixelStatistics

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
    total, used = sum(row.files for row in checked.classes), sum(row.used for row in checked.classes)
    some = sorted(checked.classes, key=lambda row: row.used)
    if len(some) > CHECK_ROWS:
        some = [*some[: CHECK_ROWS // 2], *some[-CHECK_ROWS // 2 :]]
    body = [(row.name, f"{row.files:,}", f"{row.used:,}") for row in some]
    heading = f"{checked.path}: {total:,} files in {len(checked.classes):,} classes, {used:,} used"
    lines = [heading, "", plain_table(("class", "files", "used"), body)]
    if len(some) < len(checked.classes):
        lines.append(f"(the {CHECK_ROWS // 2} smallest and the {CHECK_ROWS // 2} largest classes)")
    lines += ["", *(issue_lines(checked.issues) or ["no issues found"])]
    if checked.splits:
        splits = ", ".join(f"{count:,} {name}" for name, count in checked.splits.items())
        lines += ["", f"network input: {checked.input}", f"splits: {splits}", f"next: convscope train {checked.path}"]
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


def dataset_lines(shown: DatasetView) -> list[Any]:
    """Counts and statistics per split and class, then one image as numbers (article, A1)."""
    lines: list[Any] = [f"{shown.name}: {shape_text(shown.shape)} (height, width, channels), from {shown.source}"]
    for name, split in shown.splits.items():
        body = [_statistics("all", split)] + [_statistics(row.name, row) for row in split.classes[:CLASS_ROWS]]
        lines += ["", plain_table((name, "images", "min", "mean", "std", "max"), body)]
    image = shown.image
    lines += [
        "",
        f"training image {image.index}, labeled {image.label}, as numbers ({shape_text(image.shape)}):",
        image.text,
    ]
    return [*lines, "", *(f"wrote {path}" for path in shown.written)]


def _statistics(name: str, row: PixelStatistics) -> tuple[str, ...]:
    figures = ("-" if value is None else f"{value:.1f}" for value in (row.min, row.mean, row.std, row.max))
    return (name, f"{row.n:,}", *figures)
