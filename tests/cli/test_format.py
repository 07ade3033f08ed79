"""What people read in a terminal: every number that was asked for, and names exactly as they are."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from convscope import Evaluation, Prediction, Run
from convscope._hardware import hardware_info
from convscope._statistics import wilson
from convscope._text import duration
from convscope.backends.native import backend
from convscope.cli import console
from convscope.cli import format as display
from convscope.evaluation.explain import CellExplanation, Term
from convscope.evaluation.metrics import Proportion, evaluate
from convscope.network.build import parse_network
from convscope.network.cost import NetworkCost, TimeEstimate, TrainingCost, network_cost
from convscope.network.presets import PRESETS, preset_table

ODD = ("[red]", ":cat:", "[/b]", "Ankle boot")  # names that rich would take for its own


def printed(lines: Iterable[Any], capsys: pytest.CaptureFixture[str]) -> str:
    """As `cli.show` prints them."""
    stdout = console.stdout_console()
    for line in lines:
        stdout.print(line, markup=False, soft_wrap=isinstance(line, str))
    return capsys.readouterr().out


def words(text: str) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in text.splitlines()]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Eight images of four classes; one boot taken for a cat, two cats for boots."""
    labels = np.array([0, 0, 1, 1, 1, 3, 3, 2])
    said = np.array([0, 0, 1, 3, 3, 3, 1, 2])
    return evaluate(np.eye(4, dtype=np.float32)[said], labels, ODD)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (999, "999"), (999.4, "999"), (999.6, "1 k"), (1000, "1 k"), (999_499, "999 k"), (999_500, "1 M"),
     (1_234_567, "1.23 M"), (9_011_256_552, "9.01 G"), (2e12, "2 T"), (3e16, "3e+04 T"), (-2500, "-2.5 k")],
)  # fmt: skip
def test_short_numbers(number: float, expected: str) -> None:
    assert display.short(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (10.4, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (3599.4, "59 min 59 s"),
     (3599.6, "1 h"), (7170, "2 h"), (90_000, "25 h")],
)  # fmt: skip
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_names_are_printed_as_they_are(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(display.evaluation_lines(evaluation), capsys)
    assert [line.split("  ")[0] for line in text.splitlines()[3:7]] == list(ODD)
    prediction = Prediction(
        image="[b]:dog:.png", probabilities={":cat:": 0.75, "[red]": 0.25}, notes=("resized 9x9 -> 8x8",)
    )
    assert printed(display.prediction_lines(prediction, 2), capsys) == (
        "[b]:dog:.png: :cat:\n  resized 9x9 -> 8x8\n  :cat: 75.00 %, [red] 25.00 %\n"
    )


def test_a14_an_evaluation_says_accuracy_interval_and_n(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(display.evaluation_lines(evaluation), capsys)
    lines = text.splitlines()
    assert lines[0] == "accuracy 62.50 % (95 % interval 30.57 to 86.32, n = 8)"
    assert re.fullmatch(r"loss     1\.1187   \(top-2 [0-9.]+ %, top-3 [0-9.]+ %\)", lines[1])
    assert lines[2].split() == ["class", "precision", "recall", "F1", "images"]
    assert lines[4].split() == [":cat:", "50.0", "%", "33.3", "%", "40.0", "%", "3"]
    assert lines[-1] == "most frequent mistakes: :cat: taken for Ankle boot (2), Ankle boot taken for :cat: (1)"


def test_test_time_augmentation_is_told_below_the_accuracy(
    evaluation: Evaluation, digits_run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "62.50 % (30.57 to 86.32) with test-time augmentation"
    both = evaluation.model_copy(update={"tta": Proportion(accuracy=0.625, interval=wilson(5, 8))})
    plain, lines = (printed(display.evaluation_lines(one), capsys).splitlines() for one in (evaluation, both))
    assert [line for line in lines if line not in plain] == [f"         {told}"]
    assert [line for line in lines if line in plain] == plain
    assert lines[1] == f"         {told}"
    monkeypatch.setattr(digits_run, "evaluation", both)
    accuracy, next_to_it, *_ = printed(display.run_lines(digits_run), capsys).splitlines()
    assert accuracy.split(maxsplit=2) == ["test", "accuracy", "62.50 % (95 % interval 30.57 to 86.32, n = 8)"]
    assert next_to_it.strip() == told
    assert next_to_it.index(told) == accuracy.index("62.50")


def test_without_a_mistake_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    perfect = evaluate(np.eye(2, dtype=np.float32), np.array([0, 1]), ("a", "b"))
    assert printed(display.evaluation_lines(perfect), capsys).endswith("\nno mistakes\n")


def test_a_prediction_says_in_one_line_what_was_done() -> None:
    done = ("inverted because its background is light", "letterboxed to 28x28")
    shares = {"7": 0.9, "1": 0.08, "9": 0.02}
    assert display.prediction_lines(Prediction(image="a.png", probabilities=shares, notes=done), 2) == [
        "a.png: 7",
        "  inverted because its background is light, letterboxed to 28x28",
        "  7 90.00 %, 1 8.00 %",
    ]
    assert display.prediction_lines(Prediction(image="a.png", probabilities=shares, notes=()), 9)[1:] == [
        "  fits the network as it is",
        "  7 90.00 %, 1 8.00 %, 9 2.00 %",
    ]


def explanation(
    layer: str, index: tuple[int, ...], rule: str, terms: tuple[Term, ...], bias: float, value: float
) -> CellExplanation:
    return CellExplanation(layer=layer, index=index, rule=rule, terms=terms, bias=bias, value=value, model_value=value)


def test_a2_a_cells_arithmetic_is_shown_term_by_term() -> None:
    terms = Term(source="[0,1,0]", value=0.5, weight=-2.0), Term(source="[0,2,0]", value=1.0, weight=4.0)
    cell = explanation("conv1", (0, 1, 2), "the sum", terms, 0.25, 3.25)
    first, *shown, bias, result = display.cell_lines(cell)
    assert first == "conv1[0,1,2] is the sum:"
    assert words("\n".join(shown)) == [
        ["[0,1,0]", "+0.5", "x", "-2", "=", "-1"],
        ["[0,2,0]", "+1", "x", "+4", "=", "+4"],
    ]
    assert bias.split() == ["bias", "+0.25"]
    assert result.split() == ["result", "+3.25", "the", "model", "computed", "+3.25"]


def test_a_long_sum_shows_its_largest_terms_in_order_and_what_the_rest_adds_up_to() -> None:
    values = [(-1) ** i * (i % 50) for i in range(100)]
    terms = tuple(Term(source=f"[{i}]", value=float(value), weight=2.0) for i, value in enumerate(values))
    lines = display.cell_lines(explanation("dense1", (0,), "the sum", terms, 0.0, -50.0))
    shown = [i for i in range(100) if i % 50 >= 32]
    assert [line.split()[0] for line in lines[1:37]] == [f"[{i}]" for i in shown]
    rest = 2 * sum(value for i, value in enumerate(values) if i not in shown)
    assert lines[37].split() == ["64", "smaller", "terms", "add", "up", "to", f"{rest:+d}"]
    assert len(lines) == 39  # no bias, no line for it


def test_of_a_window_every_value_is_shown() -> None:
    terms = tuple(Term(source=f"[{i}]", value=float(i)) for i in range(49))
    lines = display.cell_lines(explanation("minpool1", (0, 0, 0), "the smallest value of the window", terms, 0.0, 0.0))
    assert [line.split() for line in lines[1:-1]] == [[f"[{i}]", f"{i:+d}"] for i in range(49)]


def cost(architecture: str) -> NetworkCost:
    """The cost of a preset or line, with a made-up time estimate."""
    found = network_cost(parse_network(PRESETS.get(architecture, architecture)))
    machine = hardware_info(1).model_copy(update={"processor": "Abacus", "cores": 4, "peak_gflops": 100.0})
    time = TimeEstimate(epochs=2, epoch_seconds=95.0, training_seconds=190.0, probe_seconds=4.2)
    training = TrainingCost(
        recipe="default", images=54_000, epoch_multiply_adds=119_311_056_000, time=time, machine=machine
    )
    return found.model_copy(update={"training": training})


def test_a6_a16_costs_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(display.cost_lines(cost("article")), capsys)
    assert words(text)[:10] == words(
        """layer source output parameters multiply-adds activation bytes
        conv1 conv 32 3 26x26x32 320 194,688 86,528
        relu1 relu 26x26x32 0 0 86,528
        maxpool1 maxpool 2 13x13x32 0 0 21,632
        flatten1 flatten 5408 0 0 21,632
        dense1 dense 100 100 540,900 540,800 400
        relu2 relu 100 0 0 400
        classifier dense 10 10 1,010 1,000 40
        softmax softmax 10 0 0 40
        total 542,230 736,488 217,200"""
    )
    assert text.splitlines()[11:] == [
        "one image   736 k multiply-adds, 217 kB of activations",
        "one epoch   119 G multiply-adds for 54,000 images, about 1 min 35 s",
        "training    about 3 min 10 s for 2 epochs of recipe default",
        "measured    4.2 s of training on random images; Abacus, 1 of 4 cores, 100 GFLOP/s float32",
        "a 4K image  3840x2160 at full size: 9.01 G multiply-adds, 2.65 GB of activations, 6.63 G parameters; "
        "reduced to 28x28: 736 k multiply-adds, 217 kB of activations, 542 k parameters (12,235 times less work)",
    ]


def test_a_line_that_does_not_fit_4k_says_nothing_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert "4K" not in printed(display.cost_lines(cost("residual(maxpool 7), flatten")), capsys)


def test_every_preset_is_listed_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(display.preset_lines(preset_table()), capsys)
    assert all(line in text for line in PRESETS.values())
    assert "article        542,230 parameters, 736 k multiply-adds" in text


def test_a_training_says_what_it_will_do_and_what_it_did(digits_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cores = digits_run.config.machine.cores
    plan = digits_run.config.model_copy(update={"precision": "float32", "reasons": {"precision": "for the test"}})
    assert display.plan_lines(plan) == [
        "digits: 1,293 training, 145 validation, 359 test images, 8x8x1, 10 classes",
        "small: 7,722 parameters, 49.7 k multiply-adds per image",
        f"recipe default: 3 epochs, batch size 128, seed 0, on 1 of {cores} cores",
        f"in float32: for the test; kernels: {backend.backend_name()}",
    ]
    accuracy, _, _, run, report, then = printed(display.run_lines(digits_run), capsys).splitlines()
    assert re.fullmatch(r"test accuracy  \d\d\.\d\d % \(95 % interval \d\d\.\d\d to \d\d\.\d\d, n = 359\)", accuracy)
    assert run.split() == ["run", str(digits_run.path)]
    assert report.split() == ["report", str(digits_run.path / "report.html")]
    assert then.split() == ["next", "convscope", "predict", str(digits_run.path), "PICTURE"]


def test_without_a_terminal_nothing_is_cut_and_nothing_is_styled(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert "\x1b" not in printed([*display.evaluation_lines(evaluation), "x" * 500], capsys)
    table = console.plain_table(("a", "b"), [("x" * 90, "y" * 90)])
    assert printed([table, "z" * 500], capsys).splitlines()[1:] == [f"{'x' * 90}  {'y' * 90}", "z" * 500]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal_there_is_style_but_never_color(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, no_color: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    stdout = console.stdout_console()
    for line in display.evaluation_lines(evaluation):
        stdout.print(line, markup=False)
    codes = set(re.findall(r"\x1b\[([0-9;]*)m", terminal.getvalue()))
    assert codes == {"1", "0"}
    assert all(name in terminal.getvalue() for name in ODD)
