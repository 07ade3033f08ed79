"""`convscope evaluate`."""

from __future__ import annotations

import re

from convscope import Run
from helpers.command import Command


def test_evaluate_prints_the_accuracy_that_training_measured(command: Command, digits_run: Run) -> None:
    answer = command("evaluate", digits_run.path)
    assert digits_run.evaluation is not None
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"accuracy {100 * digits_run.evaluation.accuracy:.2f} % (95 % interval ")
    assert ", n = 359)\n" in answer.out
    assert answer.out.splitlines()[2].startswith("measured on the test split of digits: 359 of 1,797 images; ")
    assert answer.out.splitlines()[3].startswith("calibration error ")
    assert re.fullmatch(
        r"answered 9\d.\d\d % of the images: unsure about 0.00 %, \d.\d\d % unlike the training images; "
        r"\d+.\d\d % of the answers are right",
        answer.out.splitlines()[4],
    )
    table = answer.out.splitlines()[6:16]
    assert [line.split()[0] for line in table] == list("0123456789")
