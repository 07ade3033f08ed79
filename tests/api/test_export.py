"""`export_model` and `verify_model` on a trained run, with real faults."""

from __future__ import annotations

import shutil
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope import Predictor, export_model, verify_model
from convscope.backends.onnx.export import to_onnx
from convscope.backends.onnx.metadata import DIGEST_KEY, TemperatureScaling
from convscope.backends.onnx.read import read_model_file
from convscope.deploy import quantization
from convscope.errors import DataError, GateError, UsageError
from convscope.evaluation.calibration import find_min_probability
from convscope.evaluation.ood import conformal_limit
from convscope.images.read import encode_png
from convscope.network.build import parse_network
from convscope.training.resolve import train_val_split
from helpers.command import Command


def test_export_float32_is_the_model_file_of_the_run(digits_run: convscope.Run, tmp_path: Path) -> None:
    exported = export_model(digits_run, out=tmp_path / "new" / "m.onnx")
    assert (tmp_path / "new" / "m.onnx").read_bytes() == digits_run.model_file.read_bytes()
    assert (exported.model, exported.precision) == (tmp_path / "new" / "m.onnx", "float32")
    pairs = [(one.first, one.second, one.images) for one in exported.verification.comparisons]
    assert pairs == [("stored answers", "PyTorch", 4), ("stored answers", "ONNX Runtime", 4)]


