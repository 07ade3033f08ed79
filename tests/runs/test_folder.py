"""The run folder: its files, their verification, and opening and writing it."""

from __future__ import annotations

import hashlib
import io
import json
import pickletools
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from safetensors.numpy import load_file, save

from convscope import Predictor, Run, load_data, open_run
from convscope.backends.pytorch.models import build_model
from convscope.errors import ModelFileError, UsageError
from convscope.runs.config import TRAINING_IMAGES_FILE, RunConfig, RunSummary
from convscope.runs.folder import RunWriter, next_run_folder
from convscope.training.loop import predict_logits
from helpers.init_info import init_info

PLOTS = (
    "attribution", "confusion-matrix", "filters", "first-nine", "flatten", "layer-01-conv1", "layer-02-relu1",
    "layer-03-maxpool1", "layer-04-conv2", "layer-05-batchnorm1", "layer-06-relu2", "layer-07-maxpool2",
    "layer-09-dense1", "layer-10-batchnorm2", "layer-11-relu3", "layer-12-classifier", "learning-curves", "reliability",
    "probabilities", "regions", "relu", "worst-mistakes", "worst-mistakes-regions",
)  # fmt: skip
FILES = (
    "README.md", "best.safetensors", "config.json", "evaluation.json", "last.safetensors", "metrics.jsonl",
    "model.onnx", "report.html", "training-images.safetensors", "tensorboard/events.out.tfevents.*.convscope",
    *(f"plots/{name}.png" for name in PLOTS),
)  # fmt: skip
METRICS = [
    "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate",
    "images_per_second", "seconds",
]  # fmt: skip


@pytest.fixture
def copy(digits_run: Run, tmp_path: Path) -> Path:
    """A copy of the run, which tests may change."""
    return Path(shutil.copytree(digits_run.path, tmp_path / "run"))


def path_of(run: Path, pattern: str) -> Path:
    """The only file that matches; the name of the event file holds a time."""
    (path,) = run.glob(pattern)
    return path


# Files


@pytest.mark.slow
def test_manifest_lists_every_file_with_its_checksum(digits_run: Run) -> None:
    there = {path.relative_to(digits_run.path).as_posix() for path in digits_run.path.rglob("*") if path.is_file()}
    files = [path_of(digits_run.path, name).relative_to(digits_run.path).as_posix() for name in FILES]
    assert there == {*files, "manifest.json"}
    manifest = json.loads((digits_run.path / "manifest.json").read_text())
    assert manifest.pop("train_seconds") > 0
    assert manifest.pop("selected_epoch") == 3
    assert manifest.pop("weights") == digits_run.config.recipe.selection.weights
    contents = {name: (digits_run.path / name).read_bytes() for name in sorted(files)}
    assert manifest == {
        "format": 1,
        "status": "complete",
        "signal": 0,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }


def pickles(content: bytes) -> bool:
    try:
        pickletools.dis(content, io.StringIO())
    except Exception:  # the disassembler fails in many ways on other files
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_run_file_is_neither_a_pickle_nor_a_zip_archive(digits_run: Run, name: str) -> None:
    assert pickles(b"\x80\x04]\x94.")
    path = path_of(digits_run.path, name)
    assert not pickles(path.read_bytes())
    assert not zipfile.is_zipfile(path)


def test_config_file_holds_the_plan(digits_run: Run) -> None:
    text = (digits_run.path / "config.json").read_text()
    assert RunConfig.model_validate_json(text) == digits_run.config
    values = json.loads(text)
    data = load_data("digits")
    assert values["dataset"] == {
        "name": "digits",
        "path": "digits",
        "source": data.source,
        "load_options": None,
        "fingerprint": data.fingerprint,
        "train_images": 1293,
        "validation_images": 145,
        "test_images": 359,
    }
    assert values["classes"] == list("0123456789")
    assert values["recipe"]["name"] == "default"
    assert (values["epochs"], values["seed"], values["input_shape"]) == (3, 0, [8, 8, 1])
    assert values["machine"]["threads"] == 1
    assert digits_run.network.architecture == values["architecture"]


