"""Does `convscope train --budget` keep its word, and how accurate is what it makes of the time?

    bench_budget.py [--budgets 30 120 600] [--sets mnist flowers signs] [--seed 0] [--raw speed/budget.json]
                    [--into RESULTS.md]

Seconds of the whole process, from its start to its end, decoding included. What was measured before stays in the raw
file. Exit code 5: a budget is missed by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_photos import SETS, WITHIN, cores, timed, unpacked
from peers import HERE
from photos_report import interval
from speed_process import quiet
from speed_report import machine, put, table, today
from speed_rows import CONVSCOPE, clean

NAMED = ("mnist", "fashion-mnist", "cifar10")


@dataclass(frozen=True)
class Kept:
    """One training: what was given, what was taken, and what came of it."""

    data: str
    budget: float
    seconds: float
    accuracy: float
    n: int
    recipe: str
    model: str
    side: int
    epochs: int
    cores: int
    day: str


def main() -> int:
    """Measure, report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=int, nargs="*", default=[30, 120, 600])
    parser.add_argument("--sets", nargs="+", choices=(*NAMED, *SETS), default=["mnist", *SETS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wait", type=float, default=60, help="seconds, at most, for a quiet machine")
    parser.add_argument("--raw", type=Path, default=HERE / "speed" / "budget.json")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    raw: Path = options.raw
    known = {key: Kept(**one) for key, one in json.loads(raw.read_text()).items()} if raw.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets:
            data = str(unpacked(name, Path(folder))) if name in SETS else name
            for seconds in options.budgets:
                quiet(options.wait)
                one = trained(name, data, seconds, options.seed)
                known[f"{name} {seconds}"] = one
                raw.parent.mkdir(parents=True, exist_ok=True)
                raw.write_text(json.dumps({key: asdict(value) for key, value in known.items()}, indent=1))
                print(f"{name}, {seconds} s: {one.seconds:.1f} s, {interval(one.accuracy, one.n)}", file=sys.stderr)
    report(options.into, list(known.values()))
    return 0 if all(abs(one.seconds / one.budget - 1) <= WITHIN for one in known.values()) else 5


def trained(name: str, data: str, seconds: float, seed: int) -> Kept:
    """`convscope train DATA --budget SECONDS`, with a cache that is empty."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", data, "--budget", f"{seconds:g}s", "--seed", str(seed), "--run", f"{folder}/run", "--json"]
        environment = clean(dict(os.environ), cores()) | {"XDG_CACHE_HOME": f"{folder}/cache"}
        answer, taken = timed([CONVSCOPE, *words], environment)
    config, test = answer["config"], answer["test"]
    return Kept(
        name, seconds, taken, test["accuracy"], test["n"],
        config["recipe"]["name"], config["model"], config["input_shape"][0], len(answer["history"]), cores(), today(),
    )  # fmt: skip


def report(file: Path, everything: list[Kept]) -> None:
    """The table, into the file and onto stdout."""
    heads = ("data", "budget, s", "taken, s", "difference", "test accuracy", "recipe", "network", "epochs", "cores")
    rows = [
        (
            one.data,
            f"{one.budget:g}",
            f"{one.seconds:.1f}",
            f"{100 * (one.seconds / one.budget - 1):+.1f} %",
            interval(one.accuracy, one.n),
            one.recipe,
            f"{one.model}, {one.side}x{one.side}",
            one.epochs,
            one.cores,
        )
        for one in sorted(everything, key=lambda one: (one.data, one.budget))
    ]
    days = sorted({one.day for one in everything})
    text = (
        f"## Time that is given\n\n`bench_budget.py`, {' and '.join(days)}: `convscope train DATA --budget TIME`, from "
        f"prompt to exit, one training each.\n\n{table(heads, rows)}\n\n"
        f"The machine: {machine(cores())}."
    )
    put(file, "budget", text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
