"""Own pictures: convscope, PyTorch and Keras on the same photos and signs, split and minutes.

    bench_photos.py [--minutes 1 3 10] [--sets flowers signs] [--programs convscope torch keras] [--sizes]
                    [--tune [OPTIONS ...]] [--raw speed/photos.json] [--into RESULTS.md]

`convscope train SPLIT --budget TIME`, the residual network of torch_residual.py, and keras_photos.py, each in a process
of its own that has so many minutes from its start to its end, decoding included. The pictures are those of
`flowers128` and `gtsrb-subset` in $CONVSCOPE_DATA. With --tune options of torch_residual.py are tried on the validation
pictures first (those given, or some that are usual) and the best of each set and minutes are kept; with --sizes
convscope is also measured at several input sizes, and a picture is drawn. What was measured before stays in the raw
file. Exit code 5: convscope is not the most accurate everywhere, a comparison is still missing, or a budget is missed
by more than 15 %.
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
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convscope.evaluate import wilson
from make_split import make
from peers import HERE, command, variables
from speed_process import quiet
from speed_report import machine, put, table, today
from speed_rows import CONVSCOPE, clean

PROGRAMS = ("convscope", "torch", "keras")
SIZES = (16, 24, 32, 48, 64, 96, 128)
WITHIN = 0.15  # of a budget
OPTIONS = (
    "--size 48 --width 32 --rate 0.1",
    "--size 64 --width 32 --rate 0.1",
    "--size 64 --width 64 --rate 0.05",
    "--size 96 --width 32 --rate 0.1",
    "--size 128 --width 48 --rate 0.1",
    "--size 64 --width 32 --rate 0.05 --batch 32",
    "--size 64 --width 32 --rate 0.1 --area 0.25 --cutmix 0.7",
    "--size 64 --width 64 --rate 0.05 --area 0.25 --cutmix 0.7",
)


@dataclass(frozen=True)
class Pictures:
    """An archive of class folders, the pattern of its groups, and whether its pictures may be mirrored."""

    archive: str
    group_by: str | None
    flip: bool


SETS = {
    "flowers": Pictures("flowers128/flowers.tar.gz", None, True),
    "signs": Pictures("gtsrb-subset/gtsrb.tar", r"^(\d+)_", False),
}


@dataclass(frozen=True)
class Trained:
    """One process: which, what it reached on n pictures, and in how many seconds from its start to its end."""

    program: str
    pictures: str
    minutes: float
    options: str
    accuracy: float
    n: int
    epochs: float
    seconds: float
    cores: int
    day: str


def main() -> int:
    """Measure what is asked for, report all that is known; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 3, 10])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--tune", nargs="*", metavar="OPTIONS")
    parser.add_argument("--wait", type=float, default=60, help="seconds, at most, for a quiet machine")
    parser.add_argument("--raw", type=Path, default=HERE / "speed" / "photos.json")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    known = read(options.raw)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets:
            split = unpacked(name, Path(folder))
            for minutes in options.minutes:
                if options.tune is not None:
                    for words in options.tune or OPTIONS:
                        quiet(options.wait)
                        note(options.raw, known, theirs("torch", name, split, minutes, f"{words} --validate"))
                for program in options.programs:
                    quiet(options.wait)
                    note(options.raw, known, trained(program, name, split, minutes, known))
            if options.sizes:
                for size in SIZES:
                    quiet(options.wait)
                    note(options.raw, known, ours(name, split, 1, f"--size {size}"))
    everything = list(known.values())
    report(options.into, everything)
    return 0 if reached(everything) else 5


def unpacked(name: str, folder: Path) -> Path:
    """The folder of a set's split, unpacked and divided."""
    pictures, split = SETS[name], folder / f"{name}-split"
    with tarfile.open(Path(os.environ["CONVSCOPE_DATA"], pictures.archive)) as archive:
        archive.extractall(folder / name, filter="data")
    make(folder / name, split, pictures.group_by, validation=0.15, seed=5)
    return split


