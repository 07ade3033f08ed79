"""Training from a data set to a run folder: the plan, the run, interruptions, hooks, and repeated evaluation."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import time
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from convscope import Predictor, Run, evaluate_run, load_data, open_run, parse_network, train_model
from convscope._reporting import Reporter, SilentReporter
from convscope._statistics import wilson
from convscope.api.train import run_plan
from convscope.api.training.hooks import HookKeywords, Hooks, TrainKeywords
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan, make_plan
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.errors import ConvscopeError, DataError, ModelFileError, UsageError
from convscope.evaluation.metrics import tta_logits
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import encode_png
from convscope.report.html import render_page
from convscope.training.callbacks import Callback, Trainer
from convscope.training.config import TrainConfig
from convscope.training.loop import fit
from convscope.training.recipe import Recipe
from convscope.training.recipes import RECIPES, VARIANTS
from helpers.callbacks import Interrupt, RecordSteps
from helpers.images import write_images
from helpers.reporting import RecordingReporter


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


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("interruptible")]

SHORT = RECIPES["default"].override(epochs=2, batch_size=8)


def plan(data: Dataset, model: str | None = None, recipe: Recipe | str | None = None, **options: Any) -> Plan:
    """Make a plan; `origin` is the data set's name or path."""
    origin = options.pop("origin", "")
    return make_plan(data, TrainOptions(model=model, recipe=recipe, **options), origin)


def weights(planned: Plan) -> bytes:
    """Train as planned, and return the bytes of a weights file."""
    config, data = planned.config, planned.data
    model = build_model(config.network, config.seed)
    train_config = TrainConfig(config.preprocessing, config.recipe, seed=config.seed)
    return save(fit(model, data.train, data.validation, train_config).weights)


# The plan


@pytest.mark.parametrize(
    ("smallest", "recipe", "balance", "reason"),
    [
        (9, "default", 0, ""),
        (8, "default", 0.5, "classes have 8 to 27 images: those of the smallest are drawn 1.8 times as often"),
        (8, "article", 0, ""),
    ],
)
def test_plan_with_classes_below_a_third_of_the_largest_balances_them(
    digits: Dataset, smallest: int, recipe: str, balance: float, reason: str
) -> None:
    indices = [np.flatnonzero(digits.train.labels == label)[: smallest if label == 3 else 27] for label in range(10)]
    train = digits.train.take(np.concatenate(indices))
    config = plan(dataclasses.replace(digits, train=train, validation=digits.test), "flatten", recipe).config
    assert (config.recipe.class_balance, config.reasons.get("class_balance", "")) == (balance, reason)


@pytest.mark.parametrize("chosen", [*RECIPES.values(), *VARIANTS["color"].values()], ids=lambda recipe: recipe.name)
def test_a13_train_with_random_test_set_gives_identical_weights(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: Recipe
) -> None:
    """Weights are bit-identical, and so are the curves, except for the article's, which are drawn on the test set."""
    monkeypatch.setattr("convscope.api.train.write_results", lambda *_: None)  # slow, and after training
    random = np.random.default_rng(0)
    random_test = Split(random.integers(0, 256, digits.test.images.shape, np.uint8), 9 - digits.test.labels)
    first, second = (
        run_plan(plan(data, "small", chosen.override(epochs=3)), TrainOptions(run=tmp_path / folder))
        for folder, data in (("first", digits), ("second", dataclasses.replace(digits, test=random_test)))
    )
    weights = [run.weights_file.read_bytes() for run in (first, second)]
    assert weights[0] == weights[1]
    assert first.manifest.selected_epoch == second.manifest.selected_epoch
    assert first.config.preprocessing == second.config.preprocessing
    curves = [[row["validation_loss"] for row in run.history] for run in (first, second)]
    assert (curves[0] == curves[1]) is (chosen.name != "article")


def test_a11_a13_plan_of_article_validates_on_test_set(digits: Dataset) -> None:
    planned = plan(digits, "article", "article")
    assert planned.data.train is digits.train
    assert planned.data.validation is digits.test
    assert planned.config.preprocessing == Preprocessing.plain(digits.train.images)
    assert planned.config.epochs == 10
    assert planned.config.dataset.split_sizes == "1,438 training, 359 test images"


