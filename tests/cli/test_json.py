"""`--json`: one object with these keys on stdout, for every command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from convscope.backends.native import backend
from helpers.command import Command
from helpers.commands import all_commands

pytestmark = pytest.mark.usefixtures("interruptible", "workspace")


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


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("words", SCHEMAS)
def test_json_has_these_keys(command: Command, words: str) -> None:
    answer = command(*shlex.split(words), "--json")
    assert answer.code == 0

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    values = json.loads(answer.out, parse_constant=refuse)
    assert set(schema(values)) == set(SCHEMAS[words].split())
    assert answer.err == "" or words.startswith("train")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("words", [words for words in SCHEMAS if not words.startswith("train")])
def test_command_in_a_pipe_prints_no_escape_codes_and_no_messages(command: Command, words: str) -> None:
    answer = command(*shlex.split(words))
    assert (answer.code, answer.err) == (0, "")
    assert answer.out
    assert "\x1b" not in answer.out


def test_json_keys_of_every_command_are_listed() -> None:
    assert {path for path, _ in all_commands()} == {
        path for path, _ in all_commands() if any(f"{words} ".startswith(f"{path} ") for words in SCHEMAS)
    }
