"""Trainings that are killed with SIGKILL, at any moment or in the middle of a save, and are gone on with.

    killing.py FOLDER --kills 25 --inside 8 --seed 0

prints one JSON object: the SHA-256 of the undisturbed training's weights, and one `Kill` for each of the others. Each
training is a process of its own, forked from this one, which has imported everything and computed nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from convscope import load_data
from convscope.cli import main as cli
from convscope.report import plots
from convscope.runs.checkpoints import Checkpoint, Checkpoints
from convscope.runs.config import CHECKPOINT_FOLDER, MANIFEST_FILE, WEIGHTS_FILES
from convscope.training.state import Course

LINE = "conv 4 3, batchnorm, relu, maxpool 2, dropout 0.2, flatten"
KEYWORDS = ["train", "digits", "--model", LINE, "--epochs", "4", "--threads", "1", "--precision", "float32"]
INTERVALS = (0.0, 0.01, 0.05)  # seconds between two checkpoints; 0: one after every batch
IN_SAVES = ("open", "fsync", "chmod", "replace", "unlink")  # what is killed before and after, beside a half write
MOMENTS_IN_SAVES = 500  # there are more in a training that saves after every batch


@dataclass(frozen=True)
class Kill:
    """A training that was killed and gone on with.

    inside: in the middle of a save. lost_steps, lost_seconds: of training, between the last batch before the kill and
    the one that training went on from. slowest_step: seconds, a save and validation included. corrupt: checkpoints that
    lay there and could not be read. temporary: files that were left at the end. sha256: of the weights at the end.
    """

    interval: float
    inside: bool
    lost_steps: int
    lost_seconds: float
    slowest_step: float
    corrupt: int
    temporary: int
    code: int
    sha256: str

    @property
    def within_an_interval(self) -> bool:
        """Whether no more was lost than an interval, and the batches at hand when it began and when it ended."""
        return self.lost_steps <= 1 or self.lost_seconds <= self.interval + 2 * self.slowest_step


def begun(words: list[str], log: Path, die_at: int = 0) -> int:
    """A process of that command, which notes its steps in `log` and kills itself at a moment of its saves, from 1."""
    if child := os.fork():
        return child
    code = 70
    try:
        output = os.open(log.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        watch_saves(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), die_at)
        sys.argv = ["convscope", *words]
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def watch_saves(log: int, die_at: int) -> None:
    """Note `STEP TIME` after every step, `save` when one begins and `saved` when it has ended."""
    saving, moment = False, 0

    def tick() -> None:
        nonlocal moment
        moment += saving
        if saving and moment == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            tick()
            result = function(*arguments, **options)
            tick()
            return result

        return call

    class HalfWritten(io.BufferedWriter):
        def write(self, content: Any) -> int:
            super().write(content[: len(content) // 2])
            self.flush()
            tick()
            return super().write(content[len(content) // 2 :])

    for name in IN_SAVES:
        setattr(os, name, ticking(getattr(os, name)))
    os.fdopen = lambda descriptor, mode: HalfWritten(io.FileIO(descriptor, mode))  # type: ignore[assignment]
    add, of, save = Course.add, Checkpoint.of, Checkpoints.save

    def noted_add(course: Course, *counts: Any) -> None:
        add(course, *counts)
        os.write(log, f"{course.step} {time.monotonic()}\n".encode())

    def noted_of(*arguments: Any) -> Checkpoint:
        nonlocal saving
        os.write(log, b"save\n")
        saving = True
        return of(*arguments)

    def noted_save(*arguments: Any) -> None:
        nonlocal saving
        save(*arguments)
        if saving:
            os.write(log, b"saved\n")
        saving = False

    Course.add = noted_add  # type: ignore[method-assign, assignment]
    Checkpoint.of = noted_of  # type: ignore[method-assign, assignment]
    Checkpoints.save = noted_save  # type: ignore[method-assign, assignment]


def ended(child: int) -> int:
    """Its exit code, or minus the signal's number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def steps(log: Path) -> list[tuple[int, float]]:
    """The steps that were noted, and when."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(line[0]), float(line[1])) for line in lines if len(line) == 2]


def weights(run: Path) -> str:
    """SHA-256 of a finished run's weights; empty where it is not finished."""
    if not (run / MANIFEST_FILE).exists():
        return ""
    return hashlib.sha256(b"".join((run / name).read_bytes() for name in WEIGHTS_FILES.values())).hexdigest()


def damaged(path: Path) -> bool:
    """Whether it is no checkpoint."""
    try:
        Checkpoint.from_bytes(path.read_bytes())
    except ValueError:
        return True
    return False


def killed(run: Path, interval: float, die_at: int, delay: float) -> bool:
    """Train, and kill inside a save, or so many seconds after the first step; whether it did not end before."""
    log = run.with_suffix(".log")
    child = begun([*KEYWORDS, "--run", str(run), "--checkpoint-every", str(interval)], log, die_at)
    if not die_at:
        while not steps(log) and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.0005)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return ended(child) == -signal.SIGKILL


def gone_on(run: Path, interval: float) -> Kill:
    """Go on with a training that was killed."""
    log, again = run.with_suffix(".log"), run.with_suffix(".again")
    before = steps(log)
    inside = [line for line in log.read_text().splitlines() if line.startswith("save")][-1:] == ["save"]
    corrupt = sum(map(damaged, (run / CHECKPOINT_FOLDER).glob("*.ckpt")))
    code = ended(begun(["train", "--resume", str(run), "--checkpoint-every", str(interval)], again))
    after = steps(again)
    last, moment = before[-1]
    start = after[0][0] - 1 if after else last
    gaps = [later - earlier for (_, earlier), (_, later) in pairwise(before)]
    return Kill(
        interval, inside, last - start, moment - dict(before).get(start, before[0][1]), max(gaps, default=0.0),
        corrupt, len(list(run.rglob(".*"))), code, weights(run),
    )  # fmt: skip


def prepare() -> None:
    """Import all that a training needs, so that no fork has to."""
    import_module("convscope.api.resume")
    load_data("digits")
    plots.feature_maps("", np.eye(3)[..., None]).png()


def main() -> None:
    """Kill so many trainings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--inside", type=int, default=8, help="how many of them in the middle of a save")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder, draw = options.folder, random.Random(options.seed)
    prepare()
    undisturbed = folder / "undisturbed"
    assert ended(begun([*KEYWORDS, "--run", str(undisturbed)], undisturbed.with_suffix(".log"))) == 0
    kills: list[Kill] = []
    number, length = 0, 0.0
    while len(kills) < options.kills:
        number += 1
        run, interval = folder / f"run{number}", draw.choice(INTERVALS)
        inside = len(kills) < options.inside
        if inside:
            interval = 0.0
        if killed(run, interval, draw.randint(1, MOMENTS_IN_SAVES) if inside else 0, draw.random() * max(length, 0.2)):
            kills.append(gone_on(run, interval))
        moments = [moment for _, moment in steps(run.with_suffix(".log"))]
        length = max(length, moments[-1] - moments[0]) if moments else length
    sys.stdout.write(json.dumps({"undisturbed": weights(undisturbed), "kills": [asdict(kill) for kill in kills]}))


if __name__ == "__main__":
    main()
