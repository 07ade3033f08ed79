"""Does `convscope train --budget` keep its time limit, and how accurate are the models it trains in that time?

    bench_budget.py [--budgets 30 120 600] [--sets mnist flowers signs] [--seed 0] [--raw speed/budget.json]
                    [--into RESULTS.md]

Seconds are those of the whole process, decoding included. Earlier measurements stay in the raw file. Exit code 5: a
budget is missed by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_own_images import BUDGET_TOLERANCE, SETS, cores, run_timed, unpack
from own_images_report import interval
from peers import HERE
from speed_process import quiet
from speed_report import machine, put, table, today
from speed_rows import CONVSCOPE, clean

NAMED_SETS = ("mnist", "fashion-mnist", "cifar10")


@dataclass(frozen=True)
class BudgetResult:
    """One training within a budget: seconds given and taken, and what they bought. image_size: in pixels."""

    data: str
    budget: float
    seconds: float
    accuracy: float
    n: int
    recipe: str
    model: str
    image_size: int
    epochs: int
    cores: int
    day: str


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=int, nargs="*", default=[30, 120, 600])
    parser.add_argument("--sets", nargs="+", choices=(*NAMED_SETS, *SETS), default=["mnist", *SETS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wait", type=float, default=60, help="seconds, at most, for a quiet machine")
    parser.add_argument("--raw", type=Path, default=HERE / "speed" / "budget.json")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    raw: Path = options.raw
    results = {key: BudgetResult(**one) for key, one in json.loads(raw.read_text()).items()} if raw.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets:
            data = str(unpack(name, Path(folder))) if name in SETS else name
            for seconds in options.budgets:
                quiet(options.wait)
                one = train(name, data, seconds, options.seed)
                results[f"{name} {seconds}"] = one
                raw.parent.mkdir(parents=True, exist_ok=True)
                raw.write_text(json.dumps({key: asdict(value) for key, value in results.items()}, indent=1))
                print(f"{name}, {seconds} s: {one.seconds:.1f} s, {interval(one.accuracy, one.n)}", file=sys.stderr)
    report(options.into, list(results.values()))
    return 0 if all(abs(one.seconds / one.budget - 1) <= BUDGET_TOLERANCE for one in results.values()) else 5


def train(name: str, data: str, seconds: float, seed: int) -> BudgetResult:
    """Run `convscope train DATA --budget SECONDS` with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "train",
            data,
            "--budget",
            f"{seconds:g}s",
            "--seed",
            str(seed),
            "--run",
            f"{folder}/run",
            "--json",
        ]
        environment = clean(dict(os.environ), cores()) | {"XDG_CACHE_HOME": f"{folder}/cache"}
        answer, taken = run_timed([CONVSCOPE, *arguments], environment)
    config, test = answer["config"], answer["evaluation"]
    return BudgetResult(
        data=name,
        budget=seconds,
        seconds=taken,
        accuracy=test["accuracy"],
        n=test["n"],
        recipe=config["recipe"]["name"],
        model=config["model"],
        image_size=config["input_shape"][0],
        epochs=len(answer["history"]),
        cores=cores(),
        day=today(),
    )


def report(file: Path, results: list[BudgetResult]) -> None:
    """Write the table into the file and to stdout."""
    heads = ("data", "budget, s", "taken, s", "difference", "test accuracy", "recipe", "network", "epochs", "cores")
    rows = [
        (
            one.data,
            f"{one.budget:g}",
            f"{one.seconds:.1f}",
            f"{100 * (one.seconds / one.budget - 1):+.1f} %",
            interval(one.accuracy, one.n),
            one.recipe,
            f"{one.model}, {one.image_size}x{one.image_size}",
            one.epochs,
            one.cores,
        )
        for one in sorted(results, key=lambda one: (one.data, one.budget))
    ]
    days = sorted({one.day for one in results})
    text = (
        f"## Training within a time budget\n\n`bench_budget.py`, {' and '.join(days)}: `convscope train DATA --budget "
        f"TIME`, from prompt to exit, one training each.\n\n{table(heads, rows)}\n\nMachine: {machine(cores())}."
    )
    put(file, "budget", text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