@pytest.mark.parametrize(("recipe", "fitted"), [("article", False), ("default", True)])
def test_train_model_without_images_held_out_is_called_uncalibrated(
    digits: Dataset, tmp_path: Path, recipe: str, fitted: bool
) -> None:
    run = train_model(digits, "flatten", recipe=recipe, epochs=1, run=tmp_path / "run")
    assert run.evaluation is not None and run.evaluation.calibration is not None
    assert run.evaluation.calibration.fitted is fitted
    card = (run.path / "README.md").read_text("utf-8")
    assert ("uncalibrated, as no images were held out" in card) is not fitted


def test_plan_of_article_with_max_error_raises(digits: Dataset) -> None:
    with pytest.raises(UsageError, match=r"^recipe article holds out no images, on which max_error could be kept: "):
        plan(digits, "article", "article", max_error=0.01)


def test_train_model_with_max_error_out_of_reach_says_that_the_model_will_not_answer(
    digits: Dataset, tmp_path: Path
) -> None:
    reporter = RecordingReporter()
    run = train_model(digits, "flatten", epochs=1, max_error=1e-6, reporter=reporter, run=tmp_path / "run")
    message = "145 validation images show no limit that keeps an error of 1e-06: the model will not answer; choose"
    assert any(text.startswith(message) for text in reporter.messages)
    assert run.metadata.rejection.min_probability == 1
    assert run.evaluation is not None
    assert run.evaluation.answers[0].answered == 0


def test_plan_of_default_recipe_uses_training_images_only(digits: Dataset) -> None:
    planned = plan(digits)
    assert (len(planned.data.train), len(planned.data.validation)) == (1293, 145)
    together = np.concatenate([planned.data.train.images, planned.data.validation.images])
    assert sorted(map(bytes, together)) == sorted(map(bytes, digits.train.images))
    assert planned.config.preprocessing == Preprocessing.standardized(planned.data.train.images)
    assert planned.config.epochs == 55  # 11 batches per epoch, and at least 600 steps
    assert planned.config.dataset.split_sizes == "1,293 training, 145 validation, 359 test images"


@pytest.mark.parametrize("name", RECIPES)
def test_plan_with_recipe_name_for_color_images_takes_their_variant(
    stripes: Dataset, colors: Dataset, name: str
) -> None:
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
def test_plan_with_auto_flip_decides_by_data_set(stripes: Dataset, origin: str, flip: str) -> None:
    auto = SHORT.override(horizontal_flip="auto")
    assert plan(stripes, "flatten", auto, threads=1, origin=origin).config.recipe.augmentation.horizontal_flip == flip
    for asked in ("always", "never"):
        kept = SHORT.override(horizontal_flip=asked)
        planned = plan(stripes, "flatten", kept, threads=1, origin=origin)
        assert planned.config.recipe.augmentation.horizontal_flip == asked


@pytest.mark.parametrize(
    ("architecture", "resizes"),
    [
        ("whiten 2, relu, globalmax", True),
        ("conv 4 3, maxpool 2, globalavg", True),
        ("conv 4 3, relu, flatten", False),
        ("maxpool 11, globalmax", False),  # at first, 16 pixels are 10
        ("maxpool 15 stride 15, flatten", False),
    ],
)
def test_plan_keeps_progressive_resizing_if_weights_fit_every_size(
    colors: Dataset, architecture: str, resizes: bool
) -> None:
    scales = ((0.3, 0.625), (0.6, 0.75))
    recipe = SHORT.override(progressive_resizing=scales)
    found = plan(colors, architecture, recipe, threads=1).config.recipe.schedule.progressive_resizing
    assert found == (scales if resizes else ())


def test_plan_with_another_seed_changes_validation_images_and_weights(stripes: Dataset) -> None:
    first, again, other = (plan(stripes, "flatten", SHORT, seed=seed) for seed in (0, 0, 1))
    assert weights(first) == weights(again) != weights(other)
    assert first.data.validation.images.tobytes() != other.data.validation.images.tobytes()


@pytest.mark.parametrize(
    ("architecture", "torch_threads"),
    [("conv 4 3 pad same, relu, conv 4 3, flatten", 2), ("flatten", 2 if backend.native is None else 1)],
)
def test_plan_with_threads_sets_and_records_them(stripes: Dataset, architecture: str, torch_threads: int) -> None:
    """If the kernels do all the work, torch gets one thread, so that two thread pools do not compete."""
    before = torch.get_num_threads()
    try:
        planned = plan(stripes, architecture, SHORT, threads=2)
        assert (torch.get_num_threads(), planned.config.machine.threads) == (torch_threads, 2)
        assert backend.native is None or backend.native.threads() == 2
    finally:
        use_threads(before)


