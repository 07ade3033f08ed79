"""Whether pictures may be mirrored or turned, measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from convscope import load_data
from convscope.api.train import plan
from convscope.backends.native.backend import use_threads
from convscope.data.dataset import Dataset, Split
from convscope.training.probes.flip_probe import FlipProbe, probe_flips
from convscope.training.recipes import changed, recipe_named


@pytest.fixture(autouse=True)
def one_thread() -> None:
    use_threads(1, torch_works=False)


def drawn(count: int, marks: list[NDArray[np.uint8]], seed: int = 0) -> Split:
    """Pictures of 16x16, each with one of the marks somewhere, in noise; the mark is the class."""
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


@pytest.mark.parametrize(
    ("marks", "flips", "turns"),
    [
        ([SPOT, RING], True, True),
        ([BAR, BAR.T], True, False),
        ([HOOK, HOOK[:, ::-1]], False, False),
    ],
    ids=["spots and rings", "lying and standing", "left and right"],
)
def test_what_keeps_its_class(marks: list[NDArray[np.uint8]], flips: bool, turns: bool) -> None:
    found = probe_flips(drawn(1200, marks), 2)
    assert (found.why, found.n) == ("", 300)
    assert found.upright > 0.9
    assert (found.flips, found.turns) == (flips, turns)


@pytest.mark.parametrize(("name", "flips"), [("mnist", False), ("fashion-mnist", False)])
def test_real_pictures(data_folder: Path, name: str, flips: bool) -> None:
    assert data_folder
    found = probe_flips(load_data(name).train, 10)
    assert found.flips is flips
    assert not found.turns
    assert found.upright > 0.8


def test_real_digits_are_no_mirror_images() -> None:
    found = probe_flips(load_data("digits").train, 10)
    assert found.upright > 0.9
    assert found.mirrored < 0.7
    assert not found.flips


@pytest.mark.parametrize(
    ("split", "why"),
    [
        (drawn(100, [SPOT, RING]), "only 26 pictures could be held out, 40 are needed"),
        (Split(np.zeros((2, 16, 16), np.uint8), np.arange(2)), "too few or too small"),
        (Split(np.zeros((400, 2, 2), np.uint8), np.arange(400) % 2), "too few or too small"),
        (drawn(600, [SPOT, SPOT]), "the probe learned nothing"),
    ],
)
def test_what_cannot_be_measured_is_not_assumed(split: Split, why: str) -> None:
    found = probe_flips(split, 2)
    assert why in found.why
    assert not found.flips
    assert not found.turns
    assert "could not be measured" in found.words


def test_words() -> None:
    found = FlipProbe(862, 0.58, 0.59, 0.5023, flips=True)
    assert found.words == (
        "pictures are mirrored: 59.0 % of them were recognized mirrored, 58.0 % upright, 50.2 % turned "
        "(a quick network, n = 862)"
    )


@pytest.mark.parametrize(("marks", "flip"), [([SPOT, RING], "always"), ([HOOK, HOOK[:, ::-1]], "never")])
def test_a_training_obeys_and_says_so(marks: list[NDArray[np.uint8]], flip: str) -> None:
    dataset = Dataset("marks", ("a", "b"), drawn(1200, marks), drawn(40, marks, 1), "here")
    planned = plan(dataset, "flatten", recipe_named("default").override(epochs=1), threads=1)
    assert planned.config.recipe.augmentation.horizontal_flip == flip
    assert planned.config.symmetry.startswith("pictures are mirrored" if flip == "always" else "pictures are not mirr")


@pytest.mark.parametrize(("name", "flip"), [("digits", "never"), ("mnist", "never"), ("fashion-mnist", "always")])
def test_what_is_known_is_not_measured(data_folder: Path, name: str, flip: str) -> None:
    assert data_folder
    planned = plan(name, "flatten", recipe_named("default").override(epochs=1), threads=1)
    assert (planned.config.recipe.augmentation.horizontal_flip, planned.config.symmetry) == (flip, "")
