"""Trainings by torchrun in processes of their own: started, killed at random moments, compared.

    python torchrun.py DATA MODEL RUN LOSSES [NAME=JSON ...]    what each process runs

Rank 0 appends one line per step to the file LOSSES: the step's number, its loss, the seconds since training began, and
how many of them were spent on exchanges between the ranks, waiting for slower ones included. Variables that do harm:
FAILURES, such as "1:4 0:3 1:hang2 1:end", lists what happens to which rank, in this order: it is killed in its fourth
step since it was started, or hangs in its second, or is killed when it has trained. LATE is a rank that starts half a
second after the others when all are started again. EXCHANGE_LIMIT_S: when a rank gives up on the others.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

TORCHRUN = [sys.executable, "-P", "-m", "torch.distributed.run"]
AFTER_TRAINING = "end"
START_S = 600.0  # the longest that a busy machine takes to start the processes
LIMIT_S = 150.0  # what takes longer hangs


def command(data: str, model: str, folder: Path, **options: object) -> list[str]:
    """What torchrun starts: a training that writes `folder/run` and `folder/losses`."""
    given = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    return [__file__, data, model, str(folder / "run"), str(folder / "losses"), *given]


def torchrun(processes: int, arguments: Sequence[str], restarts: int = 0) -> list[str]:
    """The command line of torchrun for processes on this machine."""
    return [*TORCHRUN, "--standalone", f"--nproc-per-node={processes}", f"--max-restarts={restarts}", *arguments]


class Step(NamedTuple):
    """One line of the file `losses`."""

    number: int
    loss: float
    seconds: float
    exchange_seconds: float


def read_steps(folder: Path) -> list[Step]:
    """The steps in order; of a step that was repeated after a kill, the last one."""
    steps: dict[int, Step] = {}
    for line in (folder / "losses").read_text().splitlines():
        with suppress(ValueError):  # a line that was cut by a kill
            number, loss, seconds, exchange_seconds = line.split()
            steps[int(number)] = Step(int(number), float(loss), float(seconds), float(exchange_seconds))
    assert sorted(steps) == list(range(1, len(steps) + 1)), "a step is missing"
    return [steps[number] for number in sorted(steps)]


def largest_deviation(folder: Path, expected: Path) -> float:
    """The largest relative difference between the losses of two trainings, of any step."""
    pairs = zip(read_steps(folder), read_steps(expected), strict=True)
    return max(abs(ours.loss - theirs.loss) / theirs.loss for ours, theirs in pairs)


def run(arguments: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a launcher, whose processes all end after LIMIT_S at the latest.

    Args:
        arguments: of the launcher.
        env: added to its environment.
        cwd: its folder.

    Raises:
        TimeoutExpired: it hangs.
    """
    pipe = subprocess.PIPE
    with launched(arguments, env, cwd=cwd, stdout=pipe, stderr=pipe, text=True) as launcher:
        out, err = launcher.communicate(timeout=LIMIT_S)
    return subprocess.CompletedProcess(arguments, launcher.returncode, out, err)


