"""Trainings from a backbone: the same seed gives the same bits, also after stops, kills and damage to the cache."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convscope import Run, open_run, resume_run, train_model, train_more
from convscope._reporting import SilentReporter
from convscope.errors import UsageError
from convscope.runs.config import CHECKPOINT_FOLDER, WEIGHTS_FILES
from convscope.runs.weights import load_weights
from convscope.training.callbacks import Callback, Trainer
from helpers.callbacks import Interrupt
from helpers.process import start_command, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cache", "interruptible", "no_results")]

MANY_EPOCHS = 300  # of one batch each


def train(photos: Path, first: Run, run: Path, **options: Any) -> Run:
    return train_model(photos, init=first.path, run=run, threads=1, reporter=SilentReporter(), **options)


def bits(run: Run) -> list[bytes]:
    return [(run.path / name).read_bytes() for name in ("initial.safetensors", *WEIGHTS_FILES.values())]


def cached(cache: Path) -> list[Path]:
    """The files of cached features."""
    files = list((cache / "convscope" / "features").glob("*.npy"))
    assert files
    return files


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(b"not an array" * 100)


class CountBatches(Callback):
    """Counts the batches that are trained on, not those that a checkpoint brings."""

    count = 0

    def on_train_batch_end(self, _: Trainer) -> None:
        self.count += 1


@pytest.fixture
def whole(photos: Path, first: Run, tmp_path: Path) -> Run:
    """An uninterrupted training."""
    return train(photos, first, tmp_path / "whole", epochs=6)


@pytest.mark.parametrize(
    "options", [{"recipe": "fast"}, {}, {"tune": "all", "epochs": 2}], ids=["classifier", "last layers", "all layers"]
)
def test_train_with_the_same_seed_is_bit_identical(
    photos: Path, first: Run, tmp_path: Path, cache: Path, options: dict[str, Any]
) -> None:
    one = train(photos, first, tmp_path / "one", **options)
    for path in cached(cache):
        path.unlink()
    other = train(photos, first, tmp_path / "other", **options)
    assert bits(one) == bits(other)
    assert bits(one) != bits(train(photos, first, tmp_path / "seed", seed=1, **options))


@pytest.mark.parametrize("damage", [truncate, empty, overwrite, Path.unlink])
def test_resume_after_ctrl_c_is_bit_identical_whatever_the_cache_became(
    photos: Path, first: Run, tmp_path: Path, whole: Run, cache: Path, damage: Callable[[Path], object]
) -> None:
    run = train(photos, first, tmp_path / "run", epochs=6, callbacks=[Interrupt(4)])
    assert (run.manifest.status, run.manifest.signal) == ("interrupted", signal.SIGINT)
    assert len(run.history) < len(whole.history)
    for path in cached(cache):
        damage(path)
    resumed = resume_run(run.path, reporter=SilentReporter())
    assert [row["train_loss"] for row in resumed.history] == [row["train_loss"] for row in whole.history]
    assert bits(resumed) == bits(whole)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_resume_after_a_kill_is_bit_identical(photos: Path, first: Run, tmp_path: Path, layers: str) -> None:
    epochs = MANY_EPOCHS if layers == "last" else MANY_EPOCHS // 10
    batches = CountBatches()
    whole = train(photos, first, tmp_path / "whole", epochs=epochs, tune=layers, callbacks=[batches])
    words = ("--epochs", str(epochs), "--tune", layers, "--checkpoint-interval", "0", "--threads", "1", "--run", "run")
    process = start_command(tmp_path, "train", str(photos), "--init", str(first.path), *words)
    wait_until(lambda: any((tmp_path / "run" / CHECKPOINT_FOLDER).glob("step-*[1-9]?.ckpt")), process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "manifest.json").exists()
    rest = CountBatches()
    assert bits(resume_run(tmp_path / "run", reporter=SilentReporter(), callbacks=[rest])) == bits(whole)
    assert 0 < rest.count <= batches.count - 10  # a checkpoint of at least ten batches was there


def test_train_all_layers_changes_every_layer_and_goes_on(photos: Path, first: Run, tmp_path: Path) -> None:
    run = train(photos, first, tmp_path / "run", epochs=1, tune="all")
    assert (run.config.init and run.config.init.cut, run.config.epochs, len(run.history)) == (0, 1, 1)
    before, after = (load_weights(run.path / name) for name in ("initial.safetensors", "last.safetensors"))
    assert not [name for name in before if (before[name] == after[name]).all()]
    more = train_more(run.path, 1, run=tmp_path / "more", reporter=SilentReporter())
    assert (more.config.init and more.config.init.cut, more.config.initial_epoch) == (0, 1)


def test_train_the_classifier_alone_with_a_recipe_that_trains_more(photos: Path, first: Run, tmp_path: Path) -> None:
    run = train(photos, first, tmp_path / "run", tune="classifier")
    assert (run.config.init and run.config.init.cut, run.config.epochs) == (None, 0)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_tune_with_a_recipe_that_trains_no_layer_is_refused(
    photos: Path, first: Run, tmp_path: Path, layers: str
) -> None:
    expected = (
        f"recipe fast from a backbone trains the classifier alone: leave out --tune {layers}, or choose another recipe"
    )
    with pytest.raises(UsageError, match=expected):
        train(photos, first, tmp_path / "run", tune=layers, recipe="fast")


def test_tune_without_a_backbone_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tune all needs a backbone to start from: add --init, or leave out --tune"):
        train_model(photos, tune="all", run=tmp_path / "run", reporter=SilentReporter())


def test_train_more_trains_the_last_layers_in_float32(tmp_path: Path, whole: Run) -> None:
    more = train_more(whole.path, 2, run=tmp_path / "more", reporter=SilentReporter())
    assert (len(more.history), more.config.initial_epoch, more.config.precision) == (2, 6, "float32")
    assert_only_last_layers_differ(whole, more)
    assert open_run(more.path).manifest == more.manifest


def test_train_more_of_a_classifier_trains_the_last_layers(photos: Path, first: Run, tmp_path: Path) -> None:
    head = train(photos, first, tmp_path / "head", recipe="fast")
    more = train_more(head.path, 2, run=tmp_path / "more", reporter=SilentReporter())
    assert (len(more.history), more.config.initial_epoch) == (2, 0)
    assert_only_last_layers_differ(head, more)


def test_train_more_of_a_backbone_without_other_layers_is_refused(photos: Path, tmp_path: Path) -> None:
    small = train_model(photos, "flatten, dense 8, relu", epochs=1, threads=1, run=tmp_path / "small")
    head = train(photos, small, tmp_path / "head")
    with pytest.raises(UsageError, match="head has no layers behind its backbone that could be trained: train with --"):
        train_more(head.path, 2, run=tmp_path / "more", reporter=SilentReporter())


def assert_only_last_layers_differ(before: Run, after: Run) -> None:
    """The frozen layers have the same weights, the others do not."""
    init = after.config.init
    assert init is not None
    assert init.cut is not None
    frozen = {layer.name for layer in after.network.layers[: init.cut]}
    one, other = (load_weights(run.path / "last.safetensors") for run in (before, after))
    changed = {name.split(".")[0] for name in one if (one[name] != other[name]).any()}
    assert "classifier" in changed
    assert changed.isdisjoint(frozen)
