"""Text for `convscope predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convscope._text import percent, pluralize
from convscope.deploy.prediction import Prediction, Status

if TYPE_CHECKING:
    from convscope.deploy.answers import AnswerSummary
    from convscope.integrations.ray.output import ScoringSummary

TOP_K = 3  # classes that are printed by default
ANSWERS: dict[Status, str] = {
    "answered": "{label}",
    "unsure": "unsure, perhaps {label}",
    "unlike": "unlike the training images",
}


def prediction_lines(prediction: Prediction, top: int) -> list[str]:
    """The answer, what preprocessing did to the image, and the `top` most likely classes with their probabilities."""
    ranked = list(prediction.probabilities.items())[:top]
    return [
        f"{prediction.image}: {ANSWERS[prediction.status].format(label=prediction.label)}",
        f"  {', '.join(prediction.notes) or 'used as it is'}",
        "  " + ", ".join(f"{name} {percent(share)}" for name, share in ranked),
    ]


def summary_lines(summary: AnswerSummary) -> list[str]:
    """The file, how many images have which status, and what became of earlier answers."""
    counts = [f"{count:,} {status}" for status, count in summary.statuses.items() if status != "error"]
    errors = summary.statuses.get("error", 0)
    lines = [f"{summary.path}: {', '.join([*counts, pluralize(errors, 'error')])}"]
    if summary.resumed:
        lines.append(f"{pluralize(summary.resumed, 'image')} of these had been classified before")
    if summary.left_out:
        answers = pluralize(summary.left_out, "earlier answer")
        lines.append(f"left out {answers}, of images that are no longer named")
    return lines


def cluster_lines(summary: ScoringSummary) -> list[str]:
    """`summary_lines`, and how many images each node has scored."""
    parts = pluralize(summary.parts, "file")
    nodes = [f"node {node}: {pluralize(count, 'image')}" for node, count in sorted(summary.nodes.items())]
    return [*summary_lines(summary), f"{parts} of Parquet", *nodes]
