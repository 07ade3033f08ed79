"""The command line: exit codes, what goes to stdout and what to stderr, JSON for machines, signals, help."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases.bad_commands import write_world
from convscope import Predictor, Run, load_data, open_run
from convscope._hardware import usable_cores
from convscope.backends.native import backend
from convscope.cli.main import COMMANDS, load_command
from convscope.data import named
from convscope.errors import DataError, ModelFileError
from convscope.images.read import encode_png
from convscope.training.recipes import RECIPES, VARIANTS
from helpers.command import Command
from helpers.images import animals, write_images

SCRIPT = Path(sys.executable).with_name("convscope")
pytestmark = pytest.mark.usefixtures("interruptible")
QUICK = ("--model", "flatten", "--epochs", "1", "--threads", "1")  # the least that makes a whole run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an untrained run in `run`, the pictures of `bad_commands`, and a seven in 28x28."""
    monkeypatch.chdir(tmp_path)
    write_world(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_images(tmp_path / "pets", animals() | {"cat/x.txt": b"x"})
    seven = load_data("digits").test.images[7]
    (tmp_path / "big.png").write_bytes(encode_png(seven.repeat(4, axis=0).repeat(3, axis=1)))
    return tmp_path


def started(folder: Path, *words: str, program: Sequence[str | Path] = (SCRIPT,)) -> subprocess.Popen[str]:
    """The installed command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment
    )


def wait_for(process: subprocess.Popen[str], there: Callable[[], bool]) -> None:
    """Until something is there, or fail after a minute, or when the process has ended."""
    for _ in range(6000):
        if there():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    pytest.fail("it never came")


# Training


def test_a14_train_prints_accuracy_with_interval_and_n_and_where_the_report_is(command: Command, folder: Path) -> None:
    answer = command("train", "digits", *QUICK, "--batch-size", "100", "--learning-rate", "0.05", "--seed", "7")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert re.fullmatch(r"test accuracy  [\d.]+ % \(95 % interval [\d.]+ to [\d.]+, n = 359\)", lines[0])
    assert [line.split()[:2] for line in lines[3:]] == [
        ["run", "runs/digits-custom-1"],
        ["report", "runs/digits-custom-1/report.html"],
        ["next", "convscope"],
    ]
    assert answer.err.splitlines()[:3] == [
        "digits: 1,293 training, 145 validation, 359 test images, 8x8x1, 10 classes",
        "custom: 650 parameters, 640 multiply-adds per image",
        f"recipe default: 1 epoch, batch size 100, seed 7, on 1 of {usable_cores()} cores",
    ]
    assert re.search(
        r"^epoch 1/1  loss [\d.]+  accuracy [\d.]+ %  validation [\d.]+ %  [\d,]+ images/s  0.0 s left$",
        answer.err,
        re.M,
    )
    run = open_run(folder / "runs" / "digits-custom-1")
    evaluation, recipe = run.evaluation, run.config.recipe
    assert evaluation is not None
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.learning_rate) == (1, 100, 0.05)
    assert f" {100 * evaluation.accuracy:.2f} % " in lines[0]
    assert Path("runs/digits-custom-1/report.html").is_file()


@pytest.mark.parametrize("channels", [1, 3])
def test_train_takes_the_recipe_for_the_images_that_it_finds(command: Command, folder: Path, channels: int) -> None:
    """And tells of test-time augmentation where that recipe measures with it."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, channels), np.uint8)
    np.savez(folder / "set.npz", x_train=images, y_train=np.arange(60) % 2, x_test=images, y_test=np.arange(60) % 2)
    answer = command("train", "set.npz", *QUICK, "--recipe", "best", "--batch-size", "7", "--run", "colored")
    assert answer.code == 0
    recipe, evaluation = open_run(folder / "colored").config.recipe, open_run(folder / "colored").evaluation
    expected = VARIANTS["color"]["best"] if channels == 3 else RECIPES["best"]
    assert (recipe.name, recipe.optimizer.momentum) == (expected.name, expected.optimizer.momentum)
    assert (recipe.epochs, recipe.batch_size, recipe.min_steps) == (1, 7, 0)
    assert evaluation is not None
    assert (evaluation.tta is not None) is expected.tta
    assert answer.out.count("with test-time augmentation") == expected.tta


@pytest.mark.usefixtures("folder")
def test_without_a_name_and_without_mnist_digits_are_taken_and_that_is_said(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: object) -> dict[str, bytes]:
        raise DataError("no mirror delivered it")

    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(named, "fetch", unreachable)
    answer = command("train", "--json", *QUICK)
    first, second = answer.err.splitlines()[:2]
    assert first == "No data set given, and MNIST cannot be loaded (`convscope data show mnist` says why): using digits"
    assert second.startswith("digits: 1,293 training")
    assert json.loads(answer.out)["config"]["dataset"]["path"] == "digits"
    assert command("evaluate", "runs/digits-custom-1", "--json").code == 0


@pytest.mark.parametrize(
    ("place", "code", "message"),
    [
        ("full", 2, "^convscope: full exists already: choose another --run, or move it away$"),
        ("full/mine.txt", 2, "^convscope: full/mine.txt exists already"),
        ("full/mine.txt/run", 1, "^convscope: cannot write full/mine.txt/run/config.json: Not a directory; free some"),
    ],
)
def test_a_place_that_is_taken_or_cannot_be_written_is_left_alone(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    answer = command("train", "digits", *QUICK, "--run", place)
    assert (answer.code, answer.out) == (code, "")
    assert re.search(message, answer.err.splitlines()[-1])
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_another_process_makes_the_same_weights_to_the_bit(digits_run: Run, tmp_path: Path) -> None:
    """What the command trains equals what `train_model` trained in this process."""
    process = started(tmp_path, *shlex.split("train digits --epochs 3 --threads 1 --run again --json"))
    out, err = process.communicate()
    assert process.returncode == 0, err
    for name in ("best.safetensors", "last.safetensors", "model.onnx"):
        assert (tmp_path / "again" / name).read_bytes() == (digits_run.path / name).read_bytes()
    assert json.loads(out) == open_run(tmp_path / "again").to_dict() | {"run": "again"}
    assert "\x1b" not in out + err


# JSON for machines

OPEN = {"probabilities", "top_k", "versions"}  # objects whose keys are data


def schema(value: Any, path: str = "") -> Iterator[str]:
    """Every path of keys, `[]` for the elements of a list."""
    if isinstance(value, dict) and path.split(".")[-1] not in OPEN:
        for key, inner in value.items():
            yield from schema(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from schema(inner, f"{path}[]")
    else:
        yield path


def under(prefix: str, keys: str) -> str:
    return " ".join(f"{prefix}.{key}" for key in keys.split())


EVALUATION = (
    f"n loss accuracy interval[] top_k classes[] confusion[][] tta "
    f"{under('per_class[]', 'name precision recall f1 support')}"
)
MACHINE = "processor cores threads peak_gflops system python versions"
WORK = "parameters multiply_adds activation_bytes"
RECIPE = " ".join(
    (
        "name model epochs min_steps batch_size label_smoothing head_init_scale class_balance tta precision",
        "standardize",
        under("optimizer", "name learning_rate momentum nesterov weight_decay muon_weight_decay sgd_lr norm_bias_lr"),
        under("optimizer", "freeze_norm_scale"),
        under("schedule", "name warmup_fraction progressive_resizing"),
        under("augmentation", "max_shift min_crop_area color_jitter horizontal_flip cutmix cutmix_until"),
        under("selection", "weights validation_fraction"),
        under("stopping", "target_accuracy patience"),
    )
)
LIMITS = " ".join(
    (
        under("roofline", "threads rounds peak_gflops last_cache_bytes"),
        under("roofline.kernels[]", "kernel shape precision unit rate limit fraction in_cache"),
        under("roofline.kernels[].milliseconds", "min median max"),
    )
)
STATISTICS = "n min mean std max"
SPLIT = f"{STATISTICS} shape[] {under('classes[]', 'name ' + STATISTICS)}"
SCHEMAS = {
    "train digits --epochs 1 --model flatten": " ".join(
        (
            "run status seconds weights selected_epoch",
            under(
                "config",
                "format task created classes[] model architecture input_shape[] reasons.precision augment metrics "
                "epochs initial_epoch budget time_limit seed precision backend",
            ),
            under(
                "config.dataset", "name path source load_options fingerprint train_images validation_images test_images"
            ),
            under("config.preprocessing", "height width channels fit fill[] polarity scale[] mean[]"),
            under("config.recipe", RECIPE),
            under("config.machine", MACHINE),
            under("history[]", "epoch train_loss train_accuracy validation_loss validation_accuracy learning_rate"),
            under("history[]", "images_per_second seconds"),
            under("test", EVALUATION),
        )
    ),
    "evaluate run": EVALUATION,
    "predict run big.png seven.png": under("predictions[]", "image label notes[] notes probabilities"),
    "explain run big.png --cell conv1,0,0,0": " ".join(
        (
            "image notes[] probabilities folder written[]",
            under("layers[]", "name source output[] min mean max"),
            under("cells[]", "layer index[] rule bias value model_value agrees"),
            under("cells[].terms[]", "source value weight product"),
        )
    ),
    "bench --seconds 1 --threads 1": " ".join(
        (
            "load last_cache_bytes kernels reason images batch_size steps slices slice_ratio busy",
            under("machine", MACHINE),
            under("training[]", "program images_per_second speedup"),
            under("training[].epoch_seconds", "min median max"),
            LIMITS if backend.native is not None else "roofline",
        )
    ),
    "models": under("presets[]", f"name architecture {WORK}"),
    "models flatten --data digits": " ".join(
        (
            "architecture input_shape[] classes",
            under("layers[]", f"name source output_shape[] {WORK}"),
            under("image", WORK),
            under("image_4k", f"input_shape[] {WORK}"),
            under("training", "recipe images epoch_multiply_adds"),
            under("training.time", "epochs epoch_seconds training_seconds probe_seconds"),
            under("training.machine", MACHINE),
        )
    ),
    "filter 11011/10101/11110/00110/11000 --kernel 101/010/110 --cell 0,0": (
        "shape[] notes arithmetic[] written values[][]"
    ),
    "filter big.png --kernel edge": "shape[] notes[] arithmetic written values",
    "data check pets": " ".join(
        (
            "path input splits.train splits.test problem",
            under("classes[]", "name files used"),
            under("issues[]", "kind level text action advice files files[][]"),
        )
    ),
    "data show digits": " ".join(
        (
            "name source fingerprint shape[] classes[] written[]",
            under("splits.train", SPLIT),
            under("splits.test", SPLIT),
            under("image", "index label shape[] pixels[][][] text"),
        )
    ),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", SCHEMAS)
def test_json_is_one_object_with_these_keys(command: Command, words: str) -> None:
    answer = command(*shlex.split(words), "--json")
    assert answer.code == 0

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    values = json.loads(answer.out, parse_constant=refuse)
    assert set(schema(values)) == set(SCHEMAS[words].split())
    assert answer.err == "" or words.startswith("train")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", [words for words in SCHEMAS if not words.startswith("train")])
def test_without_a_terminal_there_are_no_escape_codes_and_no_messages(command: Command, words: str) -> None:
    answer = command(*shlex.split(words))
    assert (answer.code, answer.err) == (0, "")
    assert answer.out
    assert "\x1b" not in answer.out


def test_every_command_has_a_schema() -> None:
    assert {path for path, _ in commands()} == {
        path for path, _ in commands() if any(f"{words} ".startswith(f"{path} ") for words in SCHEMAS)
    }


# Single commands


def test_a_good_picture_is_answered_beside_a_bad_one(command: Command, folder: Path) -> None:
    answer = command("predict", "run", "text.onnx", "big.png", "none.png", "--top", "1")
    assert answer.code == 3
    assert [line.split(":")[:2] for line in answer.err.splitlines()] == [
        ["convscope", " text.onnx"],
        ["convscope", " none.png"],
    ]
    name, done, classes = answer.out.splitlines()
    assert name.startswith("big.png: ")
    assert done.startswith("  resized 24x32 -> 6x8")
    assert re.fullmatch(r"  \d [\d.]+ %", classes)
    assert Predictor(folder / "run").predict("big.png")[0].label == name[-1]


@pytest.mark.usefixtures("folder")
def test_a_model_file_alone_is_enough_to_predict(command: Command) -> None:
    shutil.copy("run/model.onnx", "model.onnx")
    assert command("predict", "model.onnx", "big.png").out == command("predict", "run", "big.png").out != ""


def test_a14_evaluate_prints_what_the_training_measured(command: Command, digits_run: Run) -> None:
    answer = command("evaluate", digits_run.path)
    assert digits_run.evaluation is not None
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"accuracy {100 * digits_run.evaluation.accuracy:.2f} % (95 % interval ")
    assert ", n = 359)\n" in answer.out
    table = answer.out.splitlines()[3:13]
    assert [line.split()[0] for line in table] == list("0123456789")


def test_a3_the_articles_example(command: Command) -> None:
    answer = command("filter", "11011/10101/11110/00110/11000", "--kernel", "101/010/110", "--cell", "0,0")
    assert answer == (
        0,
        "3 5 3\n3 2 5\n4 4 2\n[0,0] = 1*1 + 1*0 + 0*1 + 1*0 + 0*1 + 1*0 + 1*1 + 1*1 + 1*0 = 3\n",
        "",
    )


@pytest.mark.parametrize(("kind", "rows"), [("max", "5 6\n4 5\n"), ("min", "2 1\n1 2\n"), ("average", "3 4\n3 4\n")])
def test_a5_the_articles_pooling(command: Command, kind: str, rows: str) -> None:
    assert command("filter", "3541/2256/4425/1354", "--pool", kind, "2") == (0, rows, "")


def test_a1_a10_data_show_prints_the_numbers_behind_an_image(command: Command, folder: Path) -> None:
    answer = command("data", "show", "digits", "--image", "2", "--out", "drawn")
    assert answer.code == 0
    image = load_data("digits").train.images[2, :, :, 0]
    rows = "\n".join(" ".join(f"{value:3d}" for value in row) for row in image.tolist())
    assert f"as numbers (8x8x1):\n{rows}\n" in answer.out
    assert "digits: 8x8x1 (height, width, channels)" in answer.out
    names = ["digits-first-nine.png", "digits-image-2.png"]
    assert sorted(path.name for path in (folder / "drawn").iterdir()) == names
    assert all(f"wrote drawn/{name}\n" in answer.out for name in names)


def test_a16_a_picture_is_filtered_into_a_picture(command: Command, folder: Path) -> None:
    answer = command("filter", "big.png", "--kernel", "edge")
    assert answer.code == 0
    assert answer.out.startswith("big-edge.png: 24x32 -> 22x30, shown as absolute values")
    assert (folder / "big-edge.png").read_bytes().startswith(b"\x89PNG")


# Signals


def learning(path: Path) -> bool:
    """Whether an epoch is finished."""
    return path.exists() and path.stat().st_size > 0


ENDLESS = ("train", "digits", "--epochs", "100000", "--model", "flatten", "--threads", "1", "--run", "run")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_what_was_learned(command: Command, tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = started(tmp_path, *ENDLESS)
    wait_for(process, lambda: learning(tmp_path / "run" / "metrics.jsonl"))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    run = open_run(tmp_path / "run")
    assert (run.manifest.status, run.manifest.signal) == ("interrupted", number)
    assert err.splitlines()[-1] == (
        f"stopped by signal {number} after {len(run.history)} of 100000 epochs; the weights are saved in run; "
        "continue with: convscope train --resume run"
    )
    assert "Traceback" not in err
    path = tmp_path / "seven.png"
    path.write_bytes(encode_png(load_data("digits").test.images[7]))
    for words in (("predict", tmp_path / "run", path), ("evaluate", tmp_path / "run")):
        answer = command(*words)
        assert answer.code == 0
        assert "was interrupted after" in answer.err


def test_a_second_interruption_ends_it_at_once(tmp_path: Path) -> None:
    """Also where saving takes a minute."""
    slow = (
        "import time; from convscope.cli.main import main; from convscope.api import train;"
        "train.to_onnx = lambda *_: time.sleep(60); main()"
    )
    process = started(tmp_path, *ENDLESS, program=(sys.executable, "-c", slow))
    wait_for(process, lambda: learning(tmp_path / "run" / "metrics.jsonl"))
    process.send_signal(signal.SIGINT)
    wait_for(process, (tmp_path / "run" / "last.safetensors").exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_killed_training_leaves_no_run(command: Command, tmp_path: Path) -> None:
    process = started(tmp_path, *ENDLESS)
    wait_for(process, lambda: learning(tmp_path / "run" / "metrics.jsonl"))
    process.kill()
    process.communicate()
    with pytest.raises(ModelFileError, match="its training did not finish"):
        open_run(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    answer = command("evaluate", tmp_path / "run")
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (4, "", 1)


@pytest.mark.usefixtures("folder")
def test_elsewhere_an_interruption_ends_the_command_in_silence(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.deploy.predictor.Predictor", interrupted)
    assert command("predict", "run/model.onnx", "seven.png") == (130, "", "")


@pytest.mark.parametrize("words", [["models"], ["models", "--json"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.run([SCRIPT, *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=env)
    os.close(writing)
    assert (process.returncode, process.stderr) == (1, "")


@pytest.mark.parametrize(("given", "kept"), [(None, "20000"), ("7", "7")])
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(
    command: Command, monkeypatch: pytest.MonkeyPatch, given: str | None, kept: str
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", given or "")
    if given is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    command("models")
    assert os.environ["GOMP_SPINCOUNT"] == kept


# Help


def commands() -> list[tuple[str, Any]]:
    """Every command with the words that call it."""
    found: list[tuple[str, Any]] = []
    for name in COMMANDS:
        command = load_command(name)
        inner = getattr(command, "commands", None)
        found += [(name, command)] if inner is None else [(f"{name} {sub}", inner[sub]) for sub in inner]
    return found


@pytest.mark.parametrize(("path", "inner"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_has_json_and_an_example_that_is_right(command: Command, path: str, inner: Any) -> None:
    answer = command(*path.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "--json" in answer.out
    example = re.search(rf"Example: convscope ({path} .*)", " ".join(answer.out.split()))
    assert example is not None
    words = shlex.split(example[1])[len(path.split()) :]
    assert inner.make_context(path, words).params["as_json"] is False


@pytest.mark.parametrize("words", [(), ("data",)])
def test_a_command_that_is_missing_gets_the_list(command: Command, words: tuple[str, ...]) -> None:
    answer = command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert re.match(rf"Usage: .*{' '.join(words)} \[OPTIONS\] COMMAND", answer.err)
    assert all(
        path.split()[len(words)] in answer.err for path, _ in commands() if path.split()[: len(words)] == [*words]
    )


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        ("--help", "torch numpy rich pydantic PIL matplotlib onnxruntime"),
        ("train --help", "torch numpy matplotlib"),
        ("predict run big.png", "torch sklearn matplotlib onnx"),
        ("models", "torch sklearn matplotlib onnx"),
    ],
)
def test_a_command_loads_no_more_than_it_needs(folder: Path, words: str, unwanted: str) -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", SCRIPT, *words.split()],
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in process.stderr.splitlines()}
    assert "convscope" in loaded
    assert loaded & set(unwanted.split()) == set()


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("0.2", 0, "target         20 % reached in 1 of 3 epochs"),
        ("1", 5, "target         100 % not surely reached in 3 epochs"),
    ],
)
def test_a_target_ends_the_training_or_the_command_with_5(
    command: Command, folder: Path, target: str, code: int, said: str
) -> None:
    answer = command(
        "train", "digits", "--model", "flatten", "--epochs", "3", "--threads", "1", "--target-accuracy", target
    )
    assert answer.code == code
    assert said in answer.out.splitlines()
    run = open_run(folder / "runs" / "digits-custom-1")
    assert run.manifest.status == "complete"
    assert len(run.history) == (1 if code == 0 else 3)
