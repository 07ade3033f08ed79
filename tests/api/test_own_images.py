"""A user's own folder of images on the command line: checked, trained, reported, evaluated, resumed."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from cases.bad_inputs import idx
from convscope import Predictor, evaluate_run, open_run, resume_run
from convscope._reporting import SilentReporter
from convscope.api.train import run_plan
from convscope.api.training.hooks import Hooks
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.data.load import load_data
from convscope.data.options import LoadOptions
from convscope.errors import DataError
from convscope.images.fit import Fit
from convscope.images.read import read_image
from convscope.images.resize import resize
from convscope.training.recipes import recipe_named
from helpers.callbacks import Interrupt
from helpers.command import Command
from helpers.images import Pixels, animals, noise, write_images
from helpers.reporting import FailingReporter, RecordingReporter

pytestmark = pytest.mark.slow

QUICK = ("--model", "flatten", "--epochs", "1", "--threads", "1")


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image folder that has several issues."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)
    messy: dict[str, Pixels | bytes] = {
        "cat/both.png": noise(5007),
        "dog/both.png": noise(5007),
        "dog/again.png": noise(1000),
        "dog/<b>&.png": noise(5008, 12, 50),
        "cat/notes.txt": b"words",
        ".DS_Store": b"x",
    }
    write_images(tmp_path / "pets", animals(24) | messy)
    return tmp_path


def test_check_prints_one_page_and_writes_nothing(command: Command, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    answer = command("data", "check", "pets")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out.splitlines() == [
        "pets: 53 files in 2 classes, 49 used",
        "",
        "class  files  used",
        "cat       26    24",
        "dog       27    25",
        "",
        "warning: 1 image in two classes: cat and dog; excluded from both",
        "    delete the wrong files to use the right ones",
        "    cat/both.png = dog/both.png",
        "warning: 1 file cannot be read: not an image, expected PNG, JPEG, BMP, GIF, TIFF, WebP, PGM or PPM; convert "
        "it to one of these; excluded",
        "    cat/notes.txt",
        "note: 1 image with duplicate files; one file of each is used",
        "note: 2 sizes, from 12x12 to 50x12, median 12x12; all resized to 16x16 (letterbox)",
        "note: 1 image with an aspect ratio above 3; mostly padding for the network",
        "",
        "network input: 16x16 color, letterbox, mixed background",
        "splits: 39 train, 10 test",
        "next: convscope train pets",
    ]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.usefixtures("folder")
def test_check_json_lists_every_file(command: Command) -> None:
    answer = command("data", "check", "pets", "--json", "--image-size", "16", "--fit", "crop", "--channels", "1")
    found = json.loads(answer.out)
    assert found["classes"] == [{"name": "cat", "files": 26, "used": 24}, {"name": "dog", "files": 27, "used": 25}]
    assert found["input"] == "16x16 gray, crop, mixed background"
    assert found["splits"] == {"train": 39, "test": 10}
    assert found["problem"] is None
    kinds = {issue["kind"]: issue for issue in found["issues"]}
    assert kinds["conflicting-labels"]["files"] == [["cat/both.png", "dog/both.png"]]
    assert kinds["aspect-ratio"]["files"] == [["dog/<b>&.png"]]
    assert kinds["aspect-ratio"]["action"] == "cropped to the center"


def test_check_of_untrainable_data_prints_it_and_fails(command: Command, folder: Path) -> None:
    write_images(folder / "pets", {"owl/1.png": noise(5009)})
    answer = command("data", "check", "pets")
    assert answer.code == 3
    assert answer.err == (
        "convscope: pets: too few images in owl (1): expected 5 or more usable images per class, to train, validate "
        "and test on; add images or remove the class\n"
    )
    assert "owl        1     1" in answer.out.splitlines()


def test_check_shortens_long_lists_and_refers_to_json(command: Command, folder: Path) -> None:
    write_images(folder / "pets", {f"cat/{i}.txt": b"x" for i in range(7)})
    lines = command("data", "check", "pets").out.splitlines()
    assert "    and 3 more: convscope data check PATH --json" in lines


def test_train_on_image_folder_reports_its_issues(command: Command, folder: Path) -> None:
    answer = command("train", "pets", *QUICK, "--run", "run", "--image-size", "16", "--fit", "crop")
    assert answer.code == 0
    lines = answer.err.splitlines()
    assert lines[0] == "warning: 1 image in two classes: cat and dog; excluded from both"
    assert "pets: 35 training, 4 validation, 10 test images, 16x16x3, 2 classes" in lines
    run = open_run("run")
    assert run.config.dataset.source.endswith(
        "pets; crop to 16x16; 4 of 53 files excluded; test split: a fixed, stratified 20 %"
    )
    assert run.config.preprocessing.fit == "crop"
    assert run.config.preprocessing.fill == (127, 127, 127)
    page = (folder / "run" / "report.html").read_text()
    assert "What is in the data?" in page
    assert "<strong>warning</strong>: 1 image in two classes: cat and dog; excluded from both" in page
    assert "Nine training images, as the network sees them" in page
    assert sorted(path.name for path in (folder / "run" / "plots").glob("issue-*")) == [
        "issue-conflicting-labels.png",
        "issue-unreadable.png",
    ]


def test_predictor_preprocesses_a_file_as_training_did(command: Command, folder: Path) -> None:
    command("train", "pets", *QUICK, "--run", "run", "--image-size", "16")
    run, predictor = open_run("run"), Predictor("run")
    answer = json.loads(command("evaluate", "run", "--json").out)
    written = json.loads((folder / "run" / "evaluation.json").read_text())
    assert (answer["n"], answer["confusion"]) == (written["n"], written["confusion"])
    image = read_image(folder / "pets" / "cat" / "3.png")
    transformed, _ = run.config.preprocessing.transform(image)
    assert transformed.shape == (16, 16, 3)
    assert predictor.predict(folder / "pets" / "cat" / "3.png")[0].probabilities


def test_train_stretched_images_predict_evaluate_and_verify_agree(command: Command, folder: Path) -> None:
    images = {name: noise(i, 12 + i % 5, 31) for i, name in enumerate(animals(20))}
    write_images(folder / "wide", images)
    answer = command("train", "wide", *QUICK, "--run", "run", "--image-size", "16", "--fit", "stretch")
    assert answer.code == 0
    run, predictor = open_run("run"), Predictor("run")
    assert run.config.preprocessing.fit == "stretch"
    paths = [folder / "wide" / name for name in images]
    pixels = np.stack([resize(image, 16, 16) for image in images.values()])
    probabilities = predictor.predict_proba(pixels)
    for path, expected, prediction in zip(paths, probabilities, predictor.predict(paths), strict=True):
        assert prediction.label == run.config.classes[int(expected.argmax())], path
        assert prediction.probability == pytest.approx(expected.max(), abs=1e-6)
    evaluated = json.loads(command("evaluate", "run", "--json").out)
    assert evaluated["confusion"] == json.loads((folder / "run" / "evaluation.json").read_text())["confusion"]
    verified = command("verify", "run", "--images", "wide")
    assert verified.code == 0
    assert "BROKEN" not in verified.out
    assert "PyTorch / HTTP" in " ".join(verified.out.split())


@pytest.mark.parametrize(("fit", "framed"), [(None, True), ("crop", True), ("stretch", False)])
def test_make_plan_stretched_images_share_no_frame(folder: Path, fit: Fit | None, framed: bool) -> None:
    images: dict[str, Pixels | bytes] = {}
    for i in range(60):
        image = np.zeros((28, 28, 1), np.uint8)
        image[4:24, 12:16] = noise(i, 20, 4, 1) // 2 + 120
        images[f"{'ab'[i % 2]}/{i}.png"] = image
    options = TrainOptions(model="flatten", fit=fit)
    dataset, origin = options.load_data(write_images(folder / "digits", images), SilentReporter())
    preprocessing = make_plan(dataset, options, origin).config.preprocessing
    assert preprocessing.fit == (fit or "letterbox")
    assert (preprocessing.frame is not None) == framed


def test_evaluate_run_on_another_folder_resizes_its_images(command: Command, folder: Path) -> None:
    command("train", "pets", *QUICK, "--run", "run", "--image-size", "16", "--fit", "crop")
    write_images(
        folder / "others",
        {name: np.repeat(some, 3, 0) for name, some in animals(10, 500).items() if not isinstance(some, bytes)},
    )
    reporter = RecordingReporter()
    evaluation = evaluate_run(open_run("run"), str(folder / "others"), reporter)
    assert (evaluation.n, evaluation.measured) == (20, f"all 20 images of {folder}/others")
    (message,) = reporter.messages
    assert message.startswith("these images differ from the training images: blurred (")


@pytest.mark.parametrize(
    ("names", "table", "measured"),
    [
        ("test/{}", "", "all 6 images of new"),
        ("new/Test Set/{}", "", "all 6 images of new"),
        ("fold1/{0}", "", "all 6 images of new"),
        ("train/{0} test/{0}", "", "the test split of new: 6 of 12 images"),
        ("valid/{0} train/{0}", "", "the validation split of new: 6 of 12 images"),
        ("{}", "test", "the test split of new/new.csv: 6 images"),
        ("{}", "train", "all 6 images of new/new.csv"),
    ],
)
def test_evaluate_run_measures_all_it_is_given(
    command: Command, folder: Path, names: str, table: str, measured: str
) -> None:
    command("train", "pets", *QUICK, "--run", "run", "--image-size", "16")
    for k, pattern in enumerate(names.split(" ") if "Set" not in names else [names]):
        write_images(folder / "new", {pattern.format(name): some for name, some in animals(3, 700 + 50 * k).items()})
    rows = "".join(f"{name},{name[:3]},{table}\n" for name in animals(3))
    (folder / "new" / "new.csv").write_text(f"file,label,split\n{rows}")
    evaluation = evaluate_run(open_run("run"), "new/new.csv" if table else "new", FailingReporter())
    assert (evaluation.n, evaluation.measured) == (6, measured)


@pytest.mark.parametrize("kind", ["idx", "npz"])
def test_evaluate_run_numbers_without_names_are_its_classes_in_order(command: Command, folder: Path, kind: str) -> None:
    assert command("train", "pets", *QUICK, "--run", "run").code == 0
    dogs_first = [str(name) for name in animals(6, 900)][::-1]
    write_images(folder / "new", animals(6, 900))
    images = np.stack([read_image(folder / "new" / name).pixels for name in dogs_first])
    labels = np.array([int(name.startswith("dog")) for name in dogs_first], np.uint8)
    if kind == "idx":
        (folder / "t10k-images-idx4-ubyte").write_bytes(idx(images))
        (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
        path = "t10k-images-idx4-ubyte"
    else:
        path = "new.npz"
        np.savez(path, x_test=images, y_test=labels)
    reporter = RecordingReporter()
    found = evaluate_run(open_run("run"), path, reporter)
    assert reporter.messages[0] == (
        f"the labels of {path} are numbers: they stand for the network's classes in order, 0 = cat, 1 = dog"
    )
    np.testing.assert_array_equal(found.confusion, evaluate_run(open_run("run"), "new", SilentReporter()).confusion)


@pytest.mark.usefixtures("folder")
def test_evaluate_run_numbers_of_more_classes_raise(command: Command) -> None:
    assert command("train", "pets", *QUICK, "--run", "run").code == 0
    np.savez("new.npz", x_test=np.zeros((3, 8, 8, 3), np.uint8), y_test=np.array([0, 1, 2]))
    with pytest.raises(DataError, match=r"new.npz has classes that the network was not trained on: 0, 1, 2; choose"):
        evaluate_run(open_run("run"), "new.npz", SilentReporter())


@pytest.mark.parametrize("place", ["pets", "./pets", "copy"])
def test_evaluate_run_on_its_own_data_measures_what_training_held_out(
    command: Command, folder: Path, place: str
) -> None:
    command("train", "pets", *QUICK, "--run", "run", "--image-size", "16")
    shutil.copytree(folder / "pets", folder / "copy")
    evaluation = evaluate_run(open_run("run"), place, SilentReporter())
    assert evaluation.n == open_run("run").config.dataset.test_images
    assert evaluation.measured.endswith("of 49 images; the network was trained on the others")
    assert evaluation.measured.startswith("the test split of ")


def test_train_class_without_test_images_warns_and_scores_nothing(command: Command, folder: Path) -> None:
    shutil.copytree(folder / "pets", folder / "more")
    same = noise(900, 16, 16)
    frames = {f"owl/{i}.png": np.where(np.arange(256).reshape(16, 16, 1) == i, same ^ 16, same) for i in range(24)}
    write_images(folder / "more", frames)
    answer = command("train", "more", *QUICK, "--run", "run")
    assert "warning: 1 class without a test image: owl; not part of the test accuracy" in answer.err.splitlines()
    assert "warning: 1 class without a validation image: owl; not part of the validation accuracy" in answer.err
    shown = command("evaluate", "run").out
    assert re.search("^owl +- +- +- +0$", shown, re.M)
    assert "warning: no image of owl: how well the network recognizes that was not measured" in shown
    scores = json.loads(command("evaluate", "run", "--json").out)["per_class"]
    assert scores[2] == {"name": "owl", "precision": None, "recall": None, "f1": None, "support": 0}


def test_train_with_image_size_and_budget_keeps_the_size(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same decoded images serve trainings with and without a budget."""
    monkeypatch.setattr("convscope._hardware.process_start", time.monotonic)
    arguments = (
        "--model",
        "flatten",
        "--threads",
        "1",
        "--image-size",
        "8",
        "--budget",
        "30s",
        "--target-accuracy",
        "0.01",
    )
    assert command("train", "pets", *arguments, "--run", "run").code == 0
    config = open_run(folder / "run").config
    assert config.budget == 30
    assert config.input_shape == (8, 8, 3)
    assert config.dataset.load_options == LoadOptions(image_size=8)


