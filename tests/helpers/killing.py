"""Kill trainings with SIGKILL, at any moment or while they write a checkpoint, and resume them.

    killing.py FOLDER --kills 25 --in-saves 8 --seed 0

prints one JSON object: the SHA-256 of the weights of an uninterrupted training, and one `Kill` for each of the others.
Each training is a process forked from this one, which has imported everything and computed nothing.
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
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from convscope import load_data
from convscope.cli import main as cli
from convscope.report import layer_plots
from convscope.runs.checkpoints import Checkpoint, Checkpoints
from convscope.runs.config import CHECKPOINT_FOLDER, MANIFEST_FILE, WEIGHTS_FILES
from convscope.training.state import TrainerState

ARCHITECTURE = "conv 4 3, batchnorm, relu, maxpool 2, dropout 0.2, flatten"
ARGUMENTS = ["train", "digits", "--model", ARCHITECTURE, "--epochs", "4", "--threads", "1", "--precision", "float32"]
INTERVALS = (0.0, 0.01, 0.05)  # seconds between two checkpoints; 0 writes one after every batch
CALLS_IN_SAVES = ("open", "fsync", "chmod", "replace", "unlink")  # a kill may come before and after each
MOMENTS_IN_SAVES = 500  # a training that saves after every batch has more


@dataclass(frozen=True)
class Kill:
    """A training that was killed and resumed.

    interval: seconds between two checkpoints. in_save: whether it was killed while it wrote a checkpoint. lost_steps,
    lost_seconds: of training, between the last batch before the kill and the batch it was resumed after. slowest_step:
    in seconds, with saving and validation. corrupt: unreadable checkpoints after the kill. temporary: hidden files at
    the end. code: exit code of the resumed training. sha256: of the weights at the end.
    """

    interval: float
    in_save: bool
    lost_steps: int
    lost_seconds: float
    slowest_step: float
    corrupt: int
    temporary: int
    code: int
    sha256: str

    @property
    def within_an_interval(self) -> bool:
        """Whether at most one interval was lost, and the batches during which it began and ended."""
        return self.lost_steps <= 1 or self.lost_seconds <= self.interval + 2 * self.slowest_step


def start(arguments: list[str], log: Path, die_at: int = 0) -> int:
    """Start the command in a process and return its id.

    It logs its steps, and kills itself at the moment `die_at` of its saves, counted from 1.
    """
    if child := os.fork():
        return child
    code = 70
    try:
        output = os.open(log.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        trace_saves(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), die_at)
        sys.argv = ["convscope", *arguments]
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def trace_saves(log: int, die_at: int) -> None:
    """Log `STEP TIME` after every step, `save` when a checkpoint is begun and `saved` when it is written."""
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

    for name in CALLS_IN_SAVES:
        setattr(os, name, ticking(getattr(os, name)))
    os.fdopen = lambda descriptor, mode: HalfWritten(io.FileIO(descriptor, mode))  # type: ignore[assignment]
    add_batch, of, save = TrainerState.add_batch, Checkpoint.of, Checkpoints.on_train_batch_end

    def logged_add_batch(state: TrainerState, *counts: Any, **more: Any) -> None:
        add_batch(state, *counts, **more)
        os.write(log, f"{state.step} {time.monotonic()}\n".encode())

    def logged_of(*arguments: Any) -> Checkpoint:
        nonlocal saving
        os.write(log, b"save\n")
        saving = True
        return of(*arguments)

    def logged_save(*arguments: Any) -> None:
        nonlocal saving
        save(*arguments)
        if saving:
            os.write(log, b"saved\n")
        saving = False

    TrainerState.add_batch = logged_add_batch  # type: ignore[method-assign, assignment]
    Checkpoint.of = logged_of  # type: ignore[method-assign, assignment]
    Checkpoints.on_train_batch_end = logged_save  # type: ignore[method-assign, assignment]
    Checkpoints.on_epoch_end = logged_save  # type: ignore[assignment]


def wait_for(child: int) -> int:
    """Return the exit code of a process, or minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def steps(log: Path) -> list[tuple[int, float]]:
    """Return the logged steps and their times."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(line[0]), float(line[1])) for line in lines if len(line) == 2]


def weights(run: Path) -> str:
    """Return the SHA-256 of a finished run's weights, or "" if it is not finished."""
    if not (run / MANIFEST_FILE).exists():
        return ""
    return hashlib.sha256(b"".join((run / name).read_bytes() for name in WEIGHTS_FILES.values())).hexdigest()


def is_damaged(path: Path) -> bool:
    """Return whether a file is no checkpoint."""
    try:
        Checkpoint.from_bytes(path.read_bytes())
    except ValueError:
        return True
    return False


def train_and_kill(run: Path, interval: float, die_at: int, delay: float) -> bool:
    """Train, kill while saving or `delay` seconds after the first step, and return whether training had not ended."""
    log = run.with_suffix(".log")
    child = start([*ARGUMENTS, "--run", str(run), "--checkpoint-interval", str(interval)], log, die_at)
    if not die_at:
        while not steps(log) and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.0005)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return wait_for(child) == -signal.SIGKILL


def resume(run: Path, interval: float) -> Kill:
    """Resume a training that was killed."""
    log, again = run.with_suffix(".log"), run.with_suffix(".again")
    before = steps(log)
    in_save = [line for line in log.read_text().splitlines() if line.startswith("save")][-1:] == ["save"]
    corrupt = sum(map(is_damaged, (run / CHECKPOINT_FOLDER).glob("*.ckpt")))
    code = wait_for(start(["train", "--resume", str(run), "--checkpoint-interval", str(interval)], again))
    after = steps(again)
    last, moment = before[-1]
    resumed_at = after[0][0] - 1 if after else last
    gaps = [later - earlier for (_, earlier), (_, later) in pairwise(before)]
    return Kill(
        interval=interval,
        in_save=in_save,
        lost_steps=last - resumed_at,
        lost_seconds=moment - dict(before).get(resumed_at, before[0][1]),
        slowest_step=max(gaps, default=0.0),
        corrupt=corrupt,
        temporary=len(list(run.rglob(".*"))),
        code=code,
        sha256=weights(run),
    )


def prepare() -> None:
    """Import everything that training needs, so that no fork has to."""
    import_module("convscope.api.resume")
    load_data("digits")
    layer_plots.feature_maps("", np.eye(3)[..., None]).png()


def main() -> None:
    """Kill and resume trainings until `--kills` were hit before their end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--in-saves", type=int, default=8, help="how many of them while they write a checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder, rng = options.folder, random.Random(options.seed)
    prepare()
    uninterrupted = folder / "uninterrupted"
    assert wait_for(start([*ARGUMENTS, "--run", str(uninterrupted)], uninterrupted.with_suffix(".log"))) == 0
    kills: list[Kill] = []
    number, length = 0, 0.0
    while len(kills) < options.kills:
        number += 1
        run, interval = folder / f"run{number}", rng.choice(INTERVALS)
        in_save = len(kills) < options.in_saves
        if in_save:
            interval = 0.0
        if train_and_kill(
            run, interval, rng.randint(1, MOMENTS_IN_SAVES) if in_save else 0, rng.random() * max(length, 0.2)
        ):
            kills.append(resume(run, interval))
        moments = [moment for _, moment in steps(run.with_suffix(".log"))]
        length = max(length, moments[-1] - moments[0]) if moments else length
    sys.stdout.write(json.dumps({"uninterrupted": weights(uninterrupted), "kills": [asdict(kill) for kill in kills]}))


if __name__ == "__main__":
    main()
