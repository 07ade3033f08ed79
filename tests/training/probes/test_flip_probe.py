"""Whether flips keep labels, measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from convscope import load_data
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.backends.native.backend import use_threads
from convscope.data.dataset import Dataset, Split
from convscope.training.probes.flip_probe import FlipProbe, probe_flips

ONE_EPOCH = TrainOptions(model="flatten", epochs=1, threads=1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    use_threads(1, torch_works=False)


def marked_images(count: int, marks: list[NDArray[np.uint8]], seed: int = 0) -> Split:
    """Return 16x16 images of noise with one of the marks somewhere; the mark is the class."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (count, 16, 16, 1), np.uint8)
    labels = np.arange(count) % len(marks)
    for image, label in zip(images, labels, strict=True):
        mark = marks[label]
        row, column = (int(random.integers(0, 17 - side)) for side in mark.shape)
        image[row : row + mark.shape[0], column : column + mark.shape[1], 0] += 150 * mark
    return Split(images, labels)


BAR = np.ones((9, 2), np.uint8)
SPOT = np.ones((4, 4), np.uint8)
RING = np.pad(np.zeros((4, 4), np.uint8), 1, constant_values=1)
HOOK = np.array([[1, 1, 1, 1, 1]] + [[1, 0, 0, 0, 0]] * 6, np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("marks", "flips"),
    [
        ([SPOT, RING], True),
        ([BAR, BAR.T], True),
        ([HOOK, HOOK[:, ::-1]], False),
    ],
    ids=["spots and rings", "horizontal and vertical", "left and right"],
)
def test_probe_flips_tells_whether_they_keep_labels(marks: list[NDArray[np.uint8]], flips: bool) -> None:
    found = probe_flips(marked_images(1200, marks), 2)
    assert (found.problem, found.n) == ("", 300)
    assert found.upright > 0.9
    assert found.flips is flips


@pytest.mark.parametrize(("name", "flips"), [("mnist", False), ("fashion-mnist", False)])
def test_probe_flips_real_images(data_folder: Path, name: str, flips: bool) -> None:
    assert data_folder
    found = probe_flips(load_data(name).train, 10)
    assert found.flips is flips
    assert found.upright > 0.8


def test_probe_flips_real_digits_do_not_survive_flips() -> None:
    found = probe_flips(load_data("digits").train, 10)
    assert found.upright > 0.9
    assert found.flipped < 0.7
    assert not found.flips


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        (marked_images(100, [SPOT, RING]), "only 26 images could be held out, 40 are needed"),
        (Split(np.zeros((2, 16, 16), np.uint8), np.arange(2)), "there are too few images, or they are too small"),
        (Split(np.zeros((400, 2, 2), np.uint8), np.arange(400) % 2), "there are too few images, or they are too small"),
        (marked_images(600, [SPOT, SPOT]), "the probe learned nothing"),
    ],
)
def test_probe_flips_not_measurable_assumes_no_flips(split: Split, problem: str) -> None:
    found = probe_flips(split, 2)
    assert found.problem == problem
    assert not found.flips
    assert found.reason == f"images are not flipped: the effect could not be measured ({problem})"


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        (
            FlipProbe(862, 0.58, 0.59, flips=True),
            "images are flipped: a small network recognizes 58.0 % upright, 59.0 % flipped (n = 862)",
        ),
        (
            FlipProbe(1500, 0.95, 0.4),
            "images are not flipped: a small network recognizes 95.0 % upright, 40.0 % flipped (n = 1,500)",
        ),
    ],
    ids=["flipped", "not flipped"],
)
def test_flip_probe_reason_has_the_decision_and_the_accuracies(probe: FlipProbe, reason: str) -> None:
    assert probe.reason == reason


@pytest.mark.slow
@pytest.mark.parametrize(("marks", "flip"), [([SPOT, RING], "always"), ([HOOK, HOOK[:, ::-1]], "never")])
def test_make_plan_unknown_data_measures_flips_and_gives_the_reason(marks: list[NDArray[np.uint8]], flip: str) -> None:
    dataset = Dataset("marks", ("a", "b"), marked_images(1200, marks), marked_images(40, marks, 1), "here")
    config = make_plan(dataset, ONE_EPOCH).config
    assert config.recipe.augmentation.horizontal_flip == flip
    expected = "images are flipped: a small" if flip == "always" else "images are not flipped: a small"
    assert config.reasons["horizontal_flip"].startswith(expected)


@pytest.mark.parametrize(("name", "flip"), [("digits", "never"), ("mnist", "never"), ("fashion-mnist", "always")])
def test_make_plan_named_data_set_measures_nothing(data_folder: Path, name: str, flip: str) -> None:
    assert data_folder
    config = make_plan(load_data(name), ONE_EPOCH, name).config
    assert config.recipe.augmentation.horizontal_flip == flip
    assert "horizontal_flip" not in config.reasons
