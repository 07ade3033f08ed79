"""Training by torchrun: the losses of one process, on one machine and on two, after kills, and how fast.

    bench_torchrun.py [--part equal|nodes|kills|speed] [--model NAME] [--kills 20] [--epochs 8] [--span 8] [--seed 1]
        [--into FILE]

equal: 1, 2 and 4 processes on MNIST, losses of 106 steps. As a control, one process with two threads, whose sums are
rounded differently, too. nodes: two nodes in two network namespaces; needs Linux and root. kills: a process is killed
at random moments, 20 times. speed: time per step of 1 and 2 processes with a thread each. tests/helpers/torchrun.py
runs the trainings. Exit code 5: a loss deviates by over 1e-5, or 1e-3 with batch norm, an accuracy is outside the
interval of the single process, or a killed training does not end with the same losses.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from peers import HERE
from speed_report import put, table, today

sys.path.append(str(HERE.parent / "tests" / "helpers"))

from torchrun import TORCHRUN, command, largest_deviation, read_steps, run_and_kill, torchrun

from convscope import open_run

NORMED = (
    "conv 8 5, batchnorm, tanh, avgpool 2, conv 16 5, avgpool 2, batchnorm, gelu, flatten, dense 64, batchnorm, tanh"
)
# The largest deviation. With ReLU and max pool, whose decisions rounding can tip, it is that of the control, doubled.
MODELS: dict[str, float | None] = {"lenet5": 1e-5, NORMED: 1e-3, "small": None}
SMOOTH_MODELS = ("lenet5", NORMED)
SPEED_MODELS = ("lenet5", "small", "large", "residual")
EQUAL = {"epochs": 1, "batch_size": 512, "precision": "float32"}  # 106 steps
LONG = {"batch_size": 128, "precision": "float32", "checkpoint_interval": 1}  # 422 steps per epoch
LOCAL = {"GLOO_SOCKET_IFNAME": "lo"}
SUBNET, NAMESPACES, PORT = "10.177.0", ("convscope-a", "convscope-b"), 29477
WARM_UP_STEPS = 10
KILLED_MODELS = ("lenet5", "small")
KILLED_LIMIT = 1e-5  # for all networks: two processes add in the same order


def main() -> int:
    """Run the parts, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), action="append")
    parser.add_argument("--model", action="append", help="of the parts equal, kills and speed")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8, help="of the killed trainings")
    parser.add_argument("--span", type=float, default=8, help="the longest time from a start to the next kill, seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    failed = False
    for part in options.part or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            text, is_good = PARTS[part](Path(folder), options)
        put(options.into, f"torchrun-{part}", text)
        print(text)
        failed |= not is_good
    return 5 if failed else 0


def compare_processes(base: Path, options: argparse.Namespace) -> tuple[str, bool]:
    """1, 2 and 4 processes, and one with two threads."""
    rows, good = [], True
    for number, model in enumerate(options.model or MODELS):
        absolute = MODELS.get(model)
        alone = train_alone(base / f"{number}", model, 1, EQUAL)
        others = {"1 process, 2 threads": train_alone(base / f"{number}-threads", model, 2, EQUAL)}
        limit = absolute or 2 * largest_deviation(others["1 process, 2 threads"], alone)
        for processes in (2, 4):
            folder = new(base / f"{number}-{processes}")
            check(torchrun(processes, command("mnist", model, folder, threads=1, **EQUAL)), LOCAL)
            others[f"{processes} processes"] = folder
        for name, folder in others.items():
            row, is_good = compared(name, model, folder, alone, limit)
            rows.append(row)
            good &= is_good or "threads" in name
    return report("the losses of one process", COMPARED, rows), good


def compare_nodes(base: Path, _: argparse.Namespace) -> tuple[str, bool]:
    """Two nodes with a process each, in two network namespaces."""
    rows, good = [], True
    with two_namespaces():
        for number, model in enumerate(SMOOTH_MODELS):
            alone, folder = train_alone(base / f"{number}", model, 1, EQUAL), new(base / f"{number}-nodes")
            arguments = command("mnist", model, folder, threads=1, **EQUAL)
            check_all([node(rank, arguments) for rank in range(2)])
            row, is_good = compared("2 nodes", model, folder, alone, MODELS[model] or 0)
            rows.append(row)
            good &= is_good
    return report("two machines, simulated by network namespaces", COMPARED, rows), good


def compare_kills(base: Path, options: argparse.Namespace) -> tuple[str, bool]:
    """Processes killed at random moments, compared with an undisturbed training."""
    rows, good, long = [], True, {**LONG, "epochs": options.epochs}
    for model in options.model or KILLED_MODELS:
        whole, killed = new(base / f"{model}-whole"), new(base / f"{model}-killed")
        check(torchrun(2, command("mnist", model, whole, threads=1, **long)), LOCAL)
        arguments = torchrun(2, command("mnist", model, killed, threads=1, **long), restarts=2 * options.kills)
        code, kills = run_and_kill(arguments, killed, options.kills, options.seed, options.span, env=LOCAL)
        deviation = largest_deviation(killed, whole) if code == 0 else float("nan")
        resumed = (killed / "output").read_text(errors="replace").count("resuming after step")
        temporary = len(list((killed / "run").rglob("*.tmp")))
        verified = code == 0 and open_run(killed / "run").manifest.status == "complete"
        rows.append((model, kills, resumed, len(read_steps(killed)), f"{deviation:.1e}", temporary, verified))
        good &= verified and deviation <= KILLED_LIMIT and not temporary
    heads = (
        "model",
        "kills",
        "resumed from a checkpoint",
        "steps",
        "largest deviation",
        "files left over",
        "run verified",
    )
    return report("killed processes", heads, rows), good


def compare_speed(base: Path, options: argparse.Namespace) -> tuple[str, bool]:
    """Steps per second of one and of two processes with a thread each, and of one process with two threads."""
    rows = []
    for model in options.model or SPEED_MODELS:
        alone = train_alone(base / model, model, 1, EQUAL)
        threads = train_alone(base / f"{model}-threads", model, 2, EQUAL)
        shared = new(base / f"{model}-shared")
        check(torchrun(2, command("mnist", model, shared, threads=1, **EQUAL)), LOCAL)
        one, two, both = (seconds_per_step(folder) for folder in (alone, threads, shared))
        exchange = exchange_seconds(shared)
        rows.append((
            model, f"{open_run(alone / 'run').network.parameters:,}", f"{1000 * one:.1f}", f"{1000 * both:.1f}",
            f"{1000 * exchange:.1f}", efficiency(one, both), f"{1000 * two:.1f}", efficiency(one, two),
        ))  # fmt: skip
    heads = ("model", "weights", "1 process, ms per step", "2 processes", "of that, exchanges", "efficiency",
             "1 process, 2 threads", "efficiency")  # fmt: skip
    return report("the speed of two processes", heads, rows), True


COMPARED = (
    "training",
    "model",
    "steps",
    "largest deviation",
    "limit",
    "test accuracy",
    "of one process",
    "in its interval",
)
PARTS = {"equal": compare_processes, "nodes": compare_nodes, "kills": compare_kills, "speed": compare_speed}


def compared(name: str, model: str, folder: Path, alone: Path, limit: float) -> tuple[tuple[object, ...], bool]:
    """The row of a training, and whether it is good."""
    deviation, steps = largest_deviation(folder, alone), len(read_steps(folder))
    ours, theirs = open_run(folder / "run").evaluation, open_run(alone / "run").evaluation
    assert ours is not None and theirs is not None
    low, high = theirs.interval
    inside = low <= ours.accuracy <= high
    row = (name, model, steps, f"{deviation:.1e}", f"{limit:.0e}", f"{100 * ours.accuracy:.2f} %",
           f"{100 * theirs.accuracy:.2f} %", inside)  # fmt: skip
    return row, inside and deviation <= limit


def efficiency(one: float, two: float) -> str:
    """Of twice the cores, given the time per step before and after."""
    return f"{100 * one / two / 2:.0f} %"


def seconds_per_step(folder: Path) -> float:
    """The median duration of a step, without the first ones."""
    steps = read_steps(folder)[WARM_UP_STEPS:]
    return statistics.median(step.seconds - before.seconds for before, step in pairwise(steps))


def exchange_seconds(folder: Path) -> float:
    """The median time that a step spends on exchanges."""
    steps = read_steps(folder)[WARM_UP_STEPS:]
    return statistics.median(step.exchange_seconds - before.exchange_seconds for before, step in pairwise(steps))


def train_alone(folder: Path, model: str, threads: int, options: Mapping[str, object]) -> Path:
    """Train in one process; return the folder."""
    check([sys.executable, *command("mnist", model, new(folder), threads=threads, init="none", **options)], {})
    return folder


def new(folder: Path) -> Path:
    """Create a folder."""
    folder.mkdir()
    return folder


def check(arguments: Sequence[str], env: Mapping[str, str]) -> None:
    """Run a command that must succeed."""
    subprocess.run(arguments, check=True, env={**os.environ, **env}, stdout=subprocess.DEVNULL)


def check_all(commands: Sequence[Sequence[str]]) -> None:
    """Run commands at the same time that must succeed."""
    started = [subprocess.Popen(arguments, stdout=subprocess.DEVNULL) for arguments in commands]
    codes = [process.wait() for process in started]
    if any(codes):
        raise SystemExit("a node failed, see above: nothing was measured")


def node(rank: int, arguments: Sequence[str]) -> list[str]:
    """The torchrun of one of two nodes, in its network namespace."""
    address = f"{SUBNET}.{rank + 1}"
    rendezvous = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={SUBNET}.1:{PORT}"]
    enter = ["ip", "netns", "exec", NAMESPACES[rank], "env", f"GLOO_SOCKET_IFNAME=v{rank}"]
    is_host = f"--rdzv-conf=is_host={rank == 0}"
    return [*enter, *TORCHRUN, *rendezvous, is_host, f"--local-addr={address}", "--rdzv-id=convscope", *arguments]


@contextmanager
def two_namespaces() -> Iterator[None]:
    """Two network namespaces, connected by a pair of interfaces."""

    def ip(words: str) -> None:
        subprocess.run(["ip", *words.split()], check=True)

    for name in NAMESPACES:
        ip(f"netns add {name}")
    try:
        ip("link add v0 type veth peer name v1")
        for rank, name in enumerate(NAMESPACES):
            ip(f"link set v{rank} netns {name}")
            ip(f"-n {name} addr add {SUBNET}.{rank + 1}/24 dev v{rank}")
            ip(f"-n {name} link set v{rank} up")
            ip(f"-n {name} link set lo up")
        yield
    finally:
        for name in NAMESPACES:
            ip(f"netns del {name}")


def report(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The section of a part."""
    return f"## Training by torchrun: {title}\n\n`bench_torchrun.py`, {today()}.\n\n{table(heads, rows)}"


if __name__ == "__main__":
    sys.exit(main())