def test_plan_with_architecture_as_recipe_model_is_custom(stripes: Dataset) -> None:
    planned = plan(stripes, None, SHORT.override(model="conv 4 3, flatten"))
    assert (planned.config.model, planned.config.architecture) == ("custom", "conv 4 3, flatten")
    with pytest.raises(UsageError, match="unknown preset 'smal'"):
        plan(stripes, None, SHORT.override(model="smal"))


@pytest.mark.parametrize("recipe", ["fast", "best", "default"])
def test_plan_with_images_too_small_for_the_preset_takes_small(recipe: str, digits: Dataset) -> None:
    assert plan(digits, None, recipe).config.model == "small"
    larger = np.kron(digits.train.images[:40], np.ones((1, 4, 4, 1), np.uint8))
    split = Split(larger, digits.train.labels[:40] % 2)
    data = Dataset("larger", ("even", "odd"), split, split, "made here")
    assert plan(data, None, recipe).config.model == RECIPES[recipe].model


@pytest.mark.parametrize(
    ("model", "recipe", "message"),
    [
        ("lenet5", "default", "needs feature maps of at least 5x5, got 2x2"),
        ("smal", "default", "unknown preset 'smal': did you mean 'small'"),
        ("flatten", "deafult", "unknown recipe 'deafult': did you mean 'default'"),
    ],
)
def test_train_model_with_wrong_model_or_recipe_writes_nothing(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, recipe: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        train_model(stripes, model, recipe)
    assert not list(tmp_path.iterdir())


# The run


def test_train_model_with_data_set_in_memory_takes_next_free_folder(
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
    with pytest.raises(UsageError, match="stripes-custom-2 was trained on data in memory: name a data set to"):
        evaluate_run(run)


@pytest.mark.parametrize(("at", "epochs"), [(1, 0), (7, 1)])
def test_train_model_after_ctrl_c_saves_weights(stripes: Dataset, tmp_path: Path, at: int, epochs: int) -> None:
    run = train_model(stripes, "flatten", SHORT, run=tmp_path / "run", callbacks=[Interrupt(at)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    opened = open_run(tmp_path / "run")
    assert opened.manifest == run.manifest
    assert (run.manifest.status, run.manifest.signal, run.manifest.selected_epoch) == ("interrupted", 2, epochs)
    assert {re.sub(r"\.\d{10}\.", ".TIME.", name) for name in run.manifest.files} == {
        "best.safetensors", "config.json", "last.safetensors", "metrics.jsonl", "model.onnx",
        "training-images.safetensors", "tensorboard/events.out.tfevents.TIME.convscope",
    }  # fmt: skip
    assert len(opened.history) == epochs
    assert opened.evaluation is None
    assert "interrupted" in repr(opened)
    assert "not measured: training was interrupted" in opened._repr_html_()
    array = next(iter(load_file(run.weights_file).values()))
    assert not np.array_equal(array, build_model(run.network).state_dict()["classifier.weight"].numpy())
    assert sum(Predictor(run.path).predict(stripes.test.images[0])[0].probabilities.values()) == pytest.approx(1)


def test_train_model_after_second_ctrl_c_ends_at_once(stripes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_model(stripes, "flatten", SHORT, run=tmp_path / "run", callbacks=[Interrupt(7, times=2)])
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")


def test_train_model_with_signal_during_report_completes_it(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> str:
        signal.raise_signal(signal.SIGTERM)
        return render_page(*arguments)

    monkeypatch.setattr("convscope.api.training.results.render_page", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the signal must be held back"))
    try:
        run = train_model(stripes, "flatten", SHORT, run=tmp_path / "run", checkpoint_interval=0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (run.manifest.status, run.manifest.signal) == ("complete", 0)
    assert not (run.path / "checkpoints").exists()
    assert {"evaluation.json", "report.html", "README.md"} < set(run.manifest.files)


def test_train_model_with_infinite_loss_leaves_no_run(stripes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConvscopeError, match=r"^the loss became (nan|inf) in epoch 1, step [0-9]: lower"):
        train_model(stripes, "flatten", SHORT.override(learning_rate=1e38), run=tmp_path / "run")
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")


def test_config_file_of_a_new_run_has_task_and_no_initial_epoch(digits_run: Run) -> None:
    values = json.loads((digits_run.path / "config.json").read_text())
    assert (values["task"], values["initial_epoch"]) == ("single-label", 0)
    assert (values["augment"], values["metrics"]) == ("", [])


# Options


def test_train_keywords_agree_with_options_and_hooks() -> None:
    """An option may be given as text in Python if it is a path there; model and recipe are parameters of their own."""
    keywords, options, hooks = map(get_type_hints, (TrainKeywords, TrainOptions, Hooks))
    fields = {name: options[name] for name in TrainOptions.model_fields if name not in ("model", "recipe")}
    assert fields.pop("run") == Path | None
    assert keywords.pop("run") == str | Path | None
    hook_fields = {name: hooks[name] for name in HookKeywords.__annotations__}
    assert keywords == fields | hook_fields
    assert set(hook_fields) == {field.name for field in dataclasses.fields(Hooks)} - {"renderer"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "^epoch=3: there is no option of this name$"),
        ({"watch": print}, "^watch=.*: there is no option of this name$"),
        ({"epochs": 0}, "^epochs=0: expected a number of at least 1$"),
        ({"budget": "soon"}, "^--budget 'soon': expected a time such as 60s, 2min or 1.5h$"),
        ({"recipe": "deafult"}, "unknown recipe 'deafult': did you mean 'default'"),
    ],
    ids=str,
)
def test_train_model_with_wrong_option_raises_before_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "convscope.api.training.options.TrainOptions.load_data", lambda *_: pytest.fail("data were loaded")
    )
    with pytest.raises(UsageError, match=message):
        train_model("digits", **options)
    assert not list(tmp_path.iterdir())


def test_train_model_options_reach_the_config(stripes: Dataset, tmp_path: Path) -> None:
    options = {"epochs": 4, "batch_size": 9, "learning_rate": 0.02, "precision": "float32", "patience": 3, "seed": 7}
    run = train_model(stripes, "flatten", threads=1, run=str(tmp_path / "run"), target_accuracy=0.999, **options)  # type: ignore[arg-type]
    config, recipe = run.config, run.config.recipe
    assert (config.epochs, config.seed, config.precision, config.machine.threads) == (4, 7, "float32", 1)
    assert (recipe.epochs, recipe.min_steps, recipe.batch_size, recipe.optimizer.learning_rate) == (4, 0, 9, 0.02)
    assert (recipe.stopping.target_accuracy, recipe.stopping.patience) == (0.999, 3)


def test_train_model_with_budget_ends_in_time(stripes: Dataset, tmp_path: Path) -> None:
    started = time.monotonic()
    run = train_model(stripes, "flatten", budget="12s", threads=1, run=tmp_path / "run")
    assert time.monotonic() - started < 12 + 3
    assert (run.config.budget, run.manifest.status) == (12, "complete")
    assert run.config.time_limit is not None
    assert run.manifest.train_seconds == pytest.approx(run.config.time_limit, abs=1)


# Callbacks, metrics and augmentation of the caller


class Recorder(Callback):
    """Records the names of its hooks as they are called, with the step."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def on_train_begin(self, trainer: Trainer) -> None:
        self.calls.append(("train begin", trainer.state.step))

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self.calls.append(("batch end", trainer.state.step))

    def on_epoch_end(self, trainer: Trainer) -> None:
        assert trainer.result.history[-1].epoch == trainer.result.last_epoch
        self.calls.append(("epoch end", trainer.state.step))

    def on_train_end(self, trainer: Trainer) -> None:
        self.calls.append(("train end", trainer.state.step))


def test_train_model_calls_every_hook_of_callbacks(stripes: Dataset, tmp_path: Path) -> None:
    recorder = Recorder()
    train_model(stripes, "flatten", SHORT, threads=1, run=tmp_path / "run", callbacks=[recorder])
    batches = [("batch end", step) for step in range(1, 11)]
    assert recorder.calls == [
        ("train begin", 0), *batches[:5], ("epoch end", 5), *batches[5:], ("epoch end", 10), ("train end", 10),
    ]  # fmt: skip


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_epoch_end"])
def test_train_model_with_callback_that_stops_is_complete(stripes: Dataset, tmp_path: Path, hook: str) -> None:
    class StopInFirstEpoch(Callback):
        pass

    def stop(_: Callback, trainer: Trainer) -> None:
        trainer.stop_training = trainer.state.step >= 5

    setattr(StopInFirstEpoch, hook, stop)
    steps = RecordSteps()
    run = train_model(stripes, "flatten", SHORT, threads=1, run=tmp_path / "run", callbacks=[StopInFirstEpoch(), steps])
    assert steps.steps == [1, 2, 3, 4, 5]
    assert (run.manifest.status, run.manifest.signal) == ("complete", 0)
    assert len(run.history) == (hook == "on_epoch_end")
    assert not (run.path / "checkpoints").exists()


def test_callback_raising_ends_training_with_its_error(stripes: Dataset, tmp_path: Path) -> None:
    class Failing(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            raise ZeroDivisionError(trainer.state.step)

    with pytest.raises(ZeroDivisionError, match=r"^5$"):
        train_model(stripes, "flatten", SHORT, run=tmp_path / "run", callbacks=[Failing()])
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")


def balanced_accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    assert (str(logits.dtype), str(labels.dtype), len(logits)) == ("float32", "int64", len(labels))
    return float(np.mean([(logits[labels == label].argmax(1) == label).mean() for label in np.unique(labels)]))


def test_train_model_with_metrics_records_them_per_epoch_and_for_test_data(stripes: Dataset, tmp_path: Path) -> None:
    def size(logits: NDArray[np.float32], _: NDArray[np.int64]) -> float:
        return len(logits)

    metrics = {"balanced_accuracy": balanced_accuracy, "size": size}
    run = train_model(stripes, "flatten", SHORT, threads=1, run=tmp_path / "run", metrics=metrics)
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["validation_size"] for row in rows] == [4, 4]
    assert list(rows[0])[-2:] == ["validation_balanced_accuracy", "validation_size"]
    assert run.history == rows
    logits = Predictor(run.path).predict_logits(stripes.test.images)
    assert run.evaluation is not None
    assert run.evaluation.metrics == {"balanced_accuracy": balanced_accuracy(logits, stripes.test.labels), "size": 20}
    assert open_run(run.path).evaluation == run.evaluation
    assert open_run(run.path).config.metrics == ("balanced_accuracy", "size")
    plain = train_model(stripes, "flatten", SHORT, threads=1, run=tmp_path / "plain")
    assert plain.weights_file.read_bytes() == run.weights_file.read_bytes()


@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_train_model_with_metric_of_a_reserved_name_raises(stripes: Dataset, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"^metrics: '{name}' is measured anyway: choose another name$"):
        train_model(stripes, "flatten", SHORT, run=tmp_path / "run", metrics={name: balanced_accuracy})
    assert not (tmp_path / "run").exists()


def test_train_model_with_augment_changes_training_images_only(stripes: Dataset, tmp_path: Path) -> None:
    shapes, randoms = [], []

    def invert(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        shapes.append((str(images.dtype), *images.shape))
        randoms.append(random.random())
        inverted: NDArray[np.uint8] = 255 - images
        return inverted

    def train(name: str, **hooks: Any) -> Run:
        return train_model(stripes, "conv 4 3, relu, flatten", SHORT, threads=1, run=tmp_path / name, **hooks)

    store = stripes.train.images.copy()
    run, plain = train("inverted", augment=invert), train("plain")
    assert np.array_equal(stripes.train.images, store)
    assert shapes == [*[("uint8", 8, 4, 4, 1)] * 4, ("uint8", 4, 4, 4, 1)] * 2
    assert len(set(randoms)) == 10
    assert run.weights_file.read_bytes() != plain.weights_file.read_bytes()
    again = train("again", augment=invert)
    assert again.weights_file.read_bytes() == run.weights_file.read_bytes()
    assert randoms[:10] == randoms[10:]
    assert run.config.augment.endswith("invert")
    identical = train("identical", augment=lambda images, _: images)
    assert identical.weights_file.read_bytes() == plain.weights_file.read_bytes()


@pytest.mark.parametrize(
    ("augment", "got"),
    [
        (lambda images, _: images[:, :3], r"uint8 \(8, 3, 4, 1\)"),
        (lambda images, _: images / 255, r"float64 \(8, 4, 4, 1\)"),
        (lambda *_: None, "NoneType"),
    ],
    ids=["shape", "dtype", "None"],
)
def test_train_model_with_augment_that_returns_other_arrays_raises(
    stripes: Dataset, tmp_path: Path, augment: Any, got: str
) -> None:
    message = rf"^augment returned {got}: expected uint8 \(8, 4, 4, 1\), the shape that it was given$"
    with pytest.raises(UsageError, match=message):
        train_model(stripes, "flatten", SHORT, threads=1, run=tmp_path / "run", augment=augment)


def test_train_model_reports_to_the_reporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.data.load.load_default", default_data)
    reporter = RecordingReporter()
    run = train_model(model="flatten", recipe=SHORT, epochs=1, run=tmp_path / "run", reporter=reporter)
    assert reporter.messages == ["No data set named"]
    assert run.config.dataset.path == "digits"


def default_data(reporter: Reporter) -> Dataset:
    reporter.message("No data set named")
    return load_data("digits")


# Evaluating again


def saved(path: Path, data: Dataset) -> str:
    np.savez(
        path, x_train=data.train.images, y_train=data.train.labels, x_test=data.test.images, y_test=data.test.labels,
        classes=np.array(data.classes),
    )  # fmt: skip
    return str(path)


def test_a14_evaluate_run_repeats_the_evaluation(digits_run: Run, digits: Dataset) -> None:
    again, first = evaluate_run(digits_run, reporter=SilentReporter()), digits_run.evaluation
    assert first is not None
    assert np.array_equal(again.confusion, first.confusion)
    assert again.loss == pytest.approx(first.loss, abs=1e-5)
    assert (again.n, again.accuracy, again.interval, again.per_class) == (
        359, first.accuracy, first.interval, first.per_class,
    )  # fmt: skip
    correct = Predictor(digits_run.path).predict_logits(digits.test.images).argmax(1) == digits.test.labels
    assert again.accuracy == correct.mean()


def test_evaluate_run_with_tta_recipe_also_reports_tta_accuracy(stripes: Dataset, tmp_path: Path) -> None:
    recipe = SHORT.override(tta=True)
    run = train_model(saved(tmp_path / "stripes.npz", stripes), "flatten", recipe, threads=1, run=tmp_path / "run")
    first = run.evaluation
    assert first is not None
    assert first.tta is not None
    assert open_run(run.path).evaluation == first

    def scores(images: Any) -> Any:
        return Predictor(run.path).predict_logits(images)

    correct = int((tta_logits(scores, stripes.test.images, False).argmax(1) == stripes.test.labels).sum())
    assert (first.tta.accuracy, first.tta.interval) == (correct / 20, wilson(correct, 20))
    assert first.accuracy == (scores(stripes.test.images).argmax(1) == stripes.test.labels).mean()
    assert evaluate_run(run, reporter=SilentReporter()).tta == first.tta
    assert evaluate_run(run, reporter=SilentReporter(), tta=True).tta == first.tta
    without = evaluate_run(run, reporter=SilentReporter(), tta=False)
    assert without.tta is None
    assert without.accuracy == first.accuracy


def test_evaluate_run_with_tta_argument_measures_it(digits_run: Run, digits: Dataset) -> None:
    assert digits_run.evaluation is not None
    assert digits_run.evaluation.tta is None
    assert evaluate_run(digits_run, reporter=SilentReporter()).tta is None
    found = evaluate_run(digits_run, reporter=SilentReporter(), tta=True).tta
    predictor = Predictor(digits_run.path)
    scores = tta_logits(predictor.predict_logits, digits.test.images, False)
    assert found is not None
    assert found.accuracy == (scores.argmax(1) == digits.test.labels).mean()


@pytest.mark.parametrize("flip", ["always", "never"])
def test_tta_flips_if_training_flipped(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip: str
) -> None:
    flipped: list[bool] = []

    def record(predict: Any, images: Any, flip: bool) -> Any:
        flipped.append(flip)
        return predict(images)

    monkeypatch.setattr("convscope.evaluation.evaluate.tta_logits", record)
    recipe = SHORT.override(tta=True, horizontal_flip=flip)
    run = train_model(saved(tmp_path / "stripes.npz", stripes), "flatten", recipe, threads=1, run=tmp_path / "run")
    evaluate_run(run, reporter=SilentReporter())
    assert flipped == [flip == "always"] * 2


def test_predictor_after_whitening_and_progressive_resizing_agrees_with_evaluation(
    colors: Dataset, tmp_path: Path
) -> None:
    """Images have 10x15, 12x18, then 16x24 pixels."""
    architecture = "whiten 2, gelu, conv 8 3 pad same, maxpool 2, batchnorm, gelu, globalmax"
    recipe = VARIANTS["color"]["best"].override(epochs=6, batch_size=8, learning_rate=0.05)
    run = train_model(colors, architecture, recipe, threads=1, run=tmp_path / "run")
    assert run.config.recipe.schedule.progressive_resizing == recipe.schedule.progressive_resizing != ()
    evaluation = run.evaluation
    assert evaluation is not None
    assert (evaluation.tta is not None) is recipe.tta
    scores = Predictor(run.path).predict_logits(colors.test.images)
    assert evaluation.accuracy == (scores.argmax(1) == colors.test.labels).mean()
    opened = open_run(run.path)
    assert opened.network == parse_network(architecture, (16, 24, 3), 2)
    weight = load_file(run.weights_file)["whiten1.weight"]
    assert weight.shape == (24, 3, 2, 2)
    assert np.array_equal(weight[12:], -weight[:12])


def test_evaluate_run_with_classes_in_another_order_maps_them(digits_run: Run, digits: Dataset, tmp_path: Path) -> None:
    train, test = (Split(split.images, 9 - split.labels) for split in (digits.train, digits.test))
    reversed_classes = Dataset("reversed_classes", digits.classes[::-1], train, test, "")
    found = evaluate_run(digits_run, saved(tmp_path / "reversed.npz", reversed_classes), SilentReporter())
    assert digits_run.evaluation is not None
    assert found.classes == digits_run.classes
    assert np.array_equal(found.confusion, digits_run.evaluation.confusion)


def test_evaluate_run_with_images_of_another_size_resizes_them(
    digits_run: Run, digits: Dataset, tmp_path: Path
) -> None:
    """Images that are doubled and halved again are nearly the same."""
    train, test = (
        Split(split.images.repeat(2, axis=1).repeat(2, axis=2), split.labels) for split in (digits.train, digits.test)
    )
    double = Dataset("double", digits.classes, train, test, "")
    found = evaluate_run(digits_run, saved(tmp_path / "double.npz", double), SilentReporter())
    assert digits_run.evaluation is not None
    assert found.accuracy == pytest.approx(digits_run.evaluation.accuracy, abs=0.06)


def test_evaluate_run_says_how_it_changed_the_images_of_a_folder(
    digits_run: Run, digits: Dataset, tmp_path: Path
) -> None:
    """Dark digits on white paper are answered as the white ones on black that the network was trained on."""
    files = {
        f"{label}/{i}.png": encode_png(255 - image)
        for i, (image, label) in enumerate(zip(digits.test.images, digits.test.labels, strict=True))
    }
    write_images(tmp_path / "paper", files)
    reporter = RecordingReporter()
    found = evaluate_run(digits_run, str(tmp_path / "paper"), reporter)
    assert digits_run.evaluation is not None
    assert found.accuracy == pytest.approx(digits_run.evaluation.accuracy, abs=0.02)
    inverted = next(message for message in reporter.messages if "inverted" in message)
    assert re.fullmatch(r"3\d\d of 359 images were inverted to the dark background of training", inverted)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ("cat", "dog"),
            "not trained on: cat, dog; choose data with its classes, which are 0, 1, 2, 3, 4, 5, 6, 7, 8,",
        ),
        (tuple("abcdefghijkl"), "has classes that the network was not trained on: a, b, c, d, e and 7 more; choose"),
        (("3", "5", "x"), "has classes that the network was not trained on: x; choose"),
    ],
)
def test_evaluate_run_with_other_classes_raises(
    digits_run: Run, tmp_path: Path, classes: tuple[str, ...], message: str
) -> None:
    labels = np.arange(4 * len(classes)) % len(classes)
    split = Split(np.zeros((len(labels), 8, 8), np.uint8), labels)
    other = saved(tmp_path / "other.npz", Dataset("other", classes, split, split, ""))
    with pytest.raises(DataError, match=re.escape(message)):
        evaluate_run(digits_run, other)


def test_evaluate_run_with_some_of_the_classes_measures_these(digits_run: Run, digits: Dataset, tmp_path: Path) -> None:
    three = digits.test.take(np.flatnonzero(digits.test.labels == 3))
    np.savez(tmp_path / "three.npz", images=three.images, labels=three.labels)
    found = evaluate_run(digits_run, str(tmp_path / "three.npz"), SilentReporter())
    assert (found.n, found.per_class[3].support) == (len(three), len(three))
    assert found.measured == f"all {len(three)} images of {tmp_path}/three.npz"
    assert (found.per_class[4].recall, found.per_class[4].f1) == (None, None)
    assert found.unmeasured_classes == ("0", "1", "2", "4", "5", "6", "7", "8", "9")


def test_evaluate_run_with_changed_data_reports_it(
    stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("stripes.npz"), stripes)
    train_model("stripes.npz", "flatten", SHORT, run="run", callbacks=[Interrupt(1)])
    monkeypatch.chdir("/")
    run = open_run(tmp_path / "run")
    assert run.config.dataset.path == str(tmp_path / "stripes.npz")
    assert evaluate_run(run, reporter=SilentReporter()).n == 20
    mixed = Split(*(np.concatenate([getattr(split, name) for split in (stripes.train, stripes.test)])
                    for name in ("images", "labels")))  # fmt: skip
    saved(tmp_path / "stripes.npz", dataclasses.replace(stripes, test=mixed))
    reporter = RecordingReporter()
    changed = evaluate_run(run, reporter=reporter)
    measured = f"the 20 images that training did not use, of the test split of {tmp_path}/stripes.npz: 60 images"
    assert (changed.n, changed.measured) == (20, measured)
    assert reporter.messages == [f"{tmp_path}/stripes.npz has changed since {run.path} was trained on it"]
    saved(tmp_path / "stripes.npz", dataclasses.replace(stripes, test=stripes.train))
    with pytest.raises(DataError, match=r"^training used all of the test split of .*: name other images to measure"):
        evaluate_run(run, reporter=SilentReporter())


def test_evaluate_run_on_images_that_training_used_says_how_many(
    digits_run: Run, digits: Dataset, tmp_path: Path
) -> None:
    both = Split(np.concatenate([digits.test.images, digits.train.images[:41]]),
                 np.concatenate([digits.test.labels, digits.train.labels[:41]]))  # fmt: skip
    reporter = RecordingReporter()
    path = saved(tmp_path / "both.npz", Dataset("both", digits.classes, digits.train, both, ""))
    assert evaluate_run(digits_run, path, reporter).n == 400
    assert digits_run.evaluation is not None
    accuracy = f"{100 * digits_run.evaluation.accuracy:.2f} %"
    message = f"training used 41 of these 400 images, which are easier for it; accuracy on the other 359: {accuracy}"
    assert reporter.messages[0] == message


def test_train_model_with_epochs_and_budget_stops_at_whichever_comes_first(stripes: Dataset, tmp_path: Path) -> None:
    few = train_model(stripes, "flatten", epochs=3, budget="60s", threads=1, run=tmp_path / "few")
    assert (len(few.history), few.config.time_limit, few.config.budget) == (3, None, 60)
    many = train_model(stripes, "flatten", epochs=1_000_000, budget=6, threads=1, run=tmp_path / "many")
    assert many.config.time_limit is not None
    assert 0 < many.manifest.train_seconds < 6


def test_train_model_image_options_without_image_files_are_reported(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="^digits has no image files: image_size, fit, group_by have no effect$"):
        run = train_model(
            "digits", "flatten", epochs=1, budget="60s", target_accuracy=0.97, image_size=64, fit="letterbox",
            group_by=".", threads=1, run=tmp_path / "run",
        )  # fmt: skip
    assert run.config.recipe.stopping.target_accuracy == 0.97


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (0.9, None),
        (0.99, "145 validation images cannot show a target accuracy of 99 %: it takes 368 or more"),
        (1.0, "145 validation images cannot show a target accuracy of 100 %: no number is enough"),
    ],
)
def test_make_plan_target_out_of_reach_of_the_validation_images_gives_reason(
    target: float, expected: str | None
) -> None:
    options = TrainOptions(model="flatten", epochs=1, threads=1, target_accuracy=target)
    assert make_plan(load_data("digits"), options).config.reasons.get("target_accuracy") == expected