@pytest.mark.parametrize(
    ("side", "size", "reason"),
    [
        (12, None, None),
        (64, None, None),
        (64, 16, "inputs below 48 pixels have a recipe of their own, with the network airbench"),
        (
            64,
            64,
            "the input size was chosen, so training uses more of it than by default: images begin at 62.5 % of it",
        ),
    ],
)
def test_make_plan_image_size_that_changes_the_recipe_is_a_reason(
    folder: Path, side: int, size: int | None, reason: str | None
) -> None:
    images = {f"{name}/{i}.png": noise(100 * k + i, side, side) for k, name in enumerate("ab") for i in range(10)}
    model = "conv 2 3, globalavg" if side == 64 and size == 64 else None
    options = TrainOptions(model=model, recipe="default", epochs=1, threads=1, image_size=size, batch_size=4)
    dataset, origin = options.load_data(write_images(folder / "squares", images), SilentReporter())
    assert make_plan(dataset, options, origin).config.reasons.get("image_size") == reason


def test_train_on_table_of_files_uses_its_splits(command: Command, folder: Path) -> None:
    rows = [f"pets/{name},{name[:3]},{'test' if i % 4 == 0 else 'train'}" for i, name in enumerate(animals(24))]
    (folder / "pets.csv").write_text("\n".join(["file,label,split", *rows]))
    answer = command("train", "pets.csv", *QUICK, "--run", "run")
    assert answer.code == 0
    assert "pets: 32 training, 4 validation, 12 test images, 12x12x3, 2 classes" in answer.err.splitlines()