def test_export_int8_is_smaller_and_answers_alike(digits_run: convscope.Run, tmp_path: Path) -> None:
    exported = export_model(digits_run, out=tmp_path / "m.onnx", int8=True)
    images = convscope.load_data("digits").test.images
    before, after = (Predictor(path).predict_proba(images).argmax(1) for path in (digits_run.path, exported.model))
    assert (before == after).mean() >= 0.99
    assert exported.bytes < 0.65 * digits_run.model_file.stat().st_size
    assert exported.quantization is not None
    assert exported.quantization.images == digits_run.config.dataset.validation_images
    assert exported.quantization.passed
    golden = Predictor(exported.model).metadata.golden
    assert [one.file for one in golden] == [one.file for one in Predictor(digits_run.path).metadata.golden]
    assert verify_model(exported.model).passed


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "most"), [("tiny", 16_000), ("article", 600_000)])
def test_export_int8_of_mnist_is_small(
    preset: str, most: int, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    mnist = convscope.load_data("mnist")
    some, test = mnist.train.subsample(6000), mnist.test.subsample(500)
    with (tmp_path / "mnist.npz").open("wb") as file:
        np.savez(file, x_train=some.images, y_train=some.labels, x_test=test.images, y_test=test.labels)
    run = convscope.train_model(tmp_path / "mnist.npz", model=preset, recipe="fast", epochs=2, run=tmp_path / "run")
    exported = export_model(run, out=tmp_path / "m.onnx", int8=True)
    assert exported.bytes < most
    assert Predictor(exported.model).has_ood_score
    model = read_model_file(exported.model)  # with everything that only some files have
    more = {"calibration": TemperatureScaling(temperature=0.123456, exponent=1.23456),
            "rejection": model.metadata.rejection.model_copy(update={"min_probability": 0.123456})}  # fmt: skip
    network = parse_network(model.metadata.architecture, model.metadata.input_shape, 10)
    assert len(to_onnx(network, model.constants, model.metadata.model_copy(update=more))) < most


def test_export_int8_has_limits_of_its_own_answers(tmp_path: Path) -> None:
    """With weights of a few bits its scores and probabilities are others."""
    run = convscope.train_model("digits", recipe="fast", max_error=0.2, threads=1, run=tmp_path / "run")
    exported = export_model(run, out=tmp_path / "m.onnx", int8=True)
    _, held_out = train_val_split(convscope.load_data("digits"), run.config.recipe, run.config.seed)
    int8, float32 = Predictor(exported.model), Predictor(run.model_file)
    limits = int8.metadata.rejection
    assert limits.max_ood_score == conformal_limit(int8.ood_scores(held_out.images))
    assert limits.max_ood_score != float32.metadata.rejection.max_ood_score
    probabilities = int8.predict_proba(held_out.images).astype(float)
    assert limits.min_probability == find_min_probability(probabilities, held_out.labels, 0.2)


def test_verify_int8_of_another_network_or_in_float32_is_refused(
    digits_run: convscope.Run, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "MAX_CHANGED", 1)
    other = convscope.train_model("digits", "small", epochs=1, seed=1, threads=1, run=tmp_path / "run")
    export_model(other, out=tmp_path / "m.onnx", int8=True)
    for path, problem in (("m.onnx", "m.onnx has another "), ("run/model.onnx", "in float32")):
        answer = command("verify", digits_run.path, "--int8", tmp_path / path, "--no-http")
        assert (answer.code, answer.err.count("\n")) == (4, 1)
        assert problem in answer.err


def test_export_int8_that_changes_answers_raises_and_leaves_nothing(
    digits_run: convscope.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convscope.backends.onnx.quantize.MAX_WEIGHT", 1)  # weights of -1, 0 and 1
    with pytest.raises(GateError, match=r"^int8 changes [\d,]+ of 1\d\d answers .* nothing was written; ") as caught:
        export_model(digits_run, out=tmp_path / "m.onnx", int8=True)
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []
    best = export_model(digits_run, out=tmp_path / "m.onnx", best=True)
    assert best.precision == "float32"


@pytest.mark.parametrize("faster", [True, False])
def test_export_best_keeps_the_faster_file(
    faster: bool, digits_run: convscope.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "_timed", lambda *_: [2.0, 1.0] if faster else [1.0, 2.0])
    exported = export_model(digits_run, out=tmp_path / "m.onnx", best=True)
    assert exported.precision == ("int8" if faster else "float32")


def test_export_own_golden_images_get_the_answers_of_the_network(digits_run: convscope.Run, tmp_path: Path) -> None:
    folder = tmp_path / "images" / "below"
    folder.mkdir(parents=True)
    digit = convscope.load_data("digits").test.image(5)
    (folder / "five.png").write_bytes(encode_png(digit))
    exported = export_model(digits_run, out=tmp_path / "m.onnx", golden=tmp_path / "images")
    (golden,) = Predictor(exported.model).metadata.golden
    assert (golden.name, golden.file) == ("below/five.png", encode_png(digit))
    assert golden.probabilities == pytest.approx(Predictor(digits_run.path).predict_proba(digit[None])[0], abs=1e-5)


def test_export_golden_file_that_is_no_image_raises_its_name(digits_run: convscope.Run, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "five.png").write_bytes(b"five")
    with pytest.raises(DataError, match=r"five\.png: not an image"):
        export_model(digits_run, out=tmp_path / "m.onnx", golden=tmp_path / "images")
    assert not (tmp_path / "m.onnx").exists()


def test_export_existing_file_is_kept_without_force(digits_run: convscope.Run, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists and has another content"):
        export_model(digits_run, out=tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == b"mine"
    export_model(digits_run, out=tmp_path / "m.onnx", force=True)
    assert (tmp_path / "m.onnx").read_bytes() == digits_run.model_file.read_bytes()


def test_export_hub_folder_has_model_card_and_attributes(digits_run: convscope.Run, tmp_path: Path) -> None:
    exported = export_model(digits_run, out=tmp_path / "hub", to="hub-folder")
    assert sorted(path.name for path in (tmp_path / "hub").iterdir()) == [".gitattributes", "README.md", "model.onnx"]
    assert exported.model == tmp_path / "hub" / "model.onnx"
    assert (tmp_path / "hub" / "README.md").read_bytes() == (digits_run.path / "README.md").read_bytes()


def test_export_web_is_one_page_with_the_model_inside(digits_run: convscope.Run, tmp_path: Path) -> None:
    exported = export_model(digits_run, out=tmp_path / "lab.html", to="web")
    page = (tmp_path / "lab.html").read_text("utf-8")
    assert (exported.model, exported.bytes) == (tmp_path / "lab.html", len(page.encode()))
    assert exported.precision == "float32"
    assert b64encode(digits_run.model_file.read_bytes()).decode() in page
    assert [path.name for path in tmp_path.iterdir()] == ["lab.html"]


def test_export_hub_folder_of_a_run_without_model_card_raises(digits_run: convscope.Run, tmp_path: Path) -> None:
    run = shutil.copytree(digits_run.path, tmp_path / "run")
    (run / "README.md").unlink()
    with pytest.raises(UsageError, match=r"README\.md is missing, which a hub shows: finish the training, or export a"):
        export_model(run, out=tmp_path / "hub", to="hub-folder")
    assert not (tmp_path / "hub").exists()


def test_export_int8_of_data_in_memory_raises(stripes: convscope.Dataset, tmp_path: Path) -> None:
    run = convscope.train_model(stripes, "flatten", epochs=1, threads=1, run=tmp_path / "run")
    with pytest.raises(UsageError, match=r"int8 is calibrated on training images, but .* data in memory"):
        export_model(run, out=tmp_path / "m.onnx", int8=True)


def with_other_answers(run: convscope.Run, path: Path) -> Path:
    """The model file of a run with wrong answers to its golden inputs."""
    file = read_model_file(run.model_file)
    golden = [
        one.model_copy(update={"probabilities": tuple(np.roll(one.probabilities, 1))}) for one in file.metadata.golden
    ]
    path.write_bytes(to_onnx(run.network, file.constants, file.metadata.model_copy(update={"golden": tuple(golden)})))
    return path


def test_verify_command_wrong_answers_exit_5(digits_run: convscope.Run, tmp_path: Path, command: Command) -> None:
    answer = command("verify", with_other_answers(digits_run, tmp_path / "m.onnx"), "--no-http")
    assert answer.code == 5
    assert "stored answers / ONNX Runtime  golden       4" in answer.out
    assert "1e-04 BROKEN" in answer.out


@pytest.mark.slow
def test_verify_run_through_every_runtime_agrees(digits_run: convscope.Run, tmp_path: Path, command: Command) -> None:
    export_model(digits_run, out=tmp_path / "int8.onnx", int8=True)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(convscope.load_data("digits").test.images[:20]):
        (tmp_path / "images" / f"{i}.png").write_bytes(encode_png(image.repeat(3, axis=0).repeat(2, axis=1)))
    shutil.copy(__file__, tmp_path / "images" / "broken.png")
    answer = command("verify", digits_run.path, "--images", tmp_path / "images", "--int8", tmp_path / "int8.onnx")
    assert answer.code == 0
    assert "broken.png: not an image" in answer.err
    rows = [" ".join(line.split()) for line in answer.out.splitlines()]
    for name in (
        "PyTorch / ONNX Runtime images 20",
        "PyTorch / HTTP images 20",
        "PyTorch / ONNX Runtime int8 images 20",
    ):
        assert sum(row.startswith(name) for row in rows) == 1
    assert rows[-1] == "left out: 1 image that cannot be read"


def test_digest_key_is_the_last_entry_of_an_exported_file(digits_run: convscope.Run, tmp_path: Path) -> None:
    export_model(digits_run, out=tmp_path / "m.onnx", int8=True)
    assert DIGEST_KEY.encode() in (tmp_path / "m.onnx").read_bytes()[-86:]
