"""From a data set to a run folder: what is planned, what is trained on, and what is left when it is interrupted."""

from __future__ import annotations

import dataclasses
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

from convscope import Predictor, Run, evaluate_run, load_data, open_run, parse_network, train_model
from convscope._statistics import wilson
from convscope.api import train as experiment
from convscope.api.train import Plan, plan, run_plan
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.errors import ConvscopeError, DataError, ModelFileError, UsageError
from convscope.evaluation.metrics import tta_logits
from convscope.images.preprocessing import Preprocessing
from convscope.report.html import render
from convscope.training.loop import fit
from convscope.training.recipes import RECIPES, VARIANTS, Recipe, changed
from convscope.training.state import Progress
from helpers.reporting import RecordingReporter, SilentReporter


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


@pytest.fixture(scope="module")
def colors() -> Dataset:
    """Red and blue on noise, 16x24: color images."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = random.integers(0, 200, (60, 16, 24, 3), np.uint8)
    images[labels == 0, ..., 0] += 50
    images[labels == 1, ..., 2] += 50
    train, test = Split(images[:40], labels[:40]), Split(images[40:], labels[40:])
    return Dataset("colors", ("red", "blue"), train, test, "made here")


pytestmark = pytest.mark.usefixtures("interruptible")

SHORT = changed(RECIPES["default"], epochs=2, batch=8)


def weights(planned: Plan) -> bytes:
    """The bytes of a weights file."""
    config = planned.config
    model = build_model(config.network, config.seed)
    fitted = fit(model, planned.training, planned.validation, config.preprocessing, config.recipe, config.seed)
    return save(fitted.weights)


# The plan


@pytest.mark.parametrize(
    ("rare", "recipe", "balance", "words"),
    [
        (9, "default", 0, ""),
        (8, "default", 0.5, "classes of 8 to 27 images: those of the rarest are drawn 1.8 times as often"),
        (8, "article", 0, ""),
    ],
)
def test_rare_classes_are_drawn_more_often_from_a_third_on(
    digits: Dataset, rare: int, recipe: str, balance: float, words: str
) -> None:
    places = [np.flatnonzero(digits.train.labels == label)[: rare if label == 3 else 27] for label in range(10)]
    train = digits.train.take(np.concatenate(places))
    config = plan(dataclasses.replace(digits, train=train, validation=digits.test), "flatten", recipe).config
    assert (config.recipe.balance, config.balance) == (balance, words)


@pytest.mark.parametrize("chosen", [*RECIPES.values(), *VARIANTS["color"].values()], ids=lambda recipe: recipe.name)
def test_a13_the_test_set_decides_nothing(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: Recipe
) -> None:
    """With nonsense in its place the same weights come out, to the bit, and the same curves but for the article's."""
    monkeypatch.setattr(experiment, "_write_results", lambda *_: None)  # slow, and after training
    random = np.random.default_rng(0)
    nonsense = Split(random.integers(0, 256, digits.test.images.shape, np.uint8), 9 - digits.test.labels)
    first, blind = (
        run_plan(plan(data, "small", changed(chosen, epochs=3)), tmp_path / folder)
        for folder, data in (("first", digits), ("blind", dataclasses.replace(digits, test=nonsense)))
    )
    weights = [run.weights_file.read_bytes() for run in (first, blind)]
    assert weights[0] == weights[1]
    assert first.manifest.selected_epoch == blind.manifest.selected_epoch
    assert first.config.preprocessing == blind.config.preprocessing
    curves = [[row["validation_loss"] for row in run.history] for run in (first, blind)]
    assert (curves[0] == curves[1]) is (chosen.name != "article")


def test_a11_a13_the_articles_plan(digits: Dataset) -> None:
    planned = plan(digits, "article", "article")
    assert planned.training is digits.train
    assert planned.validation is digits.test
    assert planned.config.preprocessing == Preprocessing.plain(digits.train.images)
    assert planned.config.epochs == 10
    assert planned.config.dataset.counts == "1,438 training, 359 test images"


