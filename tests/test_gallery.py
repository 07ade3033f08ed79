"""The pictures of a run: which there are, for which networks, and what they depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure

from convscope.data import Dataset, Split, load
from convscope.evaluate import evaluate
from convscope.experiment import plan
from convscope.gallery import Named, data_picture, inside_pictures, result_pictures
from convscope.models import build
from convscope.report import Section
from convscope.train import logits_of


@cache
def digits() -> Dataset:
    return load("digits")


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is slow and has its own tests."""
    monkeypatch.setattr("convscope.plots.png", lambda _: b"png")


def test_a10_the_first_nine_training_images_are_drawn() -> None:
    """They, their labels, and nothing else."""
    name, picture = data_picture(digits())
    assert (name, picture.section) == ("first-nine", Section.HOW_MADE)
    for changed, same in ((9, True), (8, False)):
        images = digits().train.images.copy()
        images[changed] = 255 - images[changed]
        other = dataclasses.replace(digits(), train=Split(images, digits().train.labels))
        assert (data_picture(other)[1].png == picture.png) is same


def inside(line: str, *, every_layer: bool) -> dict[str, str]:
    """Names and headings of the pictures of one image in an untrained network."""
    config = plan(digits(), line).config
    pictures: list[Named] = list(
        inside_pictures(config, build(config.network).eval(), digits().test.images[0], "a.png", every_layer=every_layer)
    )
    assert {picture.section for _, picture in pictures} == {Section.WHAT_IT_SEES}
    assert all(picture.png == b"png" and picture.explanation and picture.alt for _, picture in pictures)
    return {name: picture.heading for name, picture in pictures}


LINES: dict[str, tuple[str, ...]] = {
    "conv 2 3, relu, maxpool 2, flatten, dense 4, relu": (
        "filters", "attribution", "relu", "layer-01-conv1", "layer-02-relu1", "layer-03-maxpool1", "flatten",
        "layer-05-dense1", "layer-06-relu2", "layer-07-classifier", "probabilities",
    ),
    "flatten": ("attribution", "flatten", "layer-02-classifier", "probabilities"),
    "globalavg, relu": ("attribution", "layer-01-globalavg1", "layer-02-relu1", "layer-03-classifier", "probabilities"),
    "residual(conv 2 3 pad same, tanh), globalavg": (
        "filters", "attribution", "layer-01-conv1", "layer-02-tanh1", "layer-03-residual1-projection",
        "layer-04-residual1", "layer-05-globalavg1", "layer-06-classifier", "probabilities",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize("line", LINES)
def test_there_is_a_picture_of_every_layer_that_makes_something(line: str) -> None:
    found = inside(line, every_layer=False)
    assert tuple(found) == LINES[line]
    layers = line.split(", ")
    copies = {f"layer-{1 + layers.index(word):02d}-{word}1" for word in layers if word == "flatten"}
    assert set(inside(line, every_layer=True)) == set(found) | copies


@pytest.mark.usefixtures("no_drawing")
def test_headings_say_which_layer_it_is() -> None:
    found = inside("conv 2 3 stride 2, relu, flatten", every_layer=True)
    assert found["layer-01-conv1"] == "conv1: conv 2 3 stride 2"
    assert found["layer-04-classifier"] == "classifier: dense 10"


@pytest.mark.usefixtures("no_drawing")
def test_the_attribution_is_for_the_answer() -> None:
    config = plan(digits(), "flatten").config
    model = build(config.network).eval()
    images = digits().test.images[:6]
    answers = logits_of(model, images, config.preprocessing).argmax(1).tolist()
    assert len(set(answers)) > 1
    for image, answer in zip(images, answers, strict=True):
        found = dict(inside_pictures(config, model, image, "it", every_layer=False))
        assert found["attribution"].heading == f"Which pixels spoke for {answer}"


@pytest.mark.usefixtures("no_drawing")
def test_results_are_shown_where_they_belong() -> None:
    logits = np.eye(10, dtype=np.float32)[digits().test.labels]
    evaluation = evaluate(logits, digits().test.labels, digits().classes)
    found = {name: picture.section for name, picture in result_pictures(digits(), evaluation, logits, Figure())}
    assert found == {
        "confusion-matrix": Section.WHERE_IT_FAILS,
        "worst-mistakes": Section.WHERE_IT_FAILS,
        "learning-curves": Section.HOW_IT_LEARNED,
    }


def test_the_worst_mistakes_are_given_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """The softmax of the logits, also of very large ones."""
    seen: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    worst: Callable[..., object] = lambda *arguments: seen.append(arguments[2])  # noqa: E731
    monkeypatch.setattr("convscope.plots.worst_mistakes", worst)
    monkeypatch.setattr("convscope.plots.png", lambda _: b"png")
    logits = np.zeros((359, 10), np.float32)
    logits[0, :2] = np.log([3, 1])
    logits[0, 2:] = -np.inf
    logits[1, 0] = 1e4
    evaluation = evaluate(logits, digits().test.labels, digits().classes)
    list(result_pictures(digits(), evaluation, logits, Figure()))
    assert seen[0][0] == pytest.approx([0.75, 0.25, *[0] * 8])
    assert seen[0][1] == pytest.approx([1, *[0] * 9])
    assert seen[0][2] == pytest.approx([0.1] * 10)
