"""Training on your own images: convscope, PyTorch and Keras on the same data, split and time limit.

    bench_own_images.py [--minutes 1 3 10] [--sets flowers signs] [--programs convscope torch keras] [--sizes]
                        [--tune [OPTIONS ...]] [--by-hand [OPTIONS ...]] [--raw speed/own_images.json]
                        [--into RESULTS.md]

Runs `convscope train SPLIT --budget TIME`, the residual network of torch_residual.py, and keras_own_images.py, each in
a process of its own; the time limit covers the whole process, decoding included. The images are `flowers128` and
`gtsrb-subset` in $CONVSCOPE_DATA.

--tune tries options of torch_residual.py (those given, or a usual selection) on the validation images first, and uses
the best for each data set and time. --by-hand also measures convscope with the options given (or with each recipe)
instead of the choice of --budget. --sizes measures it at several input sizes, and draws a chart. Earlier measurements
stay in the raw file. Exit code 5: convscope is not the most accurate everywhere, a comparison is missing, or a budget
is missed by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from make_split import make_split
from own_images_report import PROGRAMS, SIZES, TrainingResult, accuracy, report
from peers import HERE, command, variables
from speed_process import quiet
from speed_report import today
from speed_rows import CONVSCOPE, clean

BUDGET_TOLERANCE = 0.15
TUNING_OPTIONS = (
    "--image-size 48 --width 32 --learning-rate 0.1",
    "--image-size 64 --width 32 --learning-rate 0.1",
    "--image-size 64 --width 64 --learning-rate 0.05",
    "--image-size 96 --width 32 --learning-rate 0.1",
    "--image-size 128 --width 48 --learning-rate 0.1",
    "--image-size 64 --width 32 --learning-rate 0.05 --batch-size 32",
    "--image-size 64 --width 32 --learning-rate 0.1 --area 0.25 --cutmix 0.7",
    "--image-size 64 --width 32 --learning-rate 0.1 --area 0.25 --jitter 0.3 --cutmix 0.7 --until 0.95",
    "--image-size 64 --width 64 --learning-rate 0.05 --area 0.25 --jitter 0.3 --cutmix 0.7 --until 0.95",
)
RECIPES = ("--recipe fast", "--recipe default", "--recipe best")


@dataclass(frozen=True)
class ImageArchive:
    """An archive of class folders, the pattern of its groups, and whether horizontal flips preserve the labels."""

    file: str
    group_by: str | None
    flip: bool


SETS = {
    "flowers": ImageArchive("flowers128/flowers.tar.gz", None, True),
    "signs": ImageArchive("gtsrb-subset/gtsrb.tar", r"^(\d+)_", False),
}
Results = dict[str, TrainingResult]


def main() -> int:
    """Measure as asked, report all measurements, and return the exit code."""
    options = arguments()
    results = read(options.raw)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets:
            split = unpack(name, Path(folder))
            for minutes in options.minutes:
                measure(name, split, minutes, options, results)
            for size in SIZES if options.sizes else ():
                quiet(options.wait)
                keep(options.raw, results, run_convscope(name, split, 1, f"--image-size {size}"))
    report(options.into, list(results.values()))
    return 0 if is_reached(list(results.values())) else 5


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 3, 10])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--programs", nargs="*", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--by-hand", nargs="*", metavar="OPTIONS")
    parser.add_argument("--tune", nargs="*", metavar="OPTIONS")
    parser.add_argument("--wait", type=float, default=60, help="seconds, at most, for a quiet machine")
    parser.add_argument("--raw", type=Path, default=HERE / "speed" / "own_images.json")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    return parser.parse_args()


def measure(name: str, split: Path, minutes: float, options: argparse.Namespace, results: Results) -> None:
    """Tune, compare and try by hand on one data set for one time limit; adds to `results`."""
    if options.tune is not None:
        for tuning in options.tune or TUNING_OPTIONS:
            quiet(options.wait)
            keep(options.raw, results, run_peer("torch", name, split, minutes, f"{tuning} --validate"))
    for program in options.programs:
        quiet(options.wait)
        keep(options.raw, results, run_program(program, name, split, minutes, results))
    for by_hand in [] if options.by_hand is None else options.by_hand or RECIPES:
        quiet(options.wait)
        keep(options.raw, results, run_convscope(name, split, minutes, by_hand))


def unpack(name: str, folder: Path) -> Path:
    """Unpack and split a data set, and return the folder of the split."""
    archive, split = SETS[name], folder / f"{name}-split"
    with tarfile.open(Path(os.environ["CONVSCOPE_DATA"], archive.file)) as tar:
        tar.extractall(folder / name, filter="data")
    make_split(folder / name, split, archive.group_by, validation=0.15, seed=5)
    return split


def run_program(program: str, name: str, split: Path, minutes: float, results: Results) -> TrainingResult:
    """Measure a program on the test images; PyTorch with the options that were best on the validation images."""
    if program == "convscope":
        return run_convscope(name, split, minutes)
    options = best_options(name, minutes, results) if program == "torch" else ""
    return run_peer(program, name, split, minutes, options)


def best_options(name: str, minutes: float, results: Results) -> str:
    """Return the best tuning options of a data set for that many minutes, or for the nearest number tried."""
    tried = [one for one in results.values() if one.data == name and one.on_validation]
    if not tried:
        return TUNING_OPTIONS[0]
    nearest = min({one.minutes for one in tried}, key=lambda other: abs(other - minutes))
    best = max((one for one in tried if one.minutes == nearest), key=lambda one: one.accuracy)
    return best.options.removesuffix(" --validate")


def run_convscope(name: str, split: Path, minutes: float, options: str = "") -> TrainingResult:
    """Run `convscope train` with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", split, "--budget", f"{60 * minutes:g}s", *options.split(), "--run", f"{folder}/run", "--json"]
        environment = clean(dict(os.environ), cores()) | {"XDG_CACHE_HOME": f"{folder}/cache"}
        answer, seconds = run_timed([CONVSCOPE, *map(str, words)], environment)
    evaluation, history = answer["evaluation"], answer["history"]
    measured = evaluation["accuracy"], evaluation["n"], len(history), seconds, cores(), today()
    chosen = f"{answer['config']['model']} {answer['config']['input_shape'][0]} {options}".strip()
    return TrainingResult("convscope", name, minutes, chosen, *measured, history[-1]["validation_accuracy"])