def test_the_default_recipe_measures_and_validates_on_training_images_alone(digits: Dataset) -> None:
    planned = plan(digits)
    assert (len(planned.training), len(planned.validation)) == (1293, 145)
    together = np.concatenate([planned.training.images, planned.validation.images])
    assert sorted(map(bytes, together)) == sorted(map(bytes, digits.train.images))
    assert planned.config.preprocessing == Preprocessing.standardized(planned.training.images)
    assert planned.config.epochs == 55  # 11 batches an epoch, and 600 at least
    assert planned.config.dataset.counts == "1,293 training, 145 validation, 359 test images"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_named_for_color_images_is_the_one_for_them(stripes: Dataset, colors: Dataset, name: str) -> None:
    assert plan(stripes, "flatten", name, threads=1).config.recipe.name == RECIPES[name].name
    expected = VARIANTS["color"].get(name, RECIPES[name])
    found = plan(colors, "flatten", name, threads=1).config.recipe
    assert (found.name, found.model, found.optimizer) == (expected.name, expected.model, expected.optimizer)
    assert plan(colors, "flatten", RECIPES[name], threads=1).config.recipe.name == RECIPES[name].name


@pytest.mark.parametrize(
    ("origin", "flip"),
    [("cifar10", "always"), ("fashion-mnist", "always"), ("mnist", "never"), ("digits", "never"), ("", "never"),
     ("folder/cifar10", "never")],
)  # fmt: skip
def test_flips_are_for_data_sets_that_are_known_to_keep_their_classes(stripes: Dataset, origin: str, flip: str) -> None:
    auto = SHORT.model_copy(update={"flip": "auto"})
    assert plan(stripes, "flatten", auto, threads=1, origin=origin).config.recipe.flip == flip
    for asked in ("always", "never"):
        kept = SHORT.model_copy(update={"flip": asked})
        assert plan(stripes, "flatten", kept, threads=1, origin=origin).config.recipe.flip == asked


@pytest.mark.parametrize(
    ("line", "grows"),
    [
        ("whiten 2, relu, globalmax", True),
        ("conv 4 3, maxpool 2, globalavg", True),
        ("conv 4 3, relu, flatten", False),
        ("maxpool 11, globalmax", False),  # 16 pixels are 10 at first
        ("maxpool 15 stride 15, flatten", False),
    ],
)
def test_images_grow_for_networks_whose_weights_fit_every_size(colors: Dataset, line: str, grows: bool) -> None:
    growth = ((0.3, 0.625), (0.6, 0.75))
    recipe = SHORT.model_copy(update={"growth": growth})
    assert plan(colors, line, recipe, threads=1).config.recipe.growth == (growth if grows else ())


def test_a_seed_decides_what_is_held_out_and_what_is_learned(stripes: Dataset) -> None:
    first, again, other = (plan(stripes, "flatten", SHORT, seed=seed) for seed in (0, 0, 1))
    assert weights(first) == weights(again) != weights(other)
    assert first.validation.images.tobytes() != other.validation.images.tobytes()


@pytest.mark.parametrize(
    ("line", "torch_threads"),
    [("conv 4 3 pad same, relu, conv 4 3, flatten", 2), ("flatten", 2 if backend.native is None else 1)],
)
def test_threads_are_set_and_written_down(stripes: Dataset, line: str, torch_threads: int) -> None:
    """Where only kernels work torch gets one, so that two sets of threads do not fight."""
    before = torch.get_num_threads()
    try:
        planned = plan(stripes, line, SHORT, threads=2)
        assert (torch.get_num_threads(), planned.config.machine.threads) == (torch_threads, 2)
        assert backend.native is None or backend.native.threads() == 2
    finally:
        use_threads(before)


def test_a_recipes_model_may_be_a_line(stripes: Dataset) -> None:
    planned = plan(stripes, None, SHORT.model_copy(update={"model": "conv 4 3, flatten"}))
    assert (planned.config.model, planned.config.architecture) == ("custom", "conv 4 3, flatten")
    with pytest.raises(UsageError, match="unknown preset 'smal'"):
        plan(stripes, None, SHORT.model_copy(update={"model": "smal"}))


