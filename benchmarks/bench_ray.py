"""Scoring on a Ray cluster: each image exactly once, the same bits, flat memory, and the speed of all cores.

    bench_ray.py [--model NAME ...] [--files 100000] [--rounds 5] [--into RESULTS.md]

Classifies PNGs of MNIST's test digits: in one process on one core, in as many such processes as there are cores, and on
a cluster of three nodes, one core each, that are simulated on this machine. Then again on the cluster, while a node is
killed after a third of the images and another joins after two thirds. Speed and memory are also measured with a tenth
of the files: the difference leaves out the start. Every round measures all three, one after another, because the speed
of a shared machine changes; of the ratios, the median counts. The table goes into RESULTS.md, with a column for each
model. Exit code 5: an image is missing or twice, an answer differs from that of the one process, the driver's memory
grows by 300 MB or more, or the cluster is slower than 0.85 times the cores of this machine times the one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pyarrow import parquet

from bench_predict_kill import FILES_PER_FOLDER, write
from peers import HERE
from speed_report import median_range, put, table, today
from speed_rows import CONVSCOPE

MIN_SPEED, MAX_GROWTH_MB = 0.85, 300
NODES, MAX_CORES = 3, 2  # nodes of one core; more than the cores of a small machine would tell nothing
MODELS = ("tiny", "article")
ONE, MANY = "one.parquet", "many"


class Run(NamedTuple):
    """What commands took that ran at the same time: seconds, and the largest memory of one in MB."""

    seconds: float
    memory: float


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    models, measured = options.model or MODELS, []
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        write(Path(), options.files)
        for model in models:
            train = [CONVSCOPE, "train", "mnist", "--model", model, "--recipe", "fast", "--epochs", "1", "--run", model]
            subprocess.run(train, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            measured.append(Bench(model, options.files, options.rounds).measure())
    report(options.into, models, [facts for facts, _ in measured])
    return 0 if all(is_good for _, is_good in measured) else 5


@dataclass(frozen=True)
class Bench:
    """A model, the number of images, and how often they are classified."""

    model: str
    files: int
    rounds: int

    def measure(self) -> tuple[dict[str, str], bool]:
        """Every number of a column of the table, and whether all are as they shall be."""
        from ray.cluster_utils import Cluster

        cores = range(min(MAX_CORES, len(os.sched_getaffinity(0))))
        cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(NODES - 1):
            cluster.add_node(num_cpus=1)
        on_ray = ("--ray", cluster.address)
        kinds = ([pinned(0, ONE)], [pinned(core, f"each-{core}.parquet") for core in cores], [Command(MANY, on_ray)])
        try:
            rounds = [[self.timed(commands) for commands in kinds] for _ in range(self.rounds)]
            disturbed = self.predict(self.files, [Command("disturbed", on_ray)], disturbance(cluster, self.files))
        finally:
            cluster.shutdown()
        same = [parquet.read_table(place).equals(parquet.read_table(ONE)) for place in (MANY, "disturbed")]
        images = parquet.read_table("disturbed", columns=["image"]).column("image").to_pylist()
        nodes = json.loads(Path("disturbed/_SUCCESS").read_text())["nodes"]
        few, many = (max(one[-1].memory[i] for one in rounds) for i in range(2))
        ratios = [on_cluster.speed / (len(cores) * one.speed) for one, _, on_cluster in rounds]
        facts = {
            "files; rounds": f"{self.files:,}; {self.rounds}",
            "rows, a node killed and another joining": f"{len(images):,}",
            "images missing": f"{self.files - len(set(images)):,}",
            "images twice": f"{len(images) - len(set(images)):,}",
            "nodes that scored them": f"{len(nodes)}",
            "tables equal to one process's, to the bit": f"{sum(same)} of {len(same)}",
            "one process on one core, images/s": median_range((one.speed for one, _, _ in rounds), 0),
            f"cluster of {NODES} nodes on {len(cores)} cores, images/s": median_range(
                (one[-1].speed for one in rounds), 0
            ),
            "of cores times one process": median_range(ratios),
            f"{len(cores)} processes at once, of cores times one": median_range(
                each.speed / one.speed for one, each, _ in rounds
            ),
            "disturbed, s": f"{disturbed.seconds:.0f}",
            f"driver's memory with {self.some:,} and {self.files:,} images, MB": f"{few:.0f} and {many:.0f}",
        }
        Path("disturbed").rename(f"disturbed-{self.model}")  # so that the next model starts from nothing
        is_once = len(images) == len(set(images)) == self.files
        return facts, is_once and all(same) and many - few < MAX_GROWTH_MB and median(ratios) >= MIN_SPEED

    @property
    def some(self) -> int:
        """A tenth of the files."""
        return self.files // 10

    def timed(self, commands: Sequence[Command]) -> Timed:
        """Commands at the same time, with some of the files and with all; they replace the answers that are there."""
        few, many = (self.predict(files, [one.again() for one in commands]) for files in (self.some, self.files))
        speed = (self.files - self.some) / (many.seconds - few.seconds)
        return Timed(speed, (few.memory, many.memory))

    def predict(self, files: int, commands: Sequence[Command], meanwhile: Callable[[], Any] = lambda: None) -> Run:
        """Classify the first files by each of the commands, which start at the same time.

        Args:
            files: How many.
            commands: What differs.
            meanwhile: Called again and again until all have ended.
        """
        folders = [f"images/{i}" for i in range(-(-files // FILES_PER_FOLDER))]
        started = time.monotonic()
        running = {subprocess.Popen(one.line(self.model, folders), stdout=subprocess.DEVNULL).pid for one in commands}
        memory = 0
        while running:
            for process in tuple(running):
                done, status, usage = os.wait4(process, os.WNOHANG)
                if status:
                    raise SystemExit("convscope predict failed")
                if done:
                    running.remove(process)
                    memory = max(memory, usage.ru_maxrss)
            meanwhile()
            time.sleep(0.01)
        return Run(time.monotonic() - started, memory / 1024)


class Timed(NamedTuple):
    """Images per second of one of the commands, and the largest memory with some of the files and with all, in MB."""

    speed: float
    memory: tuple[float, float]


class Command(NamedTuple):
    """A call of `convscope predict`: where the answers go, its options, and what comes before it."""

    out: str
    options: tuple[str, ...]
    before: tuple[str, ...] = ()

    def again(self) -> Command:
        """The same; it replaces the answers that are there."""
        return self._replace(options=(*self.options, "--force"))

    def line(self, model: str, folders: Sequence[str]) -> list[str]:
        """The command line."""
        return [*self.before, CONVSCOPE, "predict", model, *folders, "--out", self.out, *self.options]


def pinned(core: int, out: str) -> Command:
    """One process on one core."""
    return Command(out, ("--threads", "1"), ("taskset", "-c", str(core)))


def disturbance(cluster: Any, files: int) -> Callable[[], None]:
    """A function that kills a node after a third of the images, and adds one after two thirds."""
    steps = [
        (files / 3, lambda: cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)),
        (files * 2 / 3, lambda: cluster.add_node(num_cpus=1)),
    ]

    def disturb() -> None:
        if steps and len(list(Path("disturbed").glob("part-*"))) * 1024 >= steps[0][0]:
            steps.pop(0)[1]()

    return disturb


def report(file: Path, models: Sequence[str], columns: Sequence[dict[str, str]]) -> None:
    """Write the table to stdout and into RESULTS.md."""
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    text = (
        f"## Scoring on a cluster\n\n`bench_ray.py`, {today()}, PNGs of 28x28, {len(os.sched_getaffinity(0))} cores: "
        f"`convscope predict --ray`.\n\n{table(('model', *models), rows)}"
    )
    put(file, "ray", text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
