"""Differences between runtimes, counted on runtimes with known answers."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from convscope.backends.onnx.metadata import GoldenInput
from convscope.deploy.verify import (
    MAX_DIFFERENCE,
    MAX_INT8_DIFFERENCE,
    Probabilities,
    Runtime,
    Verification,
    compare_golden,
    compare_images,
)
from convscope.images.read import encode_png


def runtime(name: str, first: Sequence[float], precision: Literal["float32", "int8"] = "float32") -> Runtime:
    """Two classes; `first` has the probability of the first one for every file in turn."""
    answers = iter([(one, 1 - one) for one in first])

    def classify(files: Sequence[bytes]) -> Probabilities:
        return np.array([next(answers) for _ in files])

    return Runtime(name, classify, precision)


def images(folder: Path, n: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(n)]
    for path in paths:
        path.write_bytes(encode_png(np.zeros((2, 3, 1), np.uint8)))
    return paths


def golden(first: float) -> GoldenInput:
    return GoldenInput(name="x.png", file=b64encode(b"x"), probabilities=(first, 1 - first))


def test_compare_images_counts_differences_and_flips_over_batches(tmp_path: Path) -> None:
    one, other = [0.9] * 150, [0.9] * 150
    other[3], other[149] = 0.4, 0.85  # a flip in the first batch, a difference in the last
    (found,), unreadable = compare_images(images(tmp_path, 150), [runtime("a", one), runtime("b", other)])
    assert (found.first, found.second, found.inputs, found.images) == ("a", "b", "images", 150)
    assert found.max_difference == pytest.approx(0.5)
    assert (found.label_flips, found.bound, found.passed) == (1, 1e-4, False)
    assert unreadable == []


@pytest.mark.parametrize(("second", "passed"), [(0.9 - 0.9e-4, True), (0.9 - 1.1e-4, False)])
def test_comparison_bound_of_float32_is_a_ten_thousandth(second: float, passed: bool, tmp_path: Path) -> None:
    (found,), _ = compare_images(images(tmp_path, 1), [runtime("a", [0.9]), runtime("b", [second])])
    assert found.passed is passed


def test_comparison_other_label_of_classes_that_are_as_likely_is_no_flip(tmp_path: Path) -> None:
    (found,), _ = compare_images(images(tmp_path, 1), [runtime("a", [0.50002]), runtime("b", [0.49998])])
    assert (found.label_flips, found.passed) == (0, True)


@pytest.mark.parametrize(("flips", "passed"), [(0, True), (1, True), (2, False), (4, False)])
def test_compare_images_int8_may_flip_as_many_labels_as_a_good_one_would_by_chance(
    tmp_path: Path, flips: int, passed: bool
) -> None:
    """If a good one flips one of 200 on average, two of four have a probability of 0.00015."""
    int8 = runtime("b", [0.1] * flips + [0.9] * (4 - flips), "int8")
    (found,), _ = compare_images(images(tmp_path, 4), [runtime("a", [0.9] * 4), int8])
    assert (found.label_flips, found.bound, found.max_flips, found.passed) == (flips, None, 1, passed)


def test_compare_images_unreadable_file_is_left_out_and_reported(tmp_path: Path) -> None:
    paths = images(tmp_path, 3)
    paths[1].write_bytes(b"no image")
    (found,), unreadable = compare_images(paths, [runtime("a", [0.9, 0.8]), runtime("b", [0.9, 0.8])])
    assert found.images == 2
    assert [line.split(": ")[0] for line in unreadable] == [str(paths[1])]


def test_compare_golden_bounds_runtimes_of_the_precision_of_the_file() -> None:
    def bounds(own: str) -> list[float | None]:
        runtimes = [runtime("a", [0.7]), runtime("b", [0.7], "int8")]
        return [one.bound for one in compare_golden([golden(0.7)], own, runtimes)]

    assert bounds("float32") == [MAX_DIFFERENCE, None]
    assert bounds("int8") == [None, MAX_INT8_DIFFERENCE]


def test_verification_one_broken_bound_fails() -> None:
    good, bad = (compare_golden([golden(0.7)], "float32", [runtime("a", [value])])[0] for value in (0.7, 0.6))
    assert Verification(model=Path("m"), comparisons=(good,)).passed
    assert not Verification(model=Path("m"), comparisons=(good, bad)).passed
