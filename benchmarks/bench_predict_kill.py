"""Each image exactly once: `convscope predict --out`, killed with SIGKILL again and again, and resumed.

    bench_predict_kill.py [--files 100000] [--kills 20] [--seed 1] [--into RESULTS.md]

Classifies PNGs of MNIST's test digits in folders of 1,000, with a small model. The process is killed when a random
number of further answers is on the disk, so that all kills together are spread over the work. After every other kill
the last row is cut, as by a kill in the middle of it. The table goes into RESULTS.md. Exit code 5: an image is missing
or twice, or an answer differs from that of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from mnist import load
from peers import HERE
from speed_report import put, table, today
from speed_rows import CONVSCOPE

FILES_PER_FOLDER = 1_000


def main() -> int:
    """Kill, resume, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = [CONVSCOPE, "train", "mnist", "--model", "tiny", "--recipe", "fast", "--epochs", "1"]
        subprocess.run(
            [*train, "--run", folder / "run"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        images = write(folder, options.files)
        whole, seconds = uninterrupted(folder)
        killed_seconds = kill_and_resume(folder, options)
        found = read(folder / "killed.csv")
    lines = [line["image"] for line in found]
    facts = {
        "files": len(images),
        "kills": options.kills,
        "of these in the middle of a row": options.kills // 2,
        "rows": len(lines),
        "images missing": len(set(images) - set(lines)),
        "images twice": len(lines) - len(set(lines)),
        "rows that differ": sum(a != b for a, b in zip(found, whole, strict=False)),
        "uninterrupted, s": f"{seconds:.0f}",
        "with the kills, s": f"{killed_seconds:.0f}",
    }
    report(options.into, facts)
    return 0 if lines == images and found == whole else 5


def write(folder: Path, count: int) -> list[str]:
    """Write test digits as PNGs, again and again; their names in natural order."""
    digits, _ = load("t10k")
    names = [f"images/{i // FILES_PER_FOLDER}/{i % FILES_PER_FOLDER}.png" for i in range(count)]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[i % len(digits)].reshape(28, 28)).save(folder / name)
    return names


def uninterrupted(folder: Path) -> tuple[list[dict[str, str]], float]:
    """The rows of an uninterrupted run, and its seconds."""
    started = time.monotonic()
    if start(folder, "whole.csv").wait():
        raise SystemExit("convscope predict failed")
    return read(folder / "whole.csv"), time.monotonic() - started


def kill_and_resume(folder: Path, options: argparse.Namespace) -> float:
    """Kill the command again and again, then let it end; the seconds of all processes."""
    draw, done = random.Random(options.seed), 0
    part, started = folder / "killed.csv.part", time.monotonic()
    for kill in range(options.kills):
        goal = done + draw.uniform(0.1, 1.9) * (options.files - done) / (options.kills + 1 - kill)
        process = start(folder, "killed.csv")
        while process.poll() is None and (not part.exists() or part.stat().st_size < goal * bytes_per_row(part)):
            time.sleep(0.001)
        if process.poll() is not None:
            raise SystemExit("convscope predict ended before it was killed: choose more files")
        process.send_signal(signal.SIGKILL)
        process.wait()
        if kill % 2:
            os.truncate(part, part.stat().st_size - draw.randint(1, 50))
        done = part.read_bytes().count(b"\n") - 1
    if start(folder, "killed.csv").wait():
        raise SystemExit("convscope predict failed")
    return time.monotonic() - started


def bytes_per_row(part: Path) -> float:
    """About how long a row of the partial file is."""
    with part.open("rb") as file:
        head = file.read(100_000)
    return len(head) / max(1, head.count(b"\n"))


def start(folder: Path, out: str) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [CONVSCOPE, "predict", "run", "images", "--out", out]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def report(file: Path, facts: dict[str, object]) -> None:
    """Write the table to stdout and into RESULTS.md."""
    rows = [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in facts.items()]
    text = (
        f"## Predictions killed and resumed\n\n`bench_predict_kill.py`, {today()}, PNGs of 28x28, the preset tiny, "
        f"{len(os.sched_getaffinity(0))} cores: `convscope predict --out answers.csv` was killed with SIGKILL and run "
        f"again.\n\n{table(('', 'number'), rows)}"
    )
    put(file, "predict-kill", text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