def run_peer(program: str, name: str, split: Path, minutes: float, options: str) -> TrainingResult:
    """Run the script of a peer."""
    script = {"torch": "torch_residual.py", "keras": "keras_own_images.py"}[program]
    flip = ["--flip"] if SETS[name].flip else []
    words = command(program, script, split, "--seconds", f"{60 * minutes:g}", *options.split(), *flip)
    answer, seconds = run_timed(words, clean(variables(program), cores()))
    measured = answer["accuracy"], answer["n"], answer["epochs"]
    return TrainingResult(program, name, minutes, options, *measured, seconds, cores(), today())


def cores() -> int:
    """Return the number of cores that this process and its children may use."""
    return len(os.sched_getaffinity(0))


def run_timed(words: list[str], environment: dict[str, str]) -> tuple[dict[str, Any], float]:
    """Run a process; return the JSON object it prints, and its seconds from start to end."""
    start = time.perf_counter()
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return answer, seconds


def read(raw: Path) -> Results:
    """Return the earlier measurements."""
    return {key: TrainingResult(**one) for key, one in json.loads(raw.read_text()).items()} if raw.exists() else {}


def keep(raw: Path, results: Results, one: TrainingResult) -> None:
    """Store a measurement; it replaces an earlier one of the same kind."""
    words = [] if one.compared else one.options.split()
    results[" ".join([one.data, f"{one.minutes:g}", one.program, *words])] = one
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps({key: asdict(value) for key, value in results.items()}, indent=1))
    print(f"{one.data}, {one.minutes:g} min, {one.program} {one.options}: {accuracy(one)}", file=sys.stderr)


def is_reached(results: list[TrainingResult]) -> bool:
    """Return whether convscope is the most accurate in every comparison, and keeps its budgets."""
    tested = [one for one in results if one.compared]
    accuracies = {(one.data, one.minutes, one.program): one.accuracy for one in tested}
    ours = [one for one in tested if one.program == "convscope"]
    ahead = all(
        accuracies.get((data, minutes, program), math.inf) <= accuracies.get((data, minutes, "convscope"), -1)
        for data, minutes in {(one.data, one.minutes) for one in tested}
        for program in PROGRAMS
    )
    return ahead and all(abs(one.seconds / (60 * one.minutes) - 1) <= BUDGET_TOLERANCE for one in ours)


if __name__ == "__main__":
    sys.exit(main())
