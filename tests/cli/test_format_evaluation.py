"""Text for evaluations, predictions and explanations: every number, and names exactly as they are."""

from __future__ import annotations

import re

import numpy as np

from convscope import Evaluation, Prediction
from convscope._statistics import wilson
from convscope.cli.format_evaluation import cell_lines, evaluation_lines
from convscope.cli.format_prediction import prediction_lines
from convscope.evaluation.explain import CellExplanation, Term
from convscope.evaluation.metrics import evaluate
from convscope.evaluation.proportion import Proportion

from .conftest import ODD_NAMES, Printed


def test_names_that_look_like_markup_are_printed_exactly(evaluation: Evaluation, printed: Printed) -> None:
    text = printed(evaluation_lines(evaluation))
    assert [line.split("  ")[0] for line in text.splitlines()[3:7]] == list(ODD_NAMES)
    prediction = Prediction(
        image="[b]:dog:.png", probabilities={":cat:": 0.75, "[red]": 0.25}, notes=("resized 9x9 -> 8x8",)
    )
    assert printed(prediction_lines(prediction, 2)) == (
        "[b]:dog:.png: :cat:\n  resized 9x9 -> 8x8\n  :cat: 75.00 %, [red] 25.00 %\n"
    )


def test_evaluation_lines_have_accuracy_interval_and_n(evaluation: Evaluation, printed: Printed) -> None:
    text = printed(evaluation_lines(evaluation))
    lines = text.splitlines()
    assert lines[0] == "accuracy 62.50 % (95 % interval 30.57 to 86.32, n = 8)"
    assert re.fullmatch(r"loss     1\.1187   \(top-2 [0-9.]+ %, top-3 [0-9.]+ %\)", lines[1])
    assert lines[2].split() == ["class", "precision", "recall", "F1", "images"]
    assert lines[4].split() == [":cat:", "50.0", "%", "33.3", "%", "40.0", "%", "3"]
    assert lines[-1] == "most frequent mistakes: :cat: predicted as Ankle boot (2), Ankle boot predicted as :cat: (1)"


def test_evaluation_lines_have_test_time_augmentation_below_the_accuracy(
    evaluation: Evaluation, printed: Printed
) -> None:
    line = "         62.50 % (30.57 to 86.32) with test-time augmentation"
    with_tta = evaluation.model_copy(update={"tta": Proportion(accuracy=0.625, interval=wilson(5, 8))})
    first, *rest = printed(evaluation_lines(evaluation)).splitlines()
    assert printed(evaluation_lines(with_tta)).splitlines() == [first, line, *rest]


def test_evaluation_lines_without_mistakes_say_so(printed: Printed) -> None:
    perfect = evaluate(np.eye(2, dtype=np.float32), np.array([0, 1]), ("a", "b"))
    assert printed(evaluation_lines(perfect)).endswith("\nno mistakes\n")


def test_prediction_lines_have_label_preprocessing_and_top_classes() -> None:
    notes = ("inverted because its background is light", "letterboxed to 28x28")
    probabilities = {"7": 0.9, "1": 0.08, "9": 0.02}
    assert prediction_lines(Prediction(image="a.png", probabilities=probabilities, notes=notes), 2) == [
        "a.png: 7",
        "  inverted because its background is light, letterboxed to 28x28",
        "  7 90.00 %, 1 8.00 %",
    ]
    assert prediction_lines(Prediction(image="a.png", probabilities=probabilities, notes=()), 9)[1:] == [
        "  used as it is",
        "  7 90.00 %, 1 8.00 %, 9 2.00 %",
    ]


def explanation(
    layer: str, index: tuple[int, ...], rule: str, terms: tuple[Term, ...], bias: float, value: float
) -> CellExplanation:
    """The arithmetic of a cell with which the model agrees."""
    return CellExplanation(layer=layer, index=index, rule=rule, terms=terms, bias=bias, value=value, model_value=value)


def test_cell_lines_show_the_sum_term_by_term() -> None:
    terms = Term(source="[0,1,0]", value=0.5, weight=-2.0), Term(source="[0,2,0]", value=1.0, weight=4.0)
    cell = explanation("conv1", (0, 1, 2), "the sum", terms, 0.25, 3.25)
    first, *shown, bias, result = cell_lines(cell)
    assert first == "conv1[0,1,2] is the sum:"
    assert [line.split() for line in shown] == [
        ["[0,1,0]", "+0.5", "x", "-2", "=", "-1"],
        ["[0,2,0]", "+1", "x", "+4", "=", "+4"],
    ]
    assert bias.split() == ["bias", "+0.25"]
    assert result.split() == ["result", "+3.25", "the", "model", "computed", "+3.25"]


def test_cell_lines_of_long_sum_show_the_largest_terms_and_the_total_of_the_others() -> None:
    values = [(-1) ** i * (i % 50) for i in range(100)]
    terms = tuple(Term(source=f"[{i}]", value=float(value), weight=2.0) for i, value in enumerate(values))
    lines = cell_lines(explanation("dense1", (0,), "the sum", terms, 0.0, -50.0))
    shown = [i for i in range(100) if i % 50 >= 32]
    assert [line.split()[0] for line in lines[1:37]] == [f"[{i}]" for i in shown]
    rest = 2 * sum(value for i, value in enumerate(values) if i not in shown)
    assert lines[37].split() == ["64", "smaller", "terms", "add", "up", "to", f"{rest:+d}"]
    assert len(lines) == 39  # without a bias there is no line for it


def test_cell_lines_of_pooling_window_show_every_value() -> None:
    terms = tuple(Term(source=f"[{i}]", value=float(i)) for i in range(49))
    lines = cell_lines(explanation("minpool1", (0, 0, 0), "the smallest value of the window", terms, 0.0, 0.0))
    assert [line.split() for line in lines[1:-1]] == [[f"[{i}]", f"{i:+d}"] for i in range(49)]
