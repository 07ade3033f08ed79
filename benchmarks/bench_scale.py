"""What 1 million, 1 billion and 100 billion images would take, computed from what is measured here.

    bench_scale.py [--names 4000000] [--into RESULTS.md]

Measures the speed of one core on photos, the sizes of inputs and answers, how fast the driver of `convscope predict
--ray` plans its parts and hands them out, and the memory that it needs. The planner is the product's own; its names are
made up. The tables go into RESULTS.md, and docs/scale.md explains them. Exit code 5: the memory for planning grows with
the number of names.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ray
from PIL import Image

from convscope.integrations.ray.plan import IMAGES_PER_PART, Part, plan_parts
from convscope.integrations.ray.scoring import TASKS_PER_CORE
from peers import HERE
from speed_report import put, table, today
from speed_rows import CONVSCOPE

SIZES = {"1 million": 10**6, "1 billion": 10**9, "100 billion": 10**11}
DAY = 86_400
IN_FLIGHT = (4, 256, 4096)  # tasks of the driver: two per core
TASKS, WARMUP_TASKS = 6_000, 200
MAX_GROWTH_MB = 20
NAMES_PER_LISTING = 1_000  # of S3's ListObjectsV2
PHOTOS = 2_527  # of trashnet


def main() -> int:
    """Measure, compute, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=4_000_000)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    constants = scoring() | planning(options.names) | handing_out()
    text = (
        f"## Millions and billions of images\n\n`bench_scale.py`, {today()}, {len(os.sched_getaffinity(0))} cores; "
        f"photos of trashnet, 256x192. Measured:\n\n{table(('', ''), described(constants))}\n\nComputed from that, if "
        f"all is to be done within a day ([how, and what breaks first](../docs/scale.md)):\n\n"
        f"{table(('', *SIZES), computed(constants))}"
    )
    put(options.into, "scale", text)
    print(text)
    return 0 if constants["growth"] < MAX_GROWTH_MB else 5


def scoring() -> dict[str, float]:
    """Photos per second and core with two networks, and bytes per photo and per answer."""
    photos = Path(os.environ["CONVSCOPE_DATA"], "trashnet", "trashnet.tar")
    with tarfile.open(photos) as archive:
        found = {"photo bytes": sum(member.size for member in archive if member.name.endswith(".jpg")) / PHOTOS}
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder, "one.png")
        Image.fromarray(np.zeros((384, 512, 3), np.uint8)).save(one)
        for name, init in (("own", "none"), ("backbone", "efficientnet-lite0")):
            run = str(Path(folder, name))
            call("train", str(photos), "--budget", "20s", "--init", init, "--run", run)
            one_seconds, seconds = (
                call("predict", run, str(source), "--threads", "1", "--out", f"{run}-{source.stem}.parquet")
                for source in (one, photos)
            )
            found[name] = PHOTOS / (seconds - one_seconds)
            found["answer bytes"] = Path(f"{run}-{photos.stem}.parquet").stat().st_size / PHOTOS
    return found


def call(*words: str) -> float:
    """Run a command of convscope; returns the seconds of its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([CONVSCOPE, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def planning(names: int) -> dict[str, float]:
    """Names per second that become parts, and the growth of the memory, in MB, after a quarter of them."""
    started, memory = time.perf_counter(), 0.0
    for part in plan_parts(made_up_names(names), lambda _: True):
        part.file  # noqa: B018  what the driver computes for every part
        if part.number == names // 4 // IMAGES_PER_PART:
            memory = peak_mb()
    seconds = time.perf_counter() - started
    growth = peak_mb() - memory
    files = {Part(number, ("",)).file for number in range(100_000)}
    size = sys.getsizeof(files) + sum(map(sys.getsizeof, files))
    return {"planned": names / seconds, "growth": growth, "file bytes": size / len(files)}


def made_up_names(count: int) -> Iterator[str]:
    """Paths of photos, without any files."""
    return (f"/data/photos/{i // 1000:08}/{i:012}.jpg" for i in range(count))


def peak_mb() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def handing_out() -> dict[str, float]:
    """Parts per second that one driver hands out, by the number of tasks in flight: tasks that do nothing."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    names = tuple(made_up_names(IMAGES_PER_PART))
    task = ray.remote(num_cpus=1)(first_name)
    try:
        hand_out(task, names, WARMUP_TASKS, 4)
        return {f"parts in flight {count}": hand_out(task, names, TASKS, count) for count in IN_FLIGHT}
    finally:
        ray.shutdown()


def hand_out(task: ray.remote_function.RemoteFunction, names: tuple[str, ...], tasks: int, in_flight: int) -> float:
    """Tasks per second in the driver's loop."""
    started, running = time.perf_counter(), set()
    for number in range(tasks):
        running.add(task.remote(Part(number, names)))
        while len(running) >= in_flight:
            running -= {wait(running)}
    while running:
        running -= {wait(running)}
    return tasks / (time.perf_counter() - started)


def wait(running: set[ray.ObjectRef]) -> ray.ObjectRef:
    """The next task that has ended, as the driver waits for it."""
    (done,), _ = ray.wait(list(running), num_returns=1)
    ray.get(done)
    return done


def first_name(part: Part) -> str:
    """What a task does here, instead of scoring."""
    return str(part.items[0])


def described(constants: dict[str, float]) -> list[tuple[str, str]]:
    """Rows of what was measured."""
    return [
        ("own network, 20 s of training: images/s per core", f"{constants['own']:,.0f}"),
        ("EfficientNet-Lite0: images/s per core", f"{constants['backbone']:,.0f}"),
        ("a photo; its answer in Parquet, bytes", f"{constants['photo bytes']:,.0f}; {constants['answer bytes']:,.0f}"),
        ("names that the driver plans per second", f"{constants['planned']:,.0f}"),
        ("growth of its memory from 1/4 of the names to all, MB", f"{constants['growth']:.1f}"),
        ("memory for the name of a part, bytes", f"{constants['file bytes']:,.0f}"),
        *(
            (f"parts per second, {count:,} tasks in flight", f"{constants[f'parts in flight {count}']:,.0f}")
            for count in IN_FLIGHT
        ),
    ]


def computed(constants: dict[str, float]) -> list[tuple[str, ...]]:
    """Rows of the model, a column for each of `SIZES`."""
    core_seconds = [("own network", 1 / constants["own"]), ("EfficientNet-Lite0", 1 / constants["backbone"])]
    model = {
        **{f"core-hours, {name}": (seconds / 3600, ",.0f") for name, seconds in core_seconds},
        **{f"cores, {name}": (seconds / DAY, ",.1f") for name, seconds in core_seconds},
        **{f"tasks in flight, {name}": (TASKS_PER_CORE * seconds / DAY, ",.0f") for name, seconds in core_seconds},
        "photos, TB": (constants["photo bytes"] / 1e12, ",.2f"),
        "network, Gbit/s": (8 * constants["photo bytes"] / DAY / 1e9, ",.3f"),
        "answers, GB": (constants["answer bytes"] / 1e9, ",.2f"),
        "parts per second": (1 / IMAGES_PER_PART / DAY, ",.2f"),
        "driver: hours of planning": (1 / constants["planned"] / 3600, ",.2f"),
        "driver: names of the parts, to resume, GB": (constants["file bytes"] / IMAGES_PER_PART / 1e9, ",.3f"),
        "listings of S3, one after another, thousands": (1 / NAMES_PER_LISTING / 1e3, ",.0f"),
    }
    return [(name, *(format(value * size, style) for size in SIZES.values())) for name, (value, style) in model.items()]


if __name__ == "__main__":
    sys.exit(main())
