"""Own pictures: convscope, PyTorch and Keras on the same photos and signs, split and minutes.

    bench_photos.py [--minutes 1 3 10] [--sets flowers signs] [--programs convscope torch keras] [--sizes]
                    [--tune [OPTIONS ...]] [--by-hand [OPTIONS ...]] [--raw speed/photos.json] [--into RESULTS.md]

`convscope train SPLIT --budget TIME`, the residual network of torch_residual.py, and keras_photos.py, each in a process
of its own that has so many minutes from its start to its end, decoding included. The pictures are those of
`flowers128` and `gtsrb-subset` in $CONVSCOPE_DATA. With --tune options of torch_residual.py are tried on the validation
pictures first (those given, or some that are usual) and the best of each set and minutes are kept; with --by-hand
convscope is also measured with options given (or each recipe) instead of what --budget chooses; with --sizes at several
input sizes, and a picture is drawn. What was measured before stays in the raw file. Exit code 5: convscope is not the
most accurate everywhere, a comparison is still missing, or a budget is missed by more than 15 %.
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

from make_split import make
from peers import HERE, command, variables
from photos_report import PROGRAMS, SIZES, Trained, accuracy, report
from speed_process import quiet
from speed_report import today
from speed_rows import CONVSCOPE, clean

WITHIN = 0.15  # of a budget
OPTIONS = (
    "--size 48 --width 32 --rate 0.1",
    "--size 64 --width 32 --rate 0.1",
    "--size 64 --width 64 --rate 0.05",
    "--size 96 --width 32 --rate 0.1",
    "--size 128 --width 48 --rate 0.1",
    "--size 64 --width 32 --rate 0.05 --batch 32",
    "--size 64 --width 32 --rate 0.1 --area 0.25 --cutmix 0.7",
    "--size 64 --width 32 --rate 0.1 --area 0.25 --jitter 0.3 --cutmix 0.7 --until 0.95",
    "--size 64 --width 64 --rate 0.05 --area 0.25 --jitter 0.3 --cutmix 0.7 --until 0.95",
)
RECIPES = ("--recipe fast", "--recipe default", "--recipe best")


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


def main() -> int:
    """Measure what is asked for, report all that is known; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 3, 10])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--programs", nargs="*", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--by-hand", nargs="*", metavar="OPTIONS")
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
                for words in [] if options.by_hand is None else options.by_hand or RECIPES:
                    quiet(options.wait)
                    note(options.raw, known, ours(name, split, minutes, words))
            for size in SIZES if options.sizes else ():
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
    tried = [one for one in known.values() if one.pictures == name and one.on_validation]
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
    evaluation, history = answer["test"], answer["history"]
    found = evaluation["accuracy"], evaluation["n"], len(history), seconds, cores(), today()
    said = f"{answer['config']['model']} {answer['config']['input_shape'][0]} {options}".strip()
    return Trained("convscope", name, minutes, said, *found, history[-1]["validation_accuracy"])


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
    words = [] if one.compared else one.options.split()
    known[" ".join([one.pictures, f"{one.minutes:g}", one.program, *words])] = one
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps({key: asdict(value) for key, value in known.items()}, indent=1))
    print(f"{one.pictures}, {one.minutes:g} min, {one.program} {one.options}: {accuracy(one)}", file=sys.stderr)


def reached(everything: list[Trained]) -> bool:
    """Whether convscope is the most accurate wherever it was compared, and kept its budgets."""
    tested = [one for one in everything if one.compared]
    found = {(one.pictures, one.minutes, one.program): one.accuracy for one in tested}
    own = [one for one in tested if one.program == "convscope"]
    ahead = all(
        found.get((pictures, minutes, program), math.inf) <= found.get((pictures, minutes, "convscope"), -1)
        for pictures, minutes in {(one.pictures, one.minutes) for one in tested}
        for program in PROGRAMS
    )
    return ahead and all(abs(one.seconds / (60 * one.minutes) - 1) <= WITHIN for one in own)


if __name__ == "__main__":
    sys.exit(main())