def test_metrics_file_has_one_object_per_epoch(digits_run: Run) -> None:
    rows = [json.loads(line) for line in (digits_run.path / "metrics.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [METRICS] * 3
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert digits_run.history == rows


def test_weights_file_has_layer_names_and_predicts_like_the_model_file(digits_run: Run) -> None:
    weights = load_file(digits_run.weights_file)
    assert {name: (array.shape, str(array.dtype)) for name, array in weights.items()} == {
        "conv1.weight": ((16, 1, 3, 3), "float32"),
        "conv1.bias": ((16,), "float32"),
        "conv2.weight": ((32, 16, 3, 3), "float32"),
        "dense1.weight": ((64, 32), "float32"),
        "dense1.bias": ((64,), "float32"),
        **{
            f"batchnorm{number}.{part}": ((width,), "float32")
            for number, width in ((1, 32), (2, 64))
            for part in ("weight", "bias", "running_mean", "running_var")
        },
        **{f"batchnorm{number}.num_batches_tracked": ((), "int64") for number in (1, 2)},
        "classifier.weight": ((10, 64), "float32"),
        "classifier.bias": ((10,), "float32"),
    }
    images = load_data("digits").test.images
    model = digits_run.model()
    assert not model.training
    logits = predict_logits(model, images, digits_run.config.preprocessing)
    assert Predictor(digits_run.path).predict_logits(images) == pytest.approx(logits, abs=1e-4)


def test_plots_are_png_files_with_contrast(digits_run: Run) -> None:
    for path in (digits_run.path / "plots").iterdir():
        with Image.open(path) as figure:
            assert figure.format == "PNG"
            assert min(figure.size) >= 100
            assert np.ptp(np.asarray(figure.convert("L"))) > 100


# Verification


def flip(content: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("name", [name for name in FILES if name != "README.md"])
def test_open_run_missing_or_altered_file_raises_with_its_name(copy: Path, name: str) -> None:
    path = path_of(copy, name)
    content = path.read_bytes()
    for altered in (flip(content), content[:-1], content + b"\n", b""):
        path.write_bytes(altered)
        with pytest.raises(ModelFileError, match=f"^{path} was altered after training: restore it") as error:
            open_run(copy)
        assert error.value.exit_code == 4
    path.unlink()
    with pytest.raises(ModelFileError, match=f"^{path} is missing: restore it from a copy, or train again$"):
        open_run(copy)
    path.write_bytes(content)
    assert open_run(copy).config.dataset.name == "digits"


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_open_run_model_card_is_its_owners(copy: Path, change: str) -> None:
    card = copy / "README.md"
    card.unlink() if change == "removed" else card.write_text("Made for the zoo.")
    assert open_run(copy).config.dataset.name == "digits"
    assert Predictor(copy).classes == tuple("0123456789")


def changed(copy: Path, name: str, **values: Any) -> None:
    """Change values of a JSON file, and its checksum in the manifest."""
    path = copy / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    if name != "manifest.json":
        listed(copy, name)


def listed(copy: Path, name: str, path: Path | None = None) -> None:
    """List a file in the manifest, as it is now."""
    manifest = json.loads((copy / "manifest.json").read_text())
    content = (path or copy / name).read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    changed(copy, "manifest.json", files={**manifest["files"], name: entry})


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "metrics.jsonl",
        "best.safetensors",
        "last.safetensors",
        "model.onnx",
        "evaluation.json",
        "training-images.safetensors",
    ],
)
def test_open_run_manifest_that_does_not_list_a_used_file_raises(copy: Path, name: str) -> None:
    files = json.loads((copy / "manifest.json").read_text())["files"]
    del files[name]
    changed(copy, "manifest.json", files=files)
    with pytest.raises(ModelFileError, match=f"^{copy}/manifest.json does not list {name}: restore it"):
        Predictor(copy)


@pytest.mark.parametrize("place", ["../outside", "plots/../../outside", "{outside}", "a\\..\\b", "a\0b"])
def test_open_run_manifest_that_lists_a_path_outside_raises(copy: Path, place: str) -> None:
    outside = copy.parent / "outside"
    outside.write_text("secret")
    listed(copy, place.format(outside=outside), outside)
    with pytest.raises(ModelFileError, match=r"manifest\.json lists .*, which is not a file of the folder"):
        open_run(copy)


@pytest.mark.parametrize("name", ["model.onnx", "plots"])
def test_open_run_link_to_the_outside_raises(copy: Path, name: str) -> None:
    outside = copy.parent / "outside"
    (copy / name).rename(outside)
    (copy / name).symlink_to(outside)
    with pytest.raises(ModelFileError, match=f"^{copy}/{name}.* is a link to a file outside {copy}: replace it"):
        open_run(copy)


def test_open_run_that_is_itself_a_link_opens(copy: Path) -> None:
    (copy.parent / "link").symlink_to(copy)
    assert open_run(copy.parent / "link").config.dataset.name == "digits"


def test_open_run_model_file_of_another_run_raises(copy: Path) -> None:
    changed(copy, "config.json", classes=list("0123456798"))
    with pytest.raises(ModelFileError, match=r"config\.json and model\.onnx contradict each other in classes"):
        open_run(copy)


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("metrics.jsonl", b"{", lambda run: run.history),
        ("metrics.jsonl", b'{"epoch": 1}\n', lambda run: run.history),
        ("metrics.jsonl", b"\xff\n", lambda run: run.summary()),
        ("evaluation.json", b"[]", lambda run: run.evaluation),
        ("evaluation.json", b'{"n": NaN}', lambda run: run.summary()),
        ("best.safetensors", b"", lambda run: run.model()),
        ("best.safetensors", b"\xff" * 100, lambda run: run.model()),
        (
            "best.safetensors",
            save({"conv1.weight": np.full((16, 1, 3, 3), np.nan, np.float32)}),
            lambda run: run.model(),
        ),
        ("training-images.safetensors", b"", lambda run: run.training_images),
        ("training-images.safetensors", save({"images": np.zeros(3)}), lambda run: run.training_images),
        ("training-images.safetensors", save({"blake2b": np.zeros(3)}), lambda run: run.training_images),
    ],
)
def test_run_other_content_under_a_right_checksum_raises(
    copy: Path, name: str, content: bytes, read: Callable[[Run], object]
) -> None:
    (copy / name).write_bytes(content)
    listed(copy, name)
    with pytest.raises(ModelFileError, match=f"^{copy}/{name}") as caught:
        read(open_run(copy))
    assert len(str(caught.value).splitlines()) == 1


