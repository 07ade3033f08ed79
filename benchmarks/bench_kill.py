"""Nothing lost: trainings that are killed with SIGKILL and gone on with, against one that was never disturbed.

    bench_kill.py [--kills 200] [--inside 60] [--seed 1] [--into RESULTS.md]

A short training on digits in processes of its own (tests/killing.py does it). Some of the kills are placed in the
middle of a save: before or after a call that opens, writes, syncs, renames or removes a file; the others come at any
moment. The table goes into RESULTS.md. Exit code 5: weights differ, a checkpoint is damaged, a file is left, or more
than one interval is lost.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from peers import HERE
from speed_report import put, table, today

TESTS = HERE.parent / "tests"
sys.path.append(str(TESTS))

from killing import Kill  # noqa: E402


def main() -> int:
    """Kill, go on, and report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--inside", type=int, default=60, help="how many of them are placed in the middle of a save")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    undisturbed, kills = killed(options.kills, options.inside, options.seed)
    report(options.into, undisturbed, kills)
    return 0 if all(nothing_lost(kill, undisturbed) for kill in kills) else 5


def killed(kills: int, inside: int, seed: int) -> tuple[str, list[Kill]]:
    """SHA-256 of the undisturbed training's weights, and the others."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, TESTS / "killing.py", folder, "--kills", str(kills), "--inside", str(inside)]
        done = subprocess.run(
            [*words, "--seed", str(seed)], check=True, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    found = json.loads(done.stdout)
    return found["undisturbed"], [Kill(**kill) for kill in found["kills"]]


def nothing_lost(kill: Kill, undisturbed: str) -> bool:
    """Whether it ended as the undisturbed training, and cost no more than an interval."""
    sound = kill.sha256 == undisturbed and not kill.corrupt and not kill.temporary
    return sound and kill.within_an_interval


def report(file: Path, undisturbed: str, kills: list[Kill]) -> None:
    """The table, on stdout and in RESULTS.md."""
    heads = ("a checkpoint", "kills", "in a save", "same weights", "damaged", "left over", "most lost", "within")
    rows = []
    for interval in sorted({kill.interval for kill in kills}):
        some = [kill for kill in kills if kill.interval == interval]
        lost = max(kill.lost_seconds for kill in some)
        rows.append((
            f"every {1000 * interval:.0f} ms" if interval else "after every batch",
            len(some),
            sum(kill.inside for kill in some),
            sum(kill.sha256 == undisturbed for kill in some),
            sum(kill.corrupt for kill in some),
            sum(kill.temporary for kill in some),
            f"{1000 * lost:.0f} ms" if interval else f"{max(kill.lost_steps for kill in some)} batch",
            sum(kill.within_an_interval for kill in some),
        ))  # fmt: skip
    inside = sum(kill.inside for kill in kills)
    text = (
        f"## Nothing lost\n\n`bench_kill.py`, {today()}, torch {version('torch')}: {len(kills)} trainings on digits "
        f"killed with SIGKILL, {inside} of them in the middle of a save, and gone on with. Same weights: the SHA-256 "
        "is that of the training that was never disturbed. Lost: training between the last batch before the kill and "
        f"the one that it went on from. Within: no more than an interval and the batches at its ends.\n\n"
        f"{table(heads, rows)}"
    )
    put(file, "kill", text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
