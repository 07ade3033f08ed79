"""Nothing is lost: trainings killed with SIGKILL and resumed, compared with an uninterrupted one.

    bench_kill.py [--kills 200] [--in-saves 60] [--seed 1] [--into RESULTS.md]

tests/helpers/killing.py runs short trainings on digits in processes of their own. Some are killed while they write a
checkpoint: before or after a call that opens, writes, syncs, renames or removes a file. The others are killed at a
random moment. The table goes into RESULTS.md. Exit code 5: weights differ, a checkpoint is damaged, a temporary file is
left, or more than one checkpoint interval is lost.
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

HELPERS = HERE.parent / "tests" / "helpers"
sys.path.append(str(HELPERS))

from killing import Kill  # noqa: E402


def main() -> int:
    """Kill, resume, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--in-saves", type=int, default=60, help="how many of them while they write a checkpoint")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    uninterrupted, kills = run_kills(options.kills, options.in_saves, options.seed)
    report(options.into, uninterrupted, kills)
    return 0 if all(is_nothing_lost(kill, uninterrupted) for kill in kills) else 5


def run_kills(kills: int, in_saves: int, seed: int) -> tuple[str, list[Kill]]:
    """Return the SHA-256 of the uninterrupted training's weights, and the killed trainings."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, HELPERS / "killing.py", folder, "--kills", str(kills), "--in-saves", str(in_saves)]
        done = subprocess.run(
            [*command, "--seed", str(seed)], check=True, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    answer = json.loads(done.stdout)
    return answer["uninterrupted"], [Kill(**kill) for kill in answer["kills"]]


def is_nothing_lost(kill: Kill, uninterrupted: str) -> bool:
    """Return whether it ended with the uninterrupted training's weights, and lost at most one interval."""
    intact = kill.sha256 == uninterrupted and not kill.corrupt and not kill.temporary
    return intact and kill.within_an_interval


def report(file: Path, uninterrupted: str, kills: list[Kill]) -> None:
    """Write the table to stdout and into RESULTS.md."""
    heads = (
        "checkpoint", "kills", "during a save", "same weights", "damaged checkpoints", "files left over", "most lost",
        "within an interval",
    )  # fmt: skip
    rows = []
    for interval in sorted({kill.interval for kill in kills}):
        some = [kill for kill in kills if kill.interval == interval]
        lost = max(kill.lost_seconds for kill in some)
        rows.append((
            f"every {1000 * interval:.0f} ms" if interval else "after every batch",
            len(some),
            sum(kill.in_save for kill in some),
            sum(kill.sha256 == uninterrupted for kill in some),
            sum(kill.corrupt for kill in some),
            sum(kill.temporary for kill in some),
            f"{1000 * lost:.0f} ms" if interval else f"{max(kill.lost_steps for kill in some)} batch",
            sum(kill.within_an_interval for kill in some),
        ))  # fmt: skip
    in_saves = sum(kill.in_save for kill in kills)
    text = (
        f"## Killed and resumed\n\n`bench_kill.py`, {today()}, torch {version('torch')}: {len(kills)} trainings on "
        f"digits were killed with SIGKILL, {in_saves} of them during a save, and resumed. Same weights: the SHA-256 "
        "equals that of the uninterrupted training. Lost: training between the last batch before the kill and the "
        "batch it resumed after. Within an interval: at most one checkpoint interval plus the batches at its ends.\n\n"
        f"{table(heads, rows)}"
    )
    put(file, "kill", text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