def trained(program: str, name: str, split: Path, minutes: float, known: dict[str, Trained]) -> Trained:
    """A program's result on the test pictures; PyTorch's with the options that were best on the validation pictures."""
    if program == "convscope":
        return ours(name, split, minutes)
    return theirs(program, name, split, minutes, best_options(name, minutes, known) if program == "torch" else "")


def best_options(name: str, minutes: float, known: dict[str, Trained]) -> str:
    """Of torch_residual.py on a set, tried for as many minutes, or for the nearest number of them."""
    tried = [one for one in known.values() if one.pictures == name and one.options.endswith("--validate")]
    if not tried:
        return OPTIONS[0]
    nearest = min({one.minutes for one in tried}, key=lambda other: abs(other - minutes))
    best = max((one for one in tried if one.minutes == nearest), key=lambda one: one.accuracy)
    return best.options.removesuffix(" --validate")


def ours(name: str, split: Path, minutes: float, options: str = "") -> Trained:
    """`convscope train`, with a cache that is empty."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", split, "--budget", f"{60 * minutes:g}s", *options.split(), "--run", f"{folder}/run", "--json"]
        environment = clean(dict(os.environ), cores()) | {"XDG_CACHE_HOME": f"{folder}/cache"}
        answer, seconds = timed([CONVSCOPE, *map(str, words)], environment)
    evaluation, epochs = answer["test"], len(answer["history"])
    said = f"{answer['config']['model']} {answer['config']['input_shape'][0]} {options}".strip()
    return Trained(
        "convscope", name, minutes, said, evaluation["accuracy"], evaluation["n"], epochs, seconds, cores(), today()
    )


def theirs(program: str, name: str, split: Path, minutes: float, options: str) -> Trained:
    """A peer's program."""
    script = {"torch": "torch_residual.py", "keras": "keras_photos.py"}[program]
    flip = ["--flip"] if SETS[name].flip else []
    words = command(program, script, split, "--seconds", f"{60 * minutes:g}", *options.split(), *flip)
    answer, seconds = timed(words, clean(variables(program), cores()))
    found = answer["accuracy"], answer["n"], answer["epochs"]
    return Trained(program, name, minutes, options, *found, seconds, cores(), today())


def cores() -> int:
    """How many this process and its children may use."""
    return len(os.sched_getaffinity(0))


def timed(words: list[str], environment: dict[str, str]) -> tuple[dict[str, Any], float]:
    """What a process prints as JSON, and its seconds from start to end."""
    start = time.perf_counter()
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return answer, seconds


def read(raw: Path) -> dict[str, Trained]:
    """What was measured before."""
    return {key: Trained(**one) for key, one in json.loads(raw.read_text()).items()} if raw.exists() else {}


def note(raw: Path, known: dict[str, Trained], one: Trained) -> None:
    """Keep it, in place of an earlier measurement of the same."""
    tried = one.options if "--validate" in one.options or "--size" in one.options else ""
    known[" ".join([one.pictures, f"{one.minutes:g}", one.program, *tried.split()])] = one
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps({key: asdict(value) for key, value in known.items()}, indent=1))
    print(f"{one.pictures}, {one.minutes:g} min, {one.program} {one.options}: {accuracy(one)}", file=sys.stderr)


def measured_on_test(everything: list[Trained]) -> list[Trained]:
    """Without the trials, and without those at a given input size."""
    return [one for one in everything if "--" not in one.options or one.program == "torch"]


def reached(everything: list[Trained]) -> bool:
    """Whether convscope is the most accurate wherever it was compared, and kept its budgets."""
    tested = [one for one in measured_on_test(everything) if not one.options.endswith("--validate")]
    found = {(one.pictures, one.minutes, one.program): one.accuracy for one in tested}
    own = [one for one in tested if one.program == "convscope"]
    ahead = all(
        found.get((pictures, minutes, program), math.inf) <= found.get((pictures, minutes, "convscope"), -1)
        for pictures, minutes in {(one.pictures, one.minutes) for one in tested}
        for program in PROGRAMS
    )
    return ahead and all(abs(one.seconds / (60 * one.minutes) - 1) <= WITHIN for one in own)


def interval(accuracy: float, n: int) -> str:
    """In per cent, with its 95 % interval."""
    low, high = wilson(round(accuracy * n), n)
    return f"{100 * accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n = {n:,})"


