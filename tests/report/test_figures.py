"""The figures of a run: which ones there are for which network, and what they depend on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial

import numpy as np
import pytest

from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.data.load import load_data
from convscope.evaluation.attribution import integrated_gradients
from convscope.evaluation.heat_maps import class_map
from convscope.evaluation.metrics import evaluate
from convscope.report import heat_plots, layer_plots, plots
from convscope.report.figures import dataset_figure, rank_mistakes, render_figures, result_figures
from convscope.report.html import Section
from convscope.report.layer_figures import layer_figures
from convscope.report.region_figures import mistake_figures
from convscope.report.render_pool import PLOTS, PlotCall
from convscope.training.loop import predict_logits


@cache
def digits() -> Dataset:
    return load_data("digits")


CURVES: PlotCall = partial(plots.learning_curves, [], 0)


def name_only(calls: Iterable[PlotCall]) -> Iterator[bytes]:
    """A renderer that returns names, because rendering is slow."""
    for call in calls:
        assert call.func is PLOTS[call.func.__name__]  # a worker finds it
        yield call.func.__name__.encode()


def test_dataset_figure_plots_the_first_nine_training_images() -> None:
    """A10."""
    spec = dataset_figure(digits())
    assert (spec.name, spec.section) == ("first-nine", Section.SETUP)
    images, labels, classes = spec.plot.args
    np.testing.assert_array_equal(images, digits().train.images[:9])
    np.testing.assert_array_equal(labels, digits().train.labels[:9])
    assert classes == digits().classes


def headings(line: str, *, every_layer: bool) -> dict[str, str]:
    """Names and headings of the figures of one image in an untrained network."""
    config = make_plan(digits(), TrainOptions(model=line), "digits").config
    model = build_model(config.network).eval()
    specs = layer_figures(config, model, digits().test.images[0], "a.png", every_layer=every_layer)
    figures = dict(render_figures(specs, name_only))
    assert {figure.section for figure in figures.values()} == {Section.FEATURES}
    assert all(figure.png and figure.explanation and figure.alt for figure in figures.values())
    return {name: figure.heading for name, figure in figures.items()}


LINES: dict[str, tuple[str, ...]] = {
    "conv 2 3, relu, maxpool 2, flatten, dense 4, relu": (
        "filters", "attribution", "regions", "relu", "layer-01-conv1", "layer-02-relu1", "layer-03-maxpool1", "flatten",
        "layer-05-dense1", "layer-06-relu2", "layer-07-classifier", "probabilities",
    ),
    "flatten": ("attribution", "regions", "flatten", "layer-02-classifier", "probabilities"),
    "globalavg, relu": (
        "attribution", "regions", "layer-01-globalavg1", "layer-02-relu1", "layer-03-classifier", "probabilities",
    ),
    "residual(conv 2 3 pad same, tanh), globalavg": (
        "filters", "attribution", "regions", "layer-01-conv1", "layer-02-tanh1", "layer-03-residual1-projection",
        "layer-04-residual1", "layer-05-globalavg1", "layer-06-classifier", "probabilities",
    ),
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_layer_figures_cover_every_layer_that_computes(line: str) -> None:
    found = headings(line, every_layer=False)
    assert tuple(found) == LINES[line]
    layers = line.split(", ")
    copies = {f"layer-{1 + layers.index(word):02d}-{word}1" for word in layers if word == "flatten"}
    assert set(headings(line, every_layer=True)) == set(found) | copies


def test_layer_figures_of_a_deep_network_show_24_layers_from_the_first_to_the_last() -> None:
    line = ", ".join(["conv 2 3 pad same", "relu"] * 20) + ", globalavg"
    shown = [int(name.split("-")[1]) for name in headings(line, every_layer=False) if name.startswith("layer-")]
    assert (len(shown), shown[0], shown[-1]) == (24, 1, 42)
    assert max(np.diff(shown)) <= 2
    assert sum(name.startswith("layer-") for name in headings(line, every_layer=True)) == 42


def test_layer_figures_headings_name_the_layer() -> None:
    found = headings("conv 2 3 stride 2, relu, flatten", every_layer=True)
    assert found["layer-01-conv1"] == "conv1: conv 2 3 stride 2"
    assert found["layer-04-classifier"] == "classifier: dense 10"


def test_layer_figures_attribution_is_for_the_predicted_class() -> None:
    config = make_plan(digits(), TrainOptions(model="flatten"), "digits").config
    model = build_model(config.network).eval()
    images = digits().test.images[:6]
    answers = predict_logits(model, images, config.preprocessing).argmax(1).tolist()
    assert len(set(answers)) > 1
    for image, answer in zip(images, answers, strict=True):
        found = {spec.name: spec for spec in layer_figures(config, model, image, "it", every_layer=False)}
        assert found["attribution"].heading == f"Which pixels influenced the prediction {answer}"


def test_layer_figures_regions_are_of_the_answer_and_the_runner_up() -> None:
    config = make_plan(digits(), TrainOptions(model="conv 4 3, relu, globalavg"), "digits").config
    model, image = build_model(config.network).eval(), digits().test.image(3)
    second, first = predict_logits(model, image[None], config.preprocessing)[0].argsort()[-2:].tolist()
    found = {spec.name: spec for spec in layer_figures(config, model, image, "it", every_layer=False)}["regions"]
    assert found.heading == f"Which regions speak for {first} and {second}"
    assert found.explanation.startswith(
        "Class activation map (Zhou et al., 2016): what each position of relu1 adds; their sum"
    )
    assert "a patch of 2x2 pixels" in found.explanation
    _, images, heats, titles = found.plot.args
    assert images.shape == (2, 8, 8, 1)
    assert titles == [str(first), "class activation map", "occlusion", str(second), "class activation map", "occlusion"]
    exact = class_map(model, config.network, config.preprocessing.normalize(image[None])[0], second).heat
    rows = np.arange(8) * 6 // 8
    np.testing.assert_array_equal(heats[1, 0], exact[rows][:, rows])


def test_mistake_figures_are_of_the_predicted_class_in_the_worst_mistakes() -> None:
    config = make_plan(digits(), TrainOptions(model="conv 4 3, relu, flatten"), "digits").config
    model = build_model(config.network).eval()
    predict = partial(predict_logits, model, preprocessing=config.preprocessing)
    logits = predict(digits().test.images)
    (found,) = mistake_figures(config, model, digits(), logits, predict)
    assert (found.name, found.section) == ("worst-mistakes-regions", Section.MISTAKES)
    assert found.explanation.startswith("What spoke for the predicted class in the worst 4 mistakes. Contributions:")
    worst = rank_mistakes(digits().test.labels, logits)[0]
    true, predicted = digits().test.labels[worst], logits[worst].argmax()
    _, images, heats, titles = found.plot.args
    assert (images.shape, heats.shape) == ((4, 8, 8, 1), (4, 3, 8, 8))
    assert titles[0].startswith(f"{true} → {predicted}\n")
    pixels = config.preprocessing.normalize(digits().test.images[worst][None])[0]
    np.testing.assert_array_equal(heats[0, 2], integrated_gradients(model, pixels, predicted))


def test_mistake_figures_without_mistakes_are_none() -> None:
    config = make_plan(digits(), TrainOptions(model="flatten"), "digits").config
    logits = np.eye(10, dtype=np.float32)[digits().test.labels]
    model = build_model(config.network).eval()
    predict = partial(predict_logits, model, preprocessing=config.preprocessing)
    assert list(mistake_figures(config, model, digits(), logits, predict)) == []


def test_result_figures_are_in_their_sections() -> None:
    logits = np.eye(10, dtype=np.float32)[digits().test.labels]
    evaluation = evaluate(logits, digits().test.labels, digits().classes)
    found = {spec.name: spec.section for spec in result_figures(digits(), evaluation, logits, CURVES)}
    assert found == {
        "confusion-matrix": Section.MISTAKES,
        "worst-mistakes": Section.MISTAKES,
        "learning-curves": Section.LEARNING,
    }


@pytest.mark.parametrize("cutmix", [True, False])
def test_result_figures_cutmix_caption_says_what_accuracy_leaves_out(cutmix: bool) -> None:
    logits = np.eye(10, dtype=np.float32)[digits().test.labels]
    evaluation = evaluate(logits, digits().test.labels, digits().classes)
    *_, curves = result_figures(digits(), evaluation, logits, CURVES, cutmix=cutmix)
    assert curves.name == "learning-curves"
    assert ("Training accuracy leaves out the batches that CutMix mixed" in curves.explanation) is cutmix


def test_render_figures_charts_are_figures_without_images() -> None:
    config = make_plan(digits(), TrainOptions(model="conv 2 3, relu, flatten", epochs=1, threads=1)).config
    logits = np.eye(10, dtype=np.float32)[digits().test.labels]
    specs = [
        *result_figures(digits(), evaluate(logits, digits().test.labels, digits().classes), logits, CURVES),
        *layer_figures(config, build_model(config.network).eval(), digits().test.image(0), "it", every_layer=False),
        dataset_figure(digits()),
    ]
    charts = {name: figure.is_chart for name, figure in render_figures(specs, name_only)}
    assert {name for name, is_chart in charts.items() if is_chart} == {
        "confusion-matrix", "learning-curves", "flatten", "layer-04-classifier", "probabilities"
    }  # fmt: skip
    assert {"worst-mistakes", "filters", "attribution", "relu", "first-nine"} <= charts.keys()


def test_layer_figures_classifier_has_the_names_of_the_classes() -> None:
    config = make_plan(digits(), TrainOptions(model="flatten", epochs=1, threads=1)).config
    model, image = build_model(config.network).eval(), digits().test.image(0)
    found = {spec.name: spec for spec in layer_figures(config, model, image, "it", every_layer=False)}
    assert found["layer-02-classifier"].plot.func is PLOTS["class_scores"]
    assert found["layer-02-classifier"].plot.args[2] == config.classes


def test_render_figures_gives_every_figure_its_own_file() -> None:
    logits = np.eye(10, dtype=np.float32)[digits().test.labels]
    evaluation = evaluate(logits, digits().test.labels, digits().classes)
    found = dict(render_figures(result_figures(digits(), evaluation, logits, CURVES), name_only))
    assert {name: figure.png.decode().replace("_", "-") for name, figure in found.items()} == {
        name: name for name in ("confusion-matrix", "worst-mistakes", "learning-curves")
    }


def test_result_figures_mistakes_have_their_file_names() -> None:
    """Rows 3 and 9 of the store; the other 8 are for training."""
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
    found = {spec.name: spec.plot for spec in result_figures(data, evaluation, logits, CURVES)}
    assert found["worst-mistakes"].args[-1] == ["9.png", "3.png"]


def test_result_figures_worst_mistakes_are_in_order_of_loss() -> None:
    """16 of 20 mistakes are shown, with the softmax of their logits, some of them very large."""
    labels = digits().test.labels
    logits = 50 * np.eye(10, dtype=np.float32)[labels]
    wrong = np.arange(0, 200, 10)
    logits[wrong] = 0
    for place, i in enumerate(wrong):
        logits[i, (labels[i] + 1) % 10] = 1 + place / 10  # later ones have a higher loss
    logits[wrong[4]] = 1e4 * np.eye(10)[(labels[wrong[4]] + 2) % 10]
    evaluation = evaluate(logits, labels, digits().classes)
    found = {spec.name: spec.plot for spec in result_figures(digits(), evaluation, logits, CURVES)}
    images, shown, probabilities, classes, counts, files = found["worst-mistakes"].args
    expected = [wrong[4], *[i for i in wrong[::-1] if i != wrong[4]]][:16]
    np.testing.assert_array_equal(images, digits().test.images[expected])
    np.testing.assert_array_equal(shown, labels[expected])
    assert (classes, counts, files) == (digits().classes, (20, 359), ())
    assert probabilities[0].max() == 1
    height = np.exp(1 + 19 / 10)
    assert sorted(probabilities[1]) == pytest.approx([*[1 / (height + 9)] * 9, height / (height + 9)])


def test_workers_know_every_plot() -> None:
    for module in (plots, layer_plots, heat_plots):
        functions = inspect.getmembers(module, inspect.isfunction)
        made = {name for name, one in functions if one.__module__ == module.__name__ and returns_canvas(name, one)}
        assert made <= PLOTS.keys()


def returns_canvas(name: str, function: Callable[..., object]) -> bool:
    return not name.startswith("_") and function.__annotations__.get("return") == "Canvas"
