"""The pictures of a run: which there are, for which networks, and what they depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, partial

import numpy as np
import pytest

from convscope.api.options import TrainOptions
from convscope.api.plan import make_plan
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.data.load import load_data
from convscope.evaluation.metrics import evaluate
from convscope.report import plots
from convscope.report.figures import dataset_figure, drawn, layer_figures, result_figures
from convscope.report.html import Section
from convscope.report.render_pool import Drawing
from convscope.training.loop import predict_logits


@cache
def digits() -> Dataset:
    return load_data("digits")


CURVES: Drawing = partial(plots.learning_curves, [], 0)


def name_only(drawings: Iterable[Drawing]) -> Iterator[bytes]:
    """Drawing is slow and has its own tests."""
    for drawing in drawings:
        yield drawing.func.__name__.encode()


def test_a10_the_first_nine_training_images_are_drawn() -> None:
    """They, their labels, and nothing else."""
    sketch = dataset_figure(digits())
    assert (sketch.name, sketch.section) == ("first-nine", Section.HOW_MADE)
    images, labels, classes = sketch.drawing.args
    np.testing.assert_array_equal(images, digits().train.images[:9])
    np.testing.assert_array_equal(labels, digits().train.labels[:9])
    assert classes == digits().classes


def inside(line: str, *, every_layer: bool) -> dict[str, str]:
    """Names and headings of the pictures of one image in an untrained network."""
    config = make_plan(digits(), TrainOptions(model=line)).config
    model = build_model(config.network).eval()
    sketches = layer_figures(config, model, digits().test.images[0], "a.png", every_layer=every_layer)
    pictures = dict(drawn(sketches, name_only))
    assert {picture.section for picture in pictures.values()} == {Section.WHAT_IT_SEES}
    assert all(picture.png and picture.explanation and picture.alt for picture in pictures.values())
    return {name: picture.heading for name, picture in pictures.items()}


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


@pytest.mark.parametrize("line", LINES)
def test_there_is_a_picture_of_every_layer_that_makes_something(line: str) -> None:
    found = inside(line, every_layer=False)
    assert tuple(found) == LINES[line]
    layers = line.split(", ")
    copies = {f"layer-{1 + layers.index(word):02d}-{word}1" for word in layers if word == "flatten"}
    assert set(inside(line, every_layer=True)) == set(found) | copies


def test_headings_say_which_layer_it_is() -> None:
    found = inside("conv 2 3 stride 2, relu, flatten", every_layer=True)
    assert found["layer-01-conv1"] == "conv1: conv 2 3 stride 2"
    assert found["layer-04-classifier"] == "classifier: dense 10"


def test_the_attribution_is_for_the_answer() -> None:
    config = make_plan(digits(), TrainOptions(model="flatten")).config
    model = build_model(config.network).eval()
    images = digits().test.images[:6]
    answers = predict_logits(model, images, config.preprocessing).argmax(1).tolist()
    assert len(set(answers)) > 1
    for image, answer in zip(images, answers, strict=True):
        found = {sketch.name: sketch for sketch in layer_figures(config, model, image, "it", every_layer=False)}
        assert found["attribution"].heading == f"Which pixels spoke for {answer}"


def test_results_are_shown_where_they_belong() -> None:
    logits = np.eye(10, dtype=np.float32)[digits().test.labels]
    evaluation = evaluate(logits, digits().test.labels, digits().classes)
    found = {sketch.name: sketch.section for sketch in result_figures(digits(), evaluation, logits, CURVES)}
    assert found == {
        "confusion-matrix": Section.WHERE_IT_FAILS,
        "worst-mistakes": Section.WHERE_IT_FAILS,
        "learning-curves": Section.HOW_IT_LEARNED,
    }


def test_every_picture_gets_its_own_file() -> None:
    """Also when they are drawn while the later sketches are made."""
    logits = np.eye(10, dtype=np.float32)[digits().test.labels]
    evaluation = evaluate(logits, digits().test.labels, digits().classes)
    found = dict(drawn(result_figures(digits(), evaluation, logits, CURVES), name_only))
    assert {name: picture.png.decode().replace("_", "-") for name, picture in found.items()} == {
        name: name for name in ("confusion-matrix", "worst-mistakes", "learning-curves")
    }


def test_mistakes_are_told_by_their_files() -> None:
    """Those of rows 3 and 9 of the store, whose first 8 rows are for training."""
    store = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    labels = np.tile([0, 1], 5)
    train, test = np.array([0, 1, 2, 4, 5, 6, 7, 8]), np.array([9, 3])
    files = tuple(f"a/{number}.png" for number in range(10))
    data = Dataset(
        "pets",
        ("cat", "dog"),
        Split(store, labels[train], train),
        Split(store, labels[test], test),
        "here",
        files=files,
    )
    logits = np.array([[5.0, 0.0], [1.0, 0.0]], np.float32)
    evaluation = evaluate(logits, data.test.labels, data.classes)
    found = {sketch.name: sketch.drawing for sketch in result_figures(data, evaluation, logits, CURVES)}
    assert found["worst-mistakes"].args[-1] == ["9.png", "3.png"]


def test_the_worst_mistakes_come_in_the_order_of_their_loss() -> None:
    """With the softmax of the logits, also of very large ones; of 20 mistakes 16 are shown."""
    labels = digits().test.labels
    logits = 50 * np.eye(10, dtype=np.float32)[labels]
    wrong = np.arange(0, 200, 10)
    logits[wrong] = 0
    for place, i in enumerate(wrong):
        logits[i, (labels[i] + 1) % 10] = 1 + place / 10  # the more wrong, the later
    logits[wrong[4]] = 1e4 * np.eye(10)[(labels[wrong[4]] + 2) % 10]
    evaluation = evaluate(logits, labels, digits().classes)
    found = {sketch.name: sketch.drawing for sketch in result_figures(digits(), evaluation, logits, CURVES)}
    images, shown, probabilities, classes, many, among, files = found["worst-mistakes"].args
    expected = [wrong[4], *[i for i in wrong[::-1] if i != wrong[4]]][:16]
    np.testing.assert_array_equal(images, digits().test.images[expected])
    np.testing.assert_array_equal(shown, labels[expected])
    assert (classes, many, among, files) == (digits().classes, 20, 359, ())
    assert probabilities[0].max() == 1
    height = np.exp(1 + 19 / 10)
    assert sorted(probabilities[1]) == pytest.approx([*[1 / (height + 9)] * 9, height / (height + 9)])