@pytest.mark.parametrize("recipe", ["fast", "best", "default"])
def test_small_takes_the_place_of_a_preset_that_does_not_fit_small_images(recipe: str, digits: Dataset) -> None:
    assert plan(digits, None, recipe).config.model == "small"
    larger = np.kron(digits.train.images[:40], np.ones((1, 4, 4, 1), np.uint8))
    split = Split(larger, digits.train.labels[:40] % 2)
    data = Dataset("larger", ("even", "odd"), split, split, "made here")
    assert plan(data, None, recipe).config.model == RECIPES[recipe].model


@pytest.mark.parametrize(
    ("model", "recipe", "message"),
    [
        ("lenet5", "default", "needs at least 5x5 cells, but 2x2 arrive"),
        ("smal", "default", "unknown preset 'smal': did you mean 'small'"),
        ("flatten", "deafult", "unknown recipe 'deafult': did you mean 'default'"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, recipe: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        train_model(stripes, model, recipe)
    assert not list(tmp_path.iterdir())


# The run


def test_a_data_set_in_memory_makes_a_run_in_the_next_free_folder(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "stripes-custom-1").mkdir(parents=True)
    run = train_model(stripes, "flatten", SHORT)
    assert run.path == Path("runs/stripes-custom-2")
    assert run.config.dataset.path == ""
    assert run.evaluation is not None
    scores = Predictor(run.path).predict_logits(stripes.test.images)
    assert run.evaluation.accuracy == (scores.argmax(1) == stripes.test.labels).mean()
    with pytest.raises(UsageError, match="stripes-custom-2 was trained on data given in memory: name a data set to"):
        evaluate_run(run)


def interrupt(times: int, at: int) -> Callable[[Progress], None]:
    """A watcher that sends SIGINT after a batch."""

    def watch(now: Progress) -> None:
        for _ in range(times if now.step == at else 0):
            signal.raise_signal(signal.SIGINT)

    return watch


@pytest.mark.parametrize(("at", "epochs"), [(1, 0), (7, 1)])
def test_an_interrupted_training_saves_what_was_learned(stripes: Dataset, tmp_path: Path, at: int, epochs: int) -> None:
    run = train_model(stripes, "flatten", SHORT, run=tmp_path / "run", watch=interrupt(1, at))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    opened = open_run(tmp_path / "run")
    assert opened.manifest == run.manifest
    assert (run.manifest.status, run.manifest.signal, run.manifest.selected_epoch) == ("interrupted", 2, epochs)
    assert {re.sub(r"\.\d{10}\.", ".TIME.", name) for name in run.manifest.files} == {
        "best.safetensors", "config.json", "last.safetensors", "metrics.jsonl", "model.onnx",
        "tensorboard/events.out.tfevents.TIME.convscope",
    }  # fmt: skip
    assert len(opened.history) == epochs
    assert opened.evaluation is None
    assert "interrupted" in repr(opened)
    assert "not measured: training was interrupted" in opened._repr_html_()
    array = next(iter(load_file(run.weights_file).values()))
    assert not np.array_equal(array, build_model(run.network).state_dict()["classifier.weight"].numpy())
    assert sum(Predictor(run.path).predict(stripes.test.images[0])[0].probabilities.values()) == pytest.approx(1)


def test_a_second_interruption_acts_at_once(stripes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_model(stripes, "flatten", SHORT, run=tmp_path / "run", watch=interrupt(2, 7))
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")


def test_an_interruption_while_the_report_is_made_lets_it_be_finished(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> str:
        signal.raise_signal(signal.SIGTERM)
        return render(*arguments)

    monkeypatch.setattr(experiment, "render", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("it must be held back"))
    try:
        run = train_model(stripes, "flatten", SHORT, run=tmp_path / "run")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (run.manifest.status, run.manifest.signal) == ("complete", signal.SIGTERM)
    assert {"evaluation.json", "report.html", "README.md"} < set(run.manifest.files)


def test_a_training_that_fails_leaves_no_run(stripes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConvscopeError, match=r"^the loss became (nan|inf) in epoch 1, step [0-9]: lower"):
        train_model(stripes, "flatten", changed(SHORT, learning_rate=1e38), run=tmp_path / "run")
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")


# Evaluating it again


def saved(path: Path, data: Dataset) -> str:
    np.savez(
        path, x_train=data.train.images, y_train=data.train.labels, x_test=data.test.images, y_test=data.test.labels,
        classes=np.array(data.classes),
    )  # fmt: skip
    return str(path)


def test_a14_a_runs_evaluation_can_be_repeated(digits_run: Run, digits: Dataset) -> None:
    again, first = evaluate_run(digits_run, reporter=SilentReporter()), digits_run.evaluation
    assert first is not None
    assert np.array_equal(again.confusion, first.confusion)
    assert again.loss == pytest.approx(first.loss, abs=1e-5)
    assert (again.n, again.accuracy, again.interval, again.per_class) == (
        359, first.accuracy, first.interval, first.per_class,
    )  # fmt: skip
    right = Predictor(digits_run.path).predict_logits(digits.test.images).argmax(1) == digits.test.labels
    assert again.accuracy == right.mean()


def test_test_time_augmentation_stands_beside_the_plain_accuracy_where_the_recipe_says_so(
    stripes: Dataset, tmp_path: Path
) -> None:
    recipe = SHORT.model_copy(update={"tta": True})
    run = train_model(saved(tmp_path / "stripes.npz", stripes), "flatten", recipe, threads=1, run=tmp_path / "run")
    first = run.evaluation
    assert first is not None
    assert first.tta is not None
    assert open_run(run.path).evaluation == first

    def scores(images: Any) -> Any:
        return Predictor(run.path).predict_logits(images)

    right = int((tta_logits(scores, stripes.test.images, False).argmax(1) == stripes.test.labels).sum())
    assert (first.tta.accuracy, first.tta.interval) == (right / 20, wilson(right, 20))
    assert first.accuracy == (scores(stripes.test.images).argmax(1) == stripes.test.labels).mean()
    assert evaluate_run(run, reporter=SilentReporter()).tta == first.tta
    assert evaluate_run(run, reporter=SilentReporter(), tta=True).tta == first.tta
    without = evaluate_run(run, reporter=SilentReporter(), tta=False)
    assert without.tta is None
    assert without.accuracy == first.accuracy


def test_test_time_augmentation_can_be_asked_for(digits_run: Run, digits: Dataset) -> None:
    assert digits_run.evaluation is not None
    assert digits_run.evaluation.tta is None
    assert evaluate_run(digits_run, reporter=SilentReporter()).tta is None
    found = evaluate_run(digits_run, reporter=SilentReporter(), tta=True).tta
    predictor = Predictor(digits_run.path)
    scores = tta_logits(predictor.predict_logits, digits.test.images, False)
    assert found is not None
    assert found.accuracy == (scores.argmax(1) == digits.test.labels).mean()


@pytest.mark.parametrize("flip", ["always", "never"])
def test_test_time_augmentation_mirrors_what_training_flipped(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip: str
) -> None:
    asked: list[bool] = []

    def noted(scores: Any, images: Any, mirror: bool) -> Any:
        asked.append(mirror)
        return scores(images)

    monkeypatch.setattr(experiment, "tta_logits", noted)
    recipe = SHORT.model_copy(update={"tta": True, "flip": flip})
    run = train_model(saved(tmp_path / "stripes.npz", stripes), "flatten", recipe, threads=1, run=tmp_path / "run")
    evaluate_run(run, reporter=SilentReporter())
    assert asked == [flip == "always"] * 2


def test_a_whitened_network_that_grew_predicts_as_it_was_measured(colors: Dataset, tmp_path: Path) -> None:
    """From the plan to the model file: 10x15, 12x18, then 16x24 pixels."""
    line = "whiten 2, gelu, conv 8 3 pad same, maxpool 2, batchnorm, gelu, globalmax"
    recipe = changed(VARIANTS["color"]["best"], epochs=6, batch=8, learning_rate=0.05)
    run = train_model(colors, line, recipe, threads=1, run=tmp_path / "run")
    assert run.config.recipe.growth == recipe.growth != ()
    evaluation = run.evaluation
    assert evaluation is not None
    assert (evaluation.tta is not None) is recipe.tta
    scores = Predictor(run.path).predict_logits(colors.test.images)
    assert evaluation.accuracy == (scores.argmax(1) == colors.test.labels).mean()
    opened = open_run(run.path)
    assert opened.network == parse_network(line, (16, 24, 3), 2)
    weight = load_file(run.weights_file)["whiten1.weight"]
    assert weight.shape == (24, 3, 2, 2)
    assert np.array_equal(weight[12:], -weight[:12])


def test_classes_in_another_order_are_the_same_classes(digits_run: Run, digits: Dataset, tmp_path: Path) -> None:
    train, test = (Split(split.images, 9 - split.labels) for split in (digits.train, digits.test))
    turned = Dataset("turned", digits.classes[::-1], train, test, "")
    found = evaluate_run(digits_run, saved(tmp_path / "turned.npz", turned), SilentReporter())
    assert digits_run.evaluation is not None
    assert found.classes == digits_run.classes
    assert np.array_equal(found.confusion, digits_run.evaluation.confusion)


def test_images_of_another_size_are_brought_to_the_networks(digits_run: Run, digits: Dataset, tmp_path: Path) -> None:
    """Doubled pixels, halved again, are nearly what they were."""
    train, test = (
        Split(split.images.repeat(2, axis=1).repeat(2, axis=2), split.labels) for split in (digits.train, digits.test)
    )
    double = Dataset("double", digits.classes, train, test, "")
    found = evaluate_run(digits_run, saved(tmp_path / "double.npz", double), SilentReporter())
    assert digits_run.evaluation is not None
    assert found.accuracy == pytest.approx(digits_run.evaluation.accuracy, abs=0.06)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ("cat", "dog"),
            "has the classes cat, dog, but the network was trained on 0, 1, 2, 3, 4, 5, 6, 7, 8, 9: choose",
        ),
        (tuple("abcdefghij"), "has the classes a, b, c, d, e, f, g, h, i, j, but the network was trained on 0, 1"),
        (tuple("abcdefghijkl"), "has the classes a, b, c, d, e, f, g, h, i, j and 2 more, but the network was trained"),
    ],
)
def test_data_with_other_classes_cannot_be_evaluated(
    digits_run: Run, tmp_path: Path, classes: tuple[str, ...], message: str
) -> None:
    labels = np.arange(4 * len(classes)) % len(classes)
    split = Split(np.zeros((len(labels), 8, 8), np.uint8), labels)
    other = saved(tmp_path / "other.npz", Dataset("other", classes, split, split, ""))
    with pytest.raises(DataError, match=re.escape(message)):
        evaluate_run(digits_run, other)


def test_data_that_changed_since_the_training_is_told(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("stripes.npz"), stripes)
    train_model("stripes.npz", "flatten", SHORT, run="run", watch=interrupt(1, 1))
    monkeypatch.chdir("/")
    run = open_run(tmp_path / "run")
    assert run.config.dataset.path == str(tmp_path / "stripes.npz")
    assert evaluate_run(run, reporter=SilentReporter()).n == 20
    saved(tmp_path / "stripes.npz", dataclasses.replace(stripes, test=stripes.train))
    reporter = RecordingReporter()
    assert evaluate_run(run, reporter=reporter).n == 40
    assert reporter.messages == [f"{tmp_path}/stripes.npz is no longer the data that {run.path} was trained on"]
