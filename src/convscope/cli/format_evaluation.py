"""Text for `convscope evaluate` and `explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convscope._text import list_some, percent
from convscope.cli.console import plain_table
from convscope.cli.format_prediction import prediction_lines
from convscope.deploy.prediction import Prediction
from convscope.evaluation.metrics import Evaluation
from convscope.network.layers.base import shape_text

if TYPE_CHECKING:
    from convscope.api.explain import Explanation
    from convscope.evaluation.explain import CellExplanation

MAX_TERMS = 36  # of a sum
MAX_CLASSES = 50  # rows of the table
NO_IMAGES = "no image of {}: how well the network recognizes that was not measured"


def evaluation_lines(evaluation: Evaluation) -> list[Any]:
    """Accuracy, loss, top-k accuracy, a table of classes, and the most frequent mistakes."""
    top = ", ".join(f"top-{k} {percent(share)}" for k, share in evaluation.top_k.items() if k > 1)
    head = [f"accuracy {evaluation.accuracy_text}", f"loss     {evaluation.loss:.4f}" + (f"   ({top})" if top else "")]
    rows = [
        (
            score.name,
            *("-" if share is None else percent(share, 1) for share in (score.precision, score.recall, score.f1)),
            f"{score.support:,}",
        )
        for score in evaluation.per_class[:MAX_CLASSES]
    ]
    if evaluation.tta:
        head.insert(1, f"         {evaluation.tta.text} with test-time augmentation")
    if evaluation.measured:
        head.append(f"measured on {evaluation.measured}")
    unmeasured = evaluation.unmeasured_classes
    warning = [f"warning: {NO_IMAGES.format(list_some(unmeasured))}"] if unmeasured else []
    table = plain_table(("class", "precision", "recall", "F1", "images"), rows)
    head += confidence_lines(evaluation)
    return [*head, *warning, table, _mistakes(evaluation)]


def confidence_lines(evaluation: Evaluation) -> list[str]:
    """The calibration error, and the fraction of the images that the model answers."""
    lines = []
    if evaluation.calibration:
        lines.append(f"calibration error {evaluation.calibration.text}")
    for answers in evaluation.answers[:1]:
        right = f"; {percent(answers.accuracy.accuracy)} of the answers are right" if answers.accuracy else ""
        lines.append(
            f"answered {percent(answers.answered)} of the images: unsure about {percent(answers.unsure)}, "
            f"{percent(answers.unlike)} unlike the training images{right}"
        )
    return lines


def explanation_lines(explanation: Explanation) -> list[Any]:
    """The prediction, a summary of every layer's output, the arithmetic of the cells, and where the figures are."""
    body = [
        (
            layer.name,
            layer.source,
            shape_text(layer.output),
            *(f"{value:.3f}" for value in (layer.min, layer.mean, layer.max)),
        )
        for layer in explanation.layers
    ]
    prediction = Prediction(image=explanation.image, probabilities=explanation.probabilities, notes=explanation.notes)
    lines: list[Any] = [
        *prediction_lines(prediction, top=3),
        "",
        plain_table(("layer", "source", "output", "min", "mean", "max"), body, 2),
    ]
    for cell in explanation.cells:
        lines += ["", *cell_lines(cell)]
    if not explanation.cells:
        lines += [
            "",
            "for the arithmetic of a cell: --cell LAYER,ROW,COLUMN,CHANNEL, or --cell LAYER,INDEX for vectors",
        ]
    return [*lines, "", f"{len(explanation.written)} figures in {explanation.folder}"]


def cell_lines(cell: CellExplanation) -> list[str]:
    """The arithmetic of one cell, term by term; of a long sum the largest terms, and the total of the others."""
    order = sorted(range(len(cell.terms)), key=lambda i: -abs(cell.terms[i].product))
    weighted = any(term.weight != 1 for term in cell.terms)
    most = MAX_TERMS if weighted else len(order)  # of a pooling window any value may be the one that is chosen
    shown = [cell.terms[i] for i in sorted(order[:most])]
    lines = [f"{cell.layer}[{','.join(map(str, cell.index))}] is {cell.rule}:"]
    for term in shown:
        product = f" x {term.weight:>+12.6g} = {term.product:>+12.6g}" if weighted else ""
        lines.append(f"  {term.source:>14}  {term.value:>+12.6g}{product}")
    if len(shown) < len(cell.terms):
        rest = sum(cell.terms[i].product for i in order[most:])
        lines.append(f"  {'':>14}  {len(order) - most:,} smaller terms add up to {rest:+.6g}")
    if cell.bias:
        lines.append(f"  {'bias':>14}  {cell.bias:>+12.6g}")
    lines.append(f"  {'result':>14}  {cell.value:>+12.6g}   the model computed {cell.model_value:+.6g}")
    return lines


def _mistakes(evaluation: Evaluation, most: int = 5) -> str:
    """The pairs of classes that are confused most often."""
    names = evaluation.classes
    pairs = [
        (int(evaluation.confusion[i, j]), names[i], names[j])
        for i in range(len(names))
        for j in range(len(names))
        if i != j and evaluation.confusion[i, j]
    ]
    worst = sorted(pairs, reverse=True)[:most]
    if not worst:
        return "no mistakes"
    return "most frequent mistakes: " + ", ".join(
        f"{true} predicted as {other} ({count})" for count, true, other in worst
    )