def accuracy(one: Trained) -> str:
    """The same of one training."""
    return interval(one.accuracy, one.n)


def report(file: Path, everything: list[Trained]) -> None:
    """The tables and the picture, into the file and onto stdout."""
    tested = [one for one in measured_on_test(everything) if not one.options.endswith("--validate")]
    places = dict.fromkeys((one.pictures, one.minutes) for one in tested)
    found = {(one.pictures, one.minutes, one.program): one for one in tested}
    rows = [
        (pictures, f"{minutes:g}", *(cell(found.get((pictures, minutes, program))) for program in PROGRAMS))
        for pictures, minutes in sorted(places)
    ]
    heads = ("pictures", "minutes", "convscope --budget", "PyTorch, residual network", "Keras, its tutorial's network")
    days = sorted({one.day for one in everything})
    text = (
        f"## Own pictures, in so many minutes\n\n`bench_photos.py`, {' and '.join(days)}; test accuracy with its 95 % "
        "interval, one training each; the whole process, decoding and results included, in seconds; how many times it "
        f"saw the training pictures.\n\n{table(heads, rows)}\n\n{tuning(everything)}{sizes(file, everything)}"
        f"The machine: {machine(cores())}."
    )
    put(file, "photos", text)
    print(text)


def cell(one: Trained | None) -> str:
    """One program's result."""
    if one is None:
        return "-"
    options = f", {one.options.replace('--', '')}" if one.options else ""
    return f"{accuracy(one)}; {one.seconds:.1f} s, {one.cores} cores, {one.epochs:.1f} epochs{options}"


def tuning(everything: list[Trained]) -> str:
    """What was tried for PyTorch's network."""
    tried = [one for one in everything if one.options.endswith("--validate")]
    if not tried:
        return ""
    heads = ("pictures", "minutes", "cores", "options of torch_residual.py", "validation accuracy")
    rows = [
        (one.pictures, f"{one.minutes:g}", one.cores, one.options.removesuffix(" --validate"), accuracy(one))
        for one in sorted(tried, key=lambda one: (one.pictures, one.minutes))
    ]
    return f"Its options were chosen on the validation pictures:\n\n{table(heads, rows)}\n\n"


def sizes(file: Path, everything: list[Trained]) -> str:
    """Accuracy against input size, as a table and as a picture."""
    found = [one for one in everything if one.program == "convscope" and "--size" in one.options]
    if not found:
        return ""
    draw(file.parent / "input_size.png", found)
    heads = ("pictures", *(f"{size}x{size}" for size in SIZES))
    by_place = {(one.pictures, side(one)): one for one in found}
    names = dict.fromkeys(one.pictures for one in found)
    rows = [(name, *(share(by_place.get((name, size))) for size in SIZES)) for name in names]
    return (
        "What is lost by making pictures smaller (convscope, 1 minute each, test accuracy):\n\n"
        f"{table(heads, rows)}\n\n![accuracy against input size](input_size.png)\n\n"
    )


def share(one: Trained | None) -> str:
    """The accuracy alone."""
    return "-" if one is None else f"{100 * one.accuracy:.1f} %"


def side(one: Trained) -> int:
    """The input size that was asked for."""
    return int(one.options.split("--size")[1])


def draw(file: Path, found: Iterable[Trained]) -> None:
    """Accuracy with its interval over the input's side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(one.pictures for one in found):
        some = sorted((one for one in found if one.pictures == name), key=side)
        shares = [100 * one.accuracy for one in some]
        bounds = [wilson(round(one.accuracy * one.n), one.n) for one in some]
        errors = [
            [value - 100 * low for value, (low, _) in zip(shares, bounds, strict=True)],
            [100 * high - value for value, (_, high) in zip(shares, bounds, strict=True)],
        ]
        axes.errorbar([side(one) for one in some], shares, errors, marker="o", capsize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.minorticks_off()
    axes.set_xlabel("side of the input, pixels")
    axes.set_ylabel("test accuracy, %")
    axes.set_title("Accuracy after one minute, by the size that pictures are reduced to", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