@contextmanager
def launched(arguments: Sequence[str], env: Mapping[str, str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A launcher; it and the processes that it has started are killed if they run after the block."""
    launcher = subprocess.Popen(arguments, env={**os.environ, **env}, **options)
    try:
        yield launcher
    finally:
        if launcher.poll() is None:
            for process in [launcher.pid, *descendants(launcher.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            launcher.wait()


def descendants(parent: int) -> list[int]:
    """The processes that a process has started, and those that they have started."""
    found = children(parent)
    return found + [process for child in found for process in descendants(child)]


def children(parent: int) -> list[int]:
    """The processes that a process has started; Linux only."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return sorted(found)


def run_and_kill(
    arguments: Sequence[str], folder: Path, kills: int, seed: int, span_s: float, env: Mapping[str, str]
) -> tuple[int, int]:
    """Run a command, and kill one of its children at random moments; return its exit code and the number of kills.

    Args:
        arguments: of the launcher.
        folder: that of `command`.
        kills: the most kills; they begin when the first step is done, and end with the command.
        seed: of the moments and of the choice of the child.
        span_s: the longest time from one kill to the next, after new processes have been started.
        env: of the launcher.
    """
    moments = random.Random(seed)
    before: set[int] = set()
    killed = 0
    with (
        (folder / "output").open("wb") as output,
        launched(arguments, env, stdout=output, stderr=subprocess.STDOUT) as launcher,
    ):
        _wait_for(partial(_has_content, folder / "losses"), launcher)
        while killed < kills and launcher.poll() is None:
            _wait_for(partial(_has_other_children, launcher.pid, before), launcher)
            time.sleep(moments.uniform(0, span_s))
            victims = children(launcher.pid)
            before = set(victims)
            with suppress(ProcessLookupError, IndexError):  # they have ended
                os.kill(moments.choice(victims), signal.SIGKILL)
                killed += 1
        return launcher.wait(START_S), killed


def _has_other_children(parent: int, before: set[int]) -> bool:
    return bool(set(children(parent)) - before)


def _has_content(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _wait_for(condition: Callable[[], bool], launcher: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while not condition() and launcher.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def fail(rank: int, moment: object) -> None:
    """Kill this process, or let it hang, if its next failure is now; each failure happens once.

    Args:
        rank: of this process.
        moment: the number of its step since it was started, or AFTER_TRAINING.
    """
    failures, log = os.environ.get("FAILURES", "").split(), Path(sys.argv[4]).with_name("failures")
    done = log.read_text().split() if log.exists() else []
    failure = failures[len(done)] if len(done) < len(failures) else None
    if failure not in (f"{rank}:{moment}", f"{rank}:hang{moment}"):
        return
    log.write_text(" ".join([*done, failure]))
    if "hang" not in failure:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # so that torchrun need not wait 30 seconds before it kills
    time.sleep(START_S)


def prepare_rank() -> None:
    """Do what the variables LATE and EXCHANGE_LIMIT_S ask for."""
    import torch.distributed as dist

    if os.environ["RANK"] == os.environ.get("LATE") and os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
        time.sleep(0.5)
    if "EXCHANGE_LIMIT_S" in os.environ:
        limit = timedelta(seconds=float(os.environ["EXCHANGE_LIMIT_S"]))
        init = dist.init_process_group
        dist.init_process_group = lambda *arguments, **options: init(*arguments, **options | {"timeout": limit})


def main() -> None:
    """Train in one of the processes."""
    from torch import Tensor

    import convscope
    from convscope.backends.pytorch import group
    from convscope.integrations import torchrun as integration
    from convscope.training.callbacks import Callback, Trainer

    exchanges = 0.0

    class TimedGroup(group.Group):
        """Counts the seconds of its exchanges, and fails in the steps that $FAILURES names."""

        steps = 0

        def combine(self, weights: Sequence[Tensor], loss: Tensor, correct: int) -> tuple[float, int, int]:
            self.steps += 1
            fail(self.rank, self.steps)
            return super().combine(weights, loss, correct)

        def sum(self, values: Tensor) -> Tensor:
            nonlocal exchanges
            start = time.perf_counter()
            total = super().sum(values)
            exchanges += time.perf_counter() - start
            return total

        def broadcast(self, values: Sequence[float]) -> list[float]:
            nonlocal exchanges
            start = time.perf_counter()
            received = super().broadcast(values)
            exchanges += time.perf_counter() - start
            return received

    class WriteLosses(Callback):
        """Appends a line for every step to a file."""

        def __init__(self, file: TextIO) -> None:
            self.file, self.sum, self.seen = file, 0.0, 0

        def on_train_begin(self, trainer: Trainer) -> None:
            self.sum, self.seen = trainer.state.loss_sum, trainer.state.seen

        def on_train_batch_end(self, trainer: Trainer) -> None:
            state = trainer.state
            if state.batch == 1:
                self.sum, self.seen = 0.0, 0
            loss = (state.loss_sum - self.sum) / (state.seen - self.seen)
            self.file.write(f"{state.step} {loss!r} {state.elapsed} {exchanges}\n")
            self.file.flush()
            self.sum, self.seen = state.loss_sum, state.seen

    group.Group = TimedGroup  # type: ignore[misc]
    data, model, run, losses, *options = sys.argv[1:]
    given = {name: json.loads(value) for name, _, value in (option.partition("=") for option in options)}
    in_group = "RANK" in os.environ
    if in_group:
        prepare_rank()
    train = integration.train_model if in_group else convscope.train_model
    with Path(losses).open("a") as file:
        train(data, model, run=run, callbacks=[WriteLosses(file)], **given)
    if in_group:
        fail(int(os.environ["RANK"]), AFTER_TRAINING)


if __name__ == "__main__":
    main()
