"""Text for `convscope export` and `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convscope._text import percent, pluralize
from convscope.cli.console import plain_table

if TYPE_CHECKING:
    from convscope.api.export import Export
    from convscope.deploy.quantization import Quantization
    from convscope.deploy.verify import Comparison, Verification


def export_lines(exported: Export) -> list[Any]:
    """int8 next to float32, what was verified, and the file."""
    lines = quantization_lines(exported.quantization) if exported.quantization else []
    lines += verification_lines(exported.verification)
    return [*lines, f"{exported.model}: {exported.precision}, {exported.bytes:,} bytes"]


def quantization_lines(found: Quantization) -> list[Any]:
    """Size, accuracy and speed of both files, and how many answers change."""
    rows = [
        (
            name,
            f"{side.bytes:,}",
            percent(side.accuracy),
            f"{side.latency_ms:.3f} ms",
            f"{side.images_per_second:,.0f}",
        )
        for name, side in (("float32", found.float32), ("int8", found.int8))
    ]
    low, high = (f"{100 * bound:+.2f}" for bound in found.interval)
    return [
        plain_table(("precision", "bytes", "accuracy", "one image", "images/s in batches of 64"), rows),
        f"on {found.images:,} validation images int8 changes {found.changed_answers:,} answers, and for "
        f"{found.changed_statuses:,} others whether there is one",
        f"accuracy {100 * found.accuracy_change:+.2f} points (95 % interval {low} to {high}): "
        f"int8 {'passes' if found.passed else 'does not pass'}",
    ]


def verification_lines(verification: Verification) -> list[Any]:
    """A table with a row for each pair of runtimes, and what was left out."""
    rows = [
        (
            f"{one.first} / {one.second}",
            one.inputs,
            f"{one.images:,}",
            f"{one.max_difference:.1e}",
            f"{one.label_flips:,}",
            _verdict(one),
        )
        for one in verification.comparisons
    ]
    lines: list[Any] = []
    if rows:
        lines.append(plain_table(("runtimes", "inputs", "images", "max |dp|", "label flips", "bound"), rows, 2))
    else:
        lines.append(f"{verification.model} has no golden inputs: name images with --images")
    lines += [f"not compared: {reason}" for reason in verification.skipped]
    if verification.unreadable:
        lines.append(f"left out: {pluralize(len(verification.unreadable), 'image')} that cannot be read")
    return lines


def _verdict(comparison: Comparison) -> str:
    flips = pluralize(comparison.max_flips, "flip")
    bound = flips if comparison.bound is None else f"{comparison.bound:.0e}"
    return f"{bound} {'holds' if comparison.passed else 'BROKEN'}"
