"""Text for `convscope data check`, `data show` and `filter`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convscope.cli.console import plain_table
from convscope.data.registry import NAMES
from convscope.network.layers.base import shape_text

if TYPE_CHECKING:
    from convscope.api.filter import FilterResult
    from convscope.api.inspect import DatasetView
    from convscope.data.audit.issue import Issue
    from convscope.data.audit.report import AuditReport
    from convscope.data.statistics import PixelStatistics

MAX_CLASSES = 50  # rows of a table of statistics
MAX_AUDITED_CLASSES = 20  # rows of the table of an audit
MAX_FILES = 5  # per issue


def filter_lines(result: FilterResult) -> list[str]:
    """The feature map as numbers, or the file it was written to; then the arithmetic of the cell, if one was given."""
    if result.written is not None:
        return [f"{result.written}: {', '.join(result.notes)}", *result.arithmetic]
    table = [[f"{value:g}" for value in row] for row in result.values[:, :, 0]]
    width = max(len(word) for row in table for word in row)
    return [*(" ".join(word.rjust(width) for word in row) for row in table), *result.arithmetic]


def audit_lines(report: AuditReport) -> list[Any]:
    """One page: the classes, the issues, and what training would use."""
    files, used = sum(row.files for row in report.classes), sum(row.used for row in report.classes)
    rows = sorted(report.classes, key=lambda row: row.used)
    half = MAX_AUDITED_CLASSES // 2
    if len(rows) > MAX_AUDITED_CLASSES:
        rows = [*rows[:half], *rows[-half:]]
    lines = [
        f"{report.path}: {files:,} files in {len(report.classes):,} classes, {used:,} used",
        "",
        plain_table(("class", "files", "used"), [(row.name, f"{row.files:,}", f"{row.used:,}") for row in rows]),
    ]
    if len(rows) < len(report.classes):
        lines.append(f"(the {half} smallest and the {half} largest classes)")
    lines += ["", *(issue_lines(report.issues) or ["no issues found"])]
    if report.splits:
        splits = ", ".join(f"{count:,} {name}" for name, count in report.splits.items())
        named = report.path in NAMES  # train would take the data set of that name
        path = f"./{report.path}" if named else report.path
        lines += ["", f"network input: {report.input}", f"splits: {splits}", f"next: convscope train {path}"]
        lines += [f"({report.path} without ./ is another data set, which is loaded by its name)"] if named else []
    return lines


def issue_lines(issues: Sequence[Issue]) -> list[str]:
    """Each issue with what convscope does about it, advice, and the first files."""
    lines = []
    for issue in issues:
        action = f"; {issue.action}" if issue.action else ""
        lines.append(f"{issue.level}: {issue.text}{action}")
        lines += [f"    {issue.advice}"] if issue.advice else []
        if issue.level == "warning":
            lines += [f"    {' = '.join(files)}" for files in issue.files[:MAX_FILES]]
            more = len(issue.files) - MAX_FILES
            lines += [f"    and {more:,} more: convscope data check PATH --json"] if more > 0 else []
    return lines


def dataset_lines(view: DatasetView) -> list[Any]:
    """Counts and pixel statistics per split and class, then one image as numbers."""
    lines: list[Any] = [f"{view.name}: {shape_text(view.shape)} (height, width, channels), from {view.source}"]
    for name, split in view.splits.items():
        body = [_statistics("all", split)] + [_statistics(row.name, row) for row in split.classes[:MAX_CLASSES]]
        lines += ["", plain_table((name, "images", "min", "mean", "std", "max"), body)]
    image = view.image
    lines += [
        "",
        f"training image {image.index}, labeled {image.label}, as numbers ({shape_text(image.shape)}):",
        *image.text.splitlines(),
    ]
    return [*lines, "", *(f"wrote {path}" for path in view.written)]


def _statistics(name: str, row: PixelStatistics) -> tuple[str, ...]:
    figures = ("-" if value is None else f"{value:.1f}" for value in (row.min, row.mean, row.std, row.max))
    return (name, f"{row.n:,}", *figures)