def test_evaluate_after_folder_changed_reports_it(command: Command, folder: Path) -> None:
    command("train", "pets", *QUICK, "--run", "run")
    write_images(folder / "pets", {"cat/new.png": noise(5077)})
    answer = command("evaluate", "run")
    assert answer.code == 0
    assert re.search("pets has changed since run was trained on it$", answer.err, re.M)
    assert "measured on the 13 images that training did not use, of " in answer.out


def test_evaluate_after_gray_folder_changed_measures_unused_images_only(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read as in training, which saw them with their surroundings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:40, :40] - 19.5
    texture = np.random.default_rng(0).integers(120, 256, (60, 8, 8, 1), np.uint8).repeat(5, 1).repeat(5, 2)
    drawings: dict[str, Pixels] = {
        f"{name}/{i}.png": image * (abs(x) ** power + abs(y) ** power < 19**power)[..., None]
        for name, power, images in (("round", 2, texture[:30]), ("pointed", 1, texture[30:]))
        for i, image in enumerate(images)
    }
    write_images(tmp_path / "shapes", drawings)
    assert command("train", "shapes", *QUICK, "--image-size", "24", "--run", "run").code == 0
    run = open_run("run")
    assert run.config.preprocessing.background is None
    write_images(tmp_path / "shapes", {"round/new.png": drawings["round/0.png"][::-1].transpose(1, 0, 2)})
    evaluation = evaluate_run(run, reporter=SilentReporter())
    assert evaluation.n == 61 - run.config.dataset.train_images - run.config.dataset.validation_images


@pytest.mark.usefixtures("interruptible")
def test_resume_run_on_image_folder_is_bit_identical(command: Command, folder: Path) -> None:
    arguments = ("--image-size", "16", "--group-by", r"^(\d+)", "--threads", "1", "--epochs", "3", "--batch-size", "8")
    command("train", "pets", "--model", "flatten", *arguments, "--run", "whole")
    recipe = recipe_named("default", "small images").override(epochs=3, batch_size=8)
    options = TrainOptions(model="flatten", recipe=recipe, threads=1, run=folder / "stopped")
    data = load_data("pets", LoadOptions(image_size=16, group_by=r"^(\d+)"))
    stopped = run_plan(make_plan(data, options, "pets"), options, Hooks(callbacks=[Interrupt(7)]))
    assert stopped.manifest.status == "interrupted"
    reporter = RecordingReporter()
    done = resume_run("stopped", reporter=reporter)
    assert reporter.messages == ["resuming after step 7 of 15, in epoch 2"]
    weights = [Path(name, "last.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    assert done.manifest.status == "complete"
