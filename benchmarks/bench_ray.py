"""Scoring on a Ray cluster: each image exactly once, the same bits, flat memory, and the speed of all cores.

    bench_ray.py [--files 100000] [--rounds 3] [--into RESULTS.md]

Classifies PNGs of MNIST's test digits with a small model: in one process on one core, and on a cluster of three nodes,
one core each, that are simulated on this machine. Then again on the cluster, while a node is killed after a third of
the images and another joins after two thirds. Speed and memory are also measured with a tenth of the files: the
difference leaves out the start. Of the rounds, the fastest counts: other programs only slow them down. The table goes
into RESULTS.md. Exit code 5: an image is missing or twice, an answer differs from that of the one process, the
driver's memory grows by 300 MB or more, or the cluster is slower than 0.85 times the cores of this machine times the
speed of the one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import parquet

from bench_predict_kill import FILES_PER_FOLDER, write
from peers import HERE
from speed_report import put, table, today
from speed_rows import CONVSCOPE

MIN_SPEED, MAX_GROWTH_MB = 0.85, 300
NODES, MAX_CORES = 3, 2  # nodes of one core; more than the cores of a small machine would tell nothing


class Run(NamedTuple):
    """What a command took: seconds, and its largest memory in MB."""

    seconds: float
    memory: float


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        train = [CONVSCOPE, "train", "mnist", "--model", "tiny", "--recipe", "fast", "--epochs", "1", "--run", "run"]
        subprocess.run(train, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        write(Path(), options.files)
        facts, is_good = measure(options.files, options.rounds)
    report(options.into, facts)
    return 0 if is_good else 5


def measure(files: int, rounds: int) -> tuple[dict[str, str], bool]:
    """Every number of the table, and whether all are as they shall be."""
    from ray.cluster_utils import Cluster

    some, cores = files // 10, min(MAX_CORES, len(os.sched_getaffinity(0)))
    one = [best(rounds, count, f"one-{count}.parquet", "--threads", "1", core=0) for count in (some, files)]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=1)
    try:
        many = [best(rounds, count, f"many-{count}", "--ray", cluster.address) for count in (some, files)]
        disturbed = predict(files, "disturbed", "--ray", cluster.address, meanwhile=disturbance(cluster, files))
    finally:
        cluster.shutdown()
    expected = parquet.read_table(f"one-{files}.parquet")
    same = [parquet.read_table(place).equals(expected) for place in (f"many-{files}", "disturbed")]
    images = parquet.read_table("disturbed", columns=["image"]).column("image").to_pylist()
    speeds = [(files - some) / (runs[1].seconds - runs[0].seconds) for runs in (one, many)]
    growth, ratio = many[1].memory - many[0].memory, speeds[1] / (cores * speeds[0])
    nodes = json.loads(Path("disturbed/_SUCCESS").read_text())["nodes"]
    facts = {
        "files; rounds": f"{files:,}; {rounds}",
        "rows, a node killed and another joining": f"{len(images):,}",
        "images missing": f"{files - len(set(images)):,}",
        "images twice": f"{len(images) - len(set(images)):,}",
        "nodes that scored them": f"{len(nodes)}",
        "tables equal to one process's, to the bit": f"{sum(same)} of {len(same)}",
        "one process on one core, images/s": f"{speeds[0]:,.0f}",
        f"cluster of {NODES} nodes on {cores} cores, images/s": f"{speeds[1]:,.0f}",
        "of cores times one process": f"{ratio:.2f}",
        "disturbed, s; undisturbed, s": f"{disturbed.seconds:.0f}; {many[1].seconds:.0f}",
        f"driver's memory with {some:,} and {files:,} images, MB": f"{many[0].memory:.0f} and {many[1].memory:.0f}",
    }
    is_once = len(images) == len(set(images)) == files
    return facts, is_once and all(same) and growth < MAX_GROWTH_MB and ratio >= MIN_SPEED


def best(rounds: int, files: int, out: str, *options: str, core: int | None = None) -> Run:
    """`predict` several times: the shortest time, and the largest memory."""
    runs = [predict(files, out, "--force", *options, core=core) for _ in range(rounds)]
    return Run(min(run.seconds for run in runs), max(run.memory for run in runs))


def predict(
    files: int, out: str, *options: str, core: int | None = None, meanwhile: Callable[[], Any] = lambda: None
) -> Run:
    """Classify the first files.

    Args:
        files: How many.
        out: Where the answers go.
        options: Of the command.
        core: The only one to use; None to use all.
        meanwhile: Called again and again until the command ends.
    """
    pin = ["taskset", "-c", str(core)] if core is not None else []
    folders = [f"images/{i}" for i in range(-(-files // FILES_PER_FOLDER))]
    started = time.monotonic()
    process = subprocess.Popen(
        [*pin, CONVSCOPE, "predict", "run", *folders, "--out", out, *options], stdout=subprocess.DEVNULL
    )
    while True:
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            break
        meanwhile()
        time.sleep(0.01)
    if status:
        raise SystemExit(f"convscope predict {' '.join(options)} failed")
    return Run(time.monotonic() - started, usage.ru_maxrss / 1024)


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


def report(file: Path, facts: dict[str, str]) -> None:
    """Write the table to stdout and into RESULTS.md."""
    text = (
        f"## Scoring on a cluster\n\n`bench_ray.py`, {today()}, PNGs of 28x28, the preset tiny, "
        f"{len(os.sched_getaffinity(0))} cores: `convscope predict --ray`.\n\n{table(('', ''), list(facts.items()))}"
    )
    put(file, "ray", text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