def _zeros(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: np.zeros_like(array) for name, array in weights.items()}


def _doubles(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: array.astype(np.float64) for name, array in weights.items()}


@pytest.mark.parametrize("change", [_zeros, _doubles])
def test_open_run_weights_that_are_not_those_of_the_model_file_raises(
    copy: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Or `explain`, which uses the weights, and `predict` would give different answers."""
    name = open_run(copy).weights_file.name
    (copy / name).write_bytes(save(change(load_file(copy / name))))
    listed(copy, name)
    with pytest.raises(ModelFileError, match=f"^{copy}: {name} and model.onnx contradict each other in conv1.weight"):
        open_run(copy)


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 2}, "format: input should be 1"),
        ({"format": None}, "format: input should be 1"),
        ({"color": "blue"}, "color: extra inputs are not permitted"),
    ],
)
def test_open_run_of_another_version_raises(copy: Path, name: str, values: dict[str, Any], message: str) -> None:
    changed(copy, name, **values)
    with pytest.raises(ModelFileError, match=f"{name} cannot be read by this version: {message}; use the version that"):
        open_run(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format": 1}', b"null"])
def test_open_run_invalid_manifest_raises_in_one_line(copy: Path, content: bytes) -> None:
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=f"^{copy}/manifest.json cannot be read by this version: [^\n]+$"):
        open_run(copy)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "nowhere",
            "^expected a run folder, but .*nowhere does not exist: use the folder that 'convscope train' printed",
        ),
        ("model.onnx", "^expected a run folder, but .*model.onnx is a file"),
        (
            "plots",
            "^.*plots/manifest.json is missing: its training did not finish, or it is not a run folder: continue with "
            "convscope train --resume .*plots, or train again$",
        ),
    ],
)
def test_open_run_other_path_raises(copy: Path, place: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        open_run(copy / place)


def test_open_run_ignores_files_that_are_not_in_the_manifest(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    assert open_run(str(copy)).path == copy


def test_run_model_with_weights_of_another_network_raises(digits_run: Run) -> None:
    for line in ("conv 16 3, relu, flatten", "conv 16 5 pad same, relu, maxpool 2, flatten"):
        config = RunConfig.model_validate({**digits_run.config.model_dump(), "architecture": line})
        other = Run(digits_run.path, config, digits_run.manifest)
        with pytest.raises(ModelFileError, match=f"best.safetensors does not fit '{line}': train again$"):
            other.model()


def test_records_are_frozen(digits_run: Run) -> None:
    for record, name in ((digits_run.config, "seed"), (digits_run.manifest, "signal")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, name, 1)


# Opening


def test_open_run_equals_the_run_that_was_written(digits_run: Run) -> None:
    opened = open_run(digits_run.path)
    assert (opened.config, opened.manifest) == (digits_run.config, digits_run.manifest)
    assert opened.evaluation is not None
    assert opened.evaluation.n == 359
    assert opened.summary() == digits_run.summary()
    assert RunSummary.model_validate_json(opened.summary().model_dump_json()) == opened.summary()
    model, original = opened.model().state_dict(), build_model(opened.network, seed=1).state_dict()
    assert model.keys() == original.keys()


def test_run_repr_shows_model_data_and_accuracy(digits_run: Run, copy: Path) -> None:
    assert digits_run.evaluation is not None
    accuracy = f"{100 * digits_run.evaluation.accuracy:.2f} % (95 % interval "
    assert repr(digits_run).startswith(f"Run('{digits_run.path}': small on digits, test accuracy {accuracy}")
    page = open_run(copy.rename(copy.parent / "<b>"))._repr_html_()
    assert f"{copy.parent}/&lt;b&gt;" in page
    assert accuracy in page
    assert "default, 3 epochs, seed 0" in page


# Writing


def test_run_writer_folder_with_files_raises(digits_run: Run, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for place in (tmp_path / "full", tmp_path / "full" / "mine.txt"):
        with pytest.raises(UsageError, match=f"^{place} exists already: choose another --run, or move it away$"):
            RunWriter(place, digits_run.config)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_run_writer_accepts_a_new_and_an_empty_folder(digits_run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "new" / "deep"):
        writer = RunWriter(place, digits_run.config)
        for name in ("best.safetensors", "last.safetensors", "metrics.jsonl", "model.onnx", TRAINING_IMAGES_FILE):
            writer.write(name, (digits_run.path / name).read_bytes())
        writer.finish(signal=0, selected_epoch=1, train_seconds=2.5)
        assert open_run(place).manifest.status == "interrupted"  # there is no evaluation
        assert open_run(place).evaluation is None


def test_next_run_folder_has_the_first_free_number(tmp_path: Path) -> None:
    assert next_run_folder(tmp_path / "runs", "digits", "small") == tmp_path / "runs" / "digits-small-1"
    for number in (1, 2, 4):
        (tmp_path / "runs" / f"digits-small-{number}").mkdir(parents=True)
    assert next_run_folder(tmp_path / "runs", "digits", "small").name == "digits-small-3"
    assert next_run_folder(tmp_path / "runs", "digits", "tiny").name == "digits-tiny-1"


@pytest.mark.parametrize(
    ("training_data", "kind"), [(None, "activations"), ("photos", "activations"), ("ImageNet-1k", "features")]
)
def test_model_metadata_only_backbones_trained_on_imagenet_have_a_score_of_features(
    digits_run: Run, training_data: str | None, kind: str
) -> None:
    init = init_info(training_data=training_data) if training_data else None
    config = digits_run.config.model_copy(update={"init": init})
    assert config.model_metadata().rejection.ood_statistics == kind
